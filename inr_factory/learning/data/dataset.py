"""The data set: the active rows of a set on disk as a torch Dataset.

Shape letters: N active rows, n rows of one batch, D parameters of one INR, C classes.
"""

import json
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset

from inr_factory.errors import IntegrityError, UsageError, shorten
from inr_factory.inr.arguments import check_flags
from inr_factory.inr.stable_hash import fingerprint
from inr_factory.learning.data.label_noise import noisy_labels
from inr_factory.learning.data.row_selection import RowSelection, choose_shards, choose_views, spans
from inr_factory.learning.data.target import Target, read_target
from inr_factory.learning.data.weight_reader import WeightReader, WeightsLocation
from inr_factory.learning.targets import as_targets
from inr_factory.storage.fetch_dataset import dataset_location
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import ShardEntry
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.shard_files import fetch_shards
from inr_factory.storage.shards import CHANGE, ShardReader


class INRDataset(Dataset[tuple[Tensor, Tensor]]):
    """The fitted INRs of one split of a set, by views, classes and PSNR, as a torch Dataset.

    An item is (weights (D,), target (C,)), both float32, the target one-hot. C is always the number of the set's
    classes, and a label means the same in every subset. With a `target` that is no class an item is (weights (D,), values
    (K,)): labels as 0 and 1, numbers in their unit. Rows come view by view, in each block by block, in each as the
    shard has them, however the subset was requested: one view is the beginning of three. Only shards of the split and
    the views are opened.

    Args:
        path: Folder of the set, or its URL ("s3://bucket/set", "hf://OWNER/NAME"). What is read of a remote set is
            copied to this machine.
        split: "train", "val" or "test".
        views: How many of the first views, or the views themselves as a list from 0; None for all.
        classes: Names or numbers of classes; None for all.
        min_psnr: The lowest PSNR in dB, inclusive.
        max_psnr: The highest PSNR in dB, inclusive.
        label_noise: (share, seed): that share of the objects, in [0, 1], gets a wrong label. What is chosen by class is
            chosen by the right one.
        labels_per_class: Keep this number of objects of each class, with all of their views. Fewer are a subset of more.
        label_seed: What draws them, along with the objects' names.
        target: What a network learns: a column of the set's targets, see `add_targets`, "psnr" in dB, or a number of each
            row as "facts.NAME"; None for the set's classes. A column of classes stands in for those.
        check: Compare the sha256 of the shards once, in the constructor, and not only their sizes.
        in_memory: Copy the active rows into memory when the first is read.

    Attributes:
        labels: (N,) int64 class numbers.
        views: (N,) int64.
        blocks: (N,) int64, the number of the block of objects that each row's object is in.
        psnr: (N,) float32, in dB.
        target: The Target that was requested, with kind, names and unit; None without one.
        values: (N, K) float64 of that target, None where it is a class.
        changes: What `source.augment` drew for each row, (N,) by its name, such as `flip_x`; empty for other sets.
        incomplete: How many shards of the split and views are not fitted yet; the others can be read.

    Raises:
        UsageError: For what the set does not have, or a subset without rows.
        IntegrityError: For a shard that is not as recorded.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Location,
        split: str = "train",
        views: int | Sequence[int] | None = None,
        classes: str | int | Sequence[str | int] | None = None,
        min_psnr: float | None = None,
        max_psnr: float | None = None,
        *,
        label_noise: tuple[float, int] | None = None,
        labels_per_class: int | None = None,
        label_seed: int = 0,
        target: str | None = None,
        check: bool = True,
        in_memory: bool = False,
    ) -> None:
        check_flags(check=check, in_memory=in_memory)
        selection = RowSelection(
            classes=classes,
            min_psnr=min_psnr,
            max_psnr=max_psnr,
            labels_per_class=labels_per_class,
            label_seed=label_seed,
        )
        if label_noise is not None and not (isinstance(label_noise, tuple | list) and len(label_noise) == 2):
            raise UsageError(f"label_noise must be (share, seed), such as (0.2, 0), got {label_noise!r}")
        self.location = location = dataset_location(path)
        self.manifest = load_manifest(location)
        self.spec, self.classes = self.manifest.siren_spec, self.manifest.classes
        self.split, self.labels_per_class, self.label_noise = split, labels_per_class, label_noise
        self.chosen_views = choose_views(views, self.manifest)
        entries, self.incomplete = choose_shards(split, self.chosen_views, self.manifest)
        self.root = fetch_shards(location, entries)
        shards = [self._open(entry, check) for entry in entries]

        label = _column(shards, "label", np.int64)
        values: NDArray[Any] | None = None
        self.target: Target | None = None
        psnr = _column(shards, "psnr", np.float32)
        object_ids = _column(shards, "object_id")
        subset = f"{split}, views {spans(self.chosen_views)} of {self.manifest.name}"
        if not len(label):
            reason = f"{self.incomplete} shards are missing; inr-factory status gives the command that makes them"
            none_fitted = "all of its INRs are in quarantine; inr-factory status gives the reasons"
            raise UsageError(f"{subset} has no rows: {reason if self.incomplete else none_fitted}")
        if target is not None:
            self.target, values = read_target(target, location, self.manifest, shards, _names(object_ids, self.root))
            if self.target.kind == "class":
                self.classes, label, values = self.target.names, values, None
        if self.classes and not ((label >= 0) & (label < self.num_classes)).all():
            raise IntegrityError(f"{subset} has labels outside 0..{self.num_classes - 1}; remove its shards, fit again")
        rows = selection.rows(label, psnr, object_ids, self.classes, subset)

        self.labels, self.psnr = label[rows], psnr[rows]
        self.values: NDArray[np.float64] | None = None if values is None else values[rows]
        self._object_ids = object_ids[rows]
        self._checksums = _column(shards, "checksum")[rows]
        sizes = [len(shard) for shard in shards]
        self.views = np.repeat([entry.view for entry in entries], sizes)[rows]
        self.blocks = np.repeat([entry.block for entry in entries], sizes)[rows]
        self.changes = {name: _column(shards, CHANGE + name)[rows] for name in (shards[0].changes if shards else ())}
        self._weights = WeightReader([WeightsLocation.of(shard) for shard in shards], rows, in_memory)
        if label_noise is not None:
            self.labels = noisy_labels(self.labels, self.object_ids, self.num_classes, *label_noise)

    def _open(self, entry: ShardEntry, check: bool) -> ShardReader:
        shard = ShardReader(self.root, entry, check=check)
        if shard.spec != self.spec:
            raise IntegrityError(f"{entry.path} holds INRs {shard.spec}, the set's are {self.spec}; remove it")
        return shard

    @property
    def num_classes(self) -> int:
        """C: how many classes the set has, whichever of them are active."""
        return len(self.classes)

    @cached_property
    def object_ids(self) -> NDArray[np.str_]:
        """(N,): the name of each row's object."""
        return _names(self._object_ids, self.root)

    def begin_epoch(self, epoch: int) -> None:
        """What the loader calls before each epoch of training. Raises IntegrityError where a shard was cut short since it
        was opened."""
        self.check_sizes()

    def check_sizes(self) -> None:
        """Raise IntegrityError where a shard was cut short since it was opened."""
        self._weights.check_sizes()

    def prepare(self, run: Path, first: bool) -> None:
        """What `train` calls before a run in a folder, on its first rank and on others."""

    def finish(self, complete: bool) -> None:
        """What `train` calls at the end of a run, which is complete or interrupted."""

    def figures(self) -> dict[str, float]:
        """What the record of an epoch says about its INRs."""
        return {}

    @cached_property
    def objects(self) -> NDArray[np.int64]:
        """(N,): the number of each row's object among the active ones, in the order of their names."""
        return np.unique(self._object_ids, return_inverse=True)[1].astype(np.int64, copy=False)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over the active rows in their order (by their checksums), the spec and the classes."""
        facts = {"spec": self.spec.to_dict(), "classes": self.classes}
        return fingerprint(json.dumps(facts, sort_keys=True), np.ascontiguousarray(self._checksums, dtype="<u4"))

    def describe(self) -> dict[str, Any]:
        """What a training run records of this data set, as JSON."""
        noise = {} if self.label_noise is None else {"label_noise": list(self.label_noise)}
        labelled = {} if self.labels_per_class is None else {"labels_per_class": self.labels_per_class}
        return {
            "name": self.manifest.name,
            "split": self.split,
            "views": spans(self.chosen_views),
            "rows": len(self),
            "fingerprint": self.fingerprint,
            **noise,
            **labelled,
            **(
                {}
                if self.target is None
                else {"target": self.target.name, "targets_fingerprint": self._targets_fingerprint}
            ),
        }

    @property
    def _targets_fingerprint(self) -> str:
        """16 hex digits over the target's values, which the rows' checksums do not cover."""
        return fingerprint(np.ascontiguousarray(self.labels if self.values is None else self.values))

    def gather(self, rows: ArrayLike) -> tuple[Tensor, Tensor]:
        """Read a batch of rows at once.

        Args:
            rows: (n,) row numbers, in any order.

        Returns:
            Weights (n, D) float32 and labels (n,) int64, or values (n, K) float32 of a target that is no class; copies.

        Raises:
            UsageError: For rows that are no whole numbers.
            IndexError: For a row beyond N.
        """
        index = np.asarray(rows)
        if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
            raise UsageError(
                f"rows are given by their numbers, got {index.dtype} {index.shape}; use np.flatnonzero of a mask"
            )
        index = index.astype(np.int64, copy=False)
        said = self.labels[index] if self.values is None else self.values[index].astype(np.float32)
        return self._weights.gather(index), torch.from_numpy(said)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise UsageError(f"an item is given by its number, got {shorten(index)}; `gather` takes several rows")
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """The items of a batch, read together; torch's DataLoader calls this."""
        weights, said = self.gather(indices)
        return list(zip(weights, as_targets(said, self.num_classes), strict=True))

    def __repr__(self) -> str:
        views = f"views {spans(self.chosen_views)} of {self.manifest.views}"
        active = np.unique(self.labels).size
        classes = f"{self.num_classes} classes" + (f" ({active} active)" if active < self.num_classes else "")
        missing = f", {self.incomplete} shards missing" if self.incomplete else ""
        name = f"{self.manifest.name}, {self.split}"
        if self.target is not None:
            classes = f"target {self.target.name}" + (f", {classes}" if self.values is None else "")
        return f"INRDataset({name}: {len(self):,} INRs, {views}, {classes}{missing}; {self.spec})"


def _names(object_ids: NDArray[Any], root: Path) -> NDArray[np.str_]:
    try:
        return np.char.decode(object_ids, "utf-8")
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{root} has an object_id that is not UTF-8: {error}; verify names it") from None


def _column(shards: Iterable[ShardReader], name: str, dtype: type | None = None) -> NDArray[Any]:
    """A column of all shards, one after the other; empty where there are no shards."""
    parts = [np.array(shard.column(name), dtype=dtype) for shard in shards]
    return np.concatenate(parts) if parts else np.empty(0, dtype)
