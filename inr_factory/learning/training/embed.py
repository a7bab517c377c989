"""Embedding: the features of the INRs of a data set, of an encoder or of what needs no training, as a table.

Shape letters: N INRs, F features.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import UsageError, csv_cell, shorten
from inr_factory.inr.arguments import check_hooks
from inr_factory.inr.regular_files import as_path
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.training.feature_kinds import OnBatch, Run, feature_kind
from inr_factory.learning.training.run_data import class_names, open_split
from inr_factory.storage.atomic_files import make_folder, write_atomically
from inr_factory.storage.locations import Location

SUFFIXES = (".csv", ".npz")


@dataclass(frozen=True)
class EmbeddingReport:
    """Features of N INRs.

    Attributes:
        object_ids: N names of the INRs' objects.
        views: Number of each INR's view, (N,) int64.
        true_classes: N names of classes, as the data set labels the objects; empty where it does not.
        features: (N, F) float32.
        incomplete: Shards of the split and views that are missing.
    """

    object_ids: tuple[str, ...]
    views: NDArray[np.int64]
    true_classes: tuple[str, ...]
    features: NDArray[np.float32]
    incomplete: int = 0

    def __len__(self) -> int:
        return len(self.features)

    def to_csv(self) -> str:
        """One line per INR: object_id, view, class, and its features as f0, f1, ..., which read back as the same float32.

        Names that a spreadsheet would take for formulas begin with an apostrophe; control characters are escaped.
        """
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["object_id", "view", "class", *(f"f{number}" for number in range(self.features.shape[1]))])
        for name, view, label, row in zip(
            self.object_ids, self.views.tolist(), self.true_classes, self.features, strict=True
        ):
            writer.writerow([csv_cell(name), view, csv_cell(label), *map(str, row)])
        return table.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the table, atomically: as CSV, see `to_csv`, or for numpy as NPZ.

        Args:
            path: NAME.csv, or NAME.npz with the arrays object_id, view, class and features (N, F).

        Raises:
            UsageError: The name ends in something else, or the file cannot be written.
            ResourceError: The disk is full.
        """
        path = table_path(path)
        if path.suffix.lower() == ".csv":
            content = self.to_csv().encode()
        else:
            buffer = io.BytesIO()
            columns: dict[str, Any] = {"object_id": np.array(self.object_ids), "view": self.views}
            columns |= {"class": np.array(self.true_classes), "features": self.features}
            np.savez(buffer, **columns)
            content = buffer.getvalue()
        make_folder(path.parent)
        write_atomically(path, content)


def embed(
    run: Run,
    dataset: str | Location | INRDataset,
    split: str = "test",
    views: int | None = None,
    device: str = "auto",
    on_batch: OnBatch | None = None,
) -> EmbeddingReport:
    """Take the features of INRs by a trained encoder, without its head: what the command `embed` does.

    Args:
        run: Folder of a run of `train` or `pretrain`, a checkpoint, or what `train` returned. Or "weights": the flat
            weights as fitted; "aligned": these in canonical form and aligned to the first INR of the training split by
            the finest match of the activation; "renders": values on the pixels of the set's images, at most 28 x 28, or
            at 16 x 16 x 16 points of shapes. A folder of such a name is given as a Path.
        dataset: Path or URL of a data set of the same INRs, or an open one, whose split and views then count.
        split: "train", "val" or "test".
        views: The first views of each object; by default all.
        device: "auto", "cpu", "cuda" or "cuda:N".
        on_batch: Called after each batch with the number of INRs that are done, and of all.

    Returns:
        Features (N, F), with the objects' names, views and classes.

    Raises:
        UsageError: There is no checkpoint, the INRs have another spec, or the split is empty.
        IntegrityError: The checkpoint is damaged.
    """
    check_hooks(on_batch=on_batch)
    data = open_split(dataset, split, views)
    features = feature_kind(run, data, device).features(data, device, on_batch)
    return EmbeddingReport(
        object_ids=tuple(data.object_ids.tolist()),
        views=data.views,
        true_classes=class_names(data),
        features=features.numpy(),
        incomplete=data.incomplete,
    )


def table_path(path: str | Path) -> Path:
    """The path of a table. Raises UsageError for a name that ends in something else than SUFFIXES."""
    path = as_path(path, "a table")
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"a table of features is NAME.csv or NAME.npz, got {shorten(path.name)}; give --out such a name"
        )
    return path
