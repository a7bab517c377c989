"""Edit runs: the folder of a trained editor, from which it is measured, and edits INRs and whole sets.

Shape letters: N INRs, O outputs, H height, W width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.device import choose_device
from inr_factory.inr.metrics import psnr_of_mse
from inr_factory.inr.stable_hash import fingerprint
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.derived_dataset import Columns, derive_dataset
from inr_factory.learning.models.checkpoint import load_editor
from inr_factory.learning.models.editor import Editor
from inr_factory.learning.models.normalizer import check_spec
from inr_factory.learning.training.edit_targets import FilterTargets, SetTargets
from inr_factory.learning.training.editing import EditReport, Targets, measure, squared_errors
from inr_factory.learning.training.image_filters import ImageFilter, parse_filter
from inr_factory.learning.training.run_data import evaluation_loader, has_split
from inr_factory.learning.training.trained_run import TrainedRun, open_run
from inr_factory.storage.fetch_dataset import dataset_location, fetch_dataset
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import Manifest, ShardEntry
from inr_factory.storage.manifest_file import load_manifest

PIECE = 512


@dataclass(frozen=True)
class EditExamples:
    """What K INRs show before the edit, what it has to be, and after, (K, H, W, O) each; and their labels (K,)."""

    before: Tensor
    wanted: Tensor
    after: Tensor
    labels: Tensor


class EditRun:
    """A trained editor on disk: what `edit` returns, and `EditRun(folder)` opens.

    Args:
        folder: The run's folder, or a checkpoint in it.

    Attributes:
        folder: The run's folder.

    Raises:
        UsageError: There is no run in the folder, or one of another kind.
    """

    def __init__(self, folder: str | Path) -> None:
        self._run: TrainedRun = open_run(folder)
        self.folder = self._run.folder
        self._editor: Editor = load_editor(self._run.checkpoint)

    def __repr__(self) -> str:
        return f"EditRun({str(self.folder)!r})"

    @property
    def history(self) -> tuple[Mapping[str, float], ...]:
        """The record of every epoch, as metrics.jsonl has them."""
        return self._run.history

    @property
    def best(self) -> Mapping[str, float]:
        """The record of the best epoch, that of best.pt."""
        return self._run.best

    @cached_property
    def filter(self) -> ImageFilter | None:
        """The filter that was learned; None where targets are the INRs of another set."""
        text = self._run.meta.get("filter")
        return None if text is None else parse_filter(text)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels on which edits are compared."""
        try:
            height, width = map(int, self._run.meta["size"])
        except (KeyError, TypeError, ValueError):
            raise IntegrityError(
                f"{self.folder} does not record the size of its images; the same edit command writes it again"
            ) from None
        return height, width

    def evaluate(
        self, dataset: str | Location | None = None, split: str | None = None, device: str = "auto"
    ) -> EditReport:
        """Measure the edits of the first view of each object.

        Args:
            dataset: Path or URL of a data set of the same INRs; by default the one that was trained on.
            split: "train", "val" or "test"; by default test, or val where there is no test.
            device: "auto", "cpu", "cuda" or "cuda:N".

        Returns:
            The errors of the edits, and those of leaving the INRs as they are.

        Raises:
            UsageError: The INRs have another spec, the split is empty, or the run's target lacks objects of it.
        """
        data = self._open(dataset, split)
        editor = self._editor.to(choose_device(device))
        return measure(editor, evaluation_loader(data, device), self._targets(data), data.split)

    def apply(
        self,
        inrs: INRBatch | str | Location,
        out: str | Path | None = None,
        device: str = "auto",
        on_shard: Callable[[ShardEntry], None] | None = None,
    ) -> INRBatch | Manifest:
        """Edit INRs, or all INRs of a data set.

        Args:
            inrs: INRs of the spec that was trained on, or path or URL of a data set of them.
            out: For a data set, the folder of the edited set: the same objects, splits and views. An interrupted one
                is completed.
            device: "auto", "cpu", "cuda" or "cuda:N".
            on_shard: Called with each shard that was written.

        Returns:
            New INRs, or the manifest of the edited set. There, psnr and loss compare what the INRs show with what the
                edit has to show; they are NaN where the run's target lacks the object.

        Raises:
            UsageError: The INRs have another spec, or `out` is missing or holds something else.
            IntegrityError: A shard is not as recorded.
        """
        editor = self._editor.to(choose_device(device))
        if isinstance(inrs, INRBatch):
            if out is not None:
                raise UsageError("apply returns edited INRs, which `save` writes; out is for data sets")
            return self._edited(inrs.to(editor.device)).to(inrs.device)
        if out is None:
            raise UsageError("apply needs the folder of the edited set, as out='inrs/edited'")
        root = fetch_dataset(inrs)
        manifest = load_manifest(root)
        state = [part.cpu().numpy() for _, part in sorted(editor.state_dict().items())]
        digest = fingerprint(f"{manifest.fingerprint} edit", *state)
        how = f"edit:{self.filter or self._run.meta.get('target', {}).get('name')},model={editor.encoder.name},run={digest}"

        def change(before: INRBatch, columns: Columns, entry: ShardEntry) -> tuple[INRBatch, Columns]:
            check_spec(editor.spec, before, "this editor was made")
            after = self._edited(before.to(editor.device)).to("cpu")
            kept = {name: column for name, column in columns.items() if name != "explained"}
            return after, kept | self._quality(before, after, columns, entry)

        return derive_dataset(root, out, how, digest, change, on_shard)

    def examples(self, count: int = 10, split: str | None = None) -> EditExamples:
        """Up to `count` INRs of the data set that was trained on, of as many classes as there are, and their edits.

        Args:
            count: Most INRs.
            split: As of `evaluate`.

        Returns:
            Their images.

        Raises:
            UsageError: The data set is not where it was.
        """
        data = self._open(None, split)
        turn = np.array([int((data.labels[:row] == label).sum()) for row, label in enumerate(data.labels)])
        rows = np.lexsort((data.labels, turn))[:count]  # each class's first, then its second
        rows = rows[np.argsort(data.labels[rows], kind="stable")]
        weights, labels = data.gather(rows)
        inrs = INRBatch.from_flat(data.spec, weights)
        wanted = self._targets(data)(inrs, rows)
        edited = self._edited(inrs.to(self._editor.device)).to("cpu")
        return EditExamples(inrs.images(*self.size), wanted, edited.images(*self.size), labels)

    def _open(self, dataset: str | Location | None, split: str | None) -> INRDataset:
        dataset = self._run.dataset if dataset is None else dataset
        if split is None:
            split = "test" if has_split(load_manifest(dataset_location(dataset)), "test") else "val"
        return INRDataset(dataset, split, views=1)

    @property
    def _target_dataset(self) -> str:
        if (dataset := self._run.target_dataset) is None:
            raise UsageError(
                f"{self.folder} does not record the set of its targets; the same edit command writes it again"
            )
        return dataset

    def _targets(self, data: INRDataset) -> Targets:
        if self.filter is not None:
            return FilterTargets(self.filter, *self.size)
        return SetTargets.of(data, INRDataset(self._target_dataset, data.split, check=False), *self.size)

    @torch.no_grad()
    def _edited(self, inrs: INRBatch) -> INRBatch:
        return INRBatch.cat([self._editor(inrs[at : at + PIECE]) for at in range(0, max(1, len(inrs)), PIECE)])

    @torch.no_grad()
    def _quality(self, before: INRBatch, after: INRBatch, columns: Columns, entry: ShardEntry) -> Columns:
        """The columns of a shard that say how close its edited INRs come to what they have to show."""
        targets: Targets
        known = np.ones(len(before), dtype=bool)
        if self.filter is not None:
            targets = FilterTargets(self.filter, *self.size)
        else:
            target = INRDataset(self._target_dataset, entry.split, check=False)
            known = np.isin(columns["object_id"].astype(str), target.object_ids)
            names, views = columns["object_id"][known].astype(str), np.full(known.sum(), entry.view)
            targets = SetTargets(names, views, target, *self.size)
        result = {name: np.full(len(before), np.nan) for name in ("loss", "psnr")}
        if known.any():
            index = torch.from_numpy(np.flatnonzero(known))
            wanted = targets(before[index], range(len(index)))
            errors = squared_errors(after[index], wanted).clamp_min(1e-12)
            result["loss"][known], result["psnr"][known] = errors, psnr_of_mse(errors)
        return result
