"""Edit targets: what the edits of INRs have to show, by a filter or by the INRs of another set of the same objects.

Shape letters: N INRs, O outputs, H height, W width.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.image_size import image_size
from inr_factory.learning.training.image_filters import ImageFilter


@dataclass(frozen=True)
class FilterTargets:
    """The filtered images of the INRs themselves, whatever their rows."""

    filter: ImageFilter
    height: int
    width: int

    def __call__(self, inrs: INRBatch, rows: Any) -> Tensor:
        return self.filter(inrs, self.height, self.width)


class SetTargets:
    """What INRs of another set show: for each row those of its object and its view, or where there is no such view of its
    first. `object_ids` and `views` are those of the rows, and `target` has all of the objects."""

    def __init__(
        self, object_ids: NDArray[np.str_], views: NDArray[np.int64], target: INRDataset, height: int, width: int
    ) -> None:
        known = list(enumerate(zip(target.object_ids.tolist(), target.views.tolist(), strict=True)))
        row_of = {key: row for row, key in known}
        first = {name: row for row, (name, _) in reversed(known)}
        keys = zip(object_ids.tolist(), views.tolist(), strict=True)
        self.rows = np.array([row_of.get(key, first[key[0]]) for key in keys])
        self.target, self.height, self.width = target, height, width

    @classmethod
    def of(cls, dataset: INRDataset, target: INRDataset, height: int, width: int) -> "SetTargets":
        """Of the rows of a data set. Raises UsageError where the target lacks an object, or has other inputs or outputs."""
        if (target.spec.in_dim, target.spec.out_dim) != (dataset.spec.in_dim, dataset.spec.out_dim):
            raise UsageError(
                f"--target needs INRs of {dataset.spec.in_dim} inputs and {dataset.spec.out_dim} outputs, "
                f"{target.manifest.name} has {target.spec}"
            )
        missing = np.setdiff1d(dataset.object_ids, target.object_ids)
        if len(missing):
            raise UsageError(
                f"--target {target.manifest.name} lacks {len(missing):,} objects of {dataset.split}, as {str(missing[0])!r}; "
                "name a set of the same objects and splits"
            )
        return cls(dataset.object_ids, dataset.views, target, height, width)

    def __call__(self, inrs: INRBatch, rows: Any) -> Tensor:
        weights, _ = self.target.gather(self.rows[np.asarray(rows)])
        return INRBatch.from_flat(self.target.spec, weights.to(inrs.device)).images(self.height, self.width)


def edited_size(dataset: INRDataset, size: int | None) -> tuple[int, int]:
    """Height and width of images: `size`, or those that the set was fitted to.

    Raises UsageError for INRs that show no images, and where the set does not say their size.
    """
    if dataset.spec.in_dim != 2:
        raise UsageError(f"edit takes INRs of images, which have 2 inputs; {dataset.manifest.name} has {dataset.spec}")
    known = (size, size) if size is not None else image_size(dataset)
    if known is None:
        raise UsageError(f"{dataset.manifest.name} does not say how large its images are; give --size, as 28")
    return known
