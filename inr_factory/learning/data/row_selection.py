"""Row selection: which shards and rows of a set a data set holds.

Shape letters: N rows of the chosen shards.
"""

import hashlib
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import UsageError, did_you_mean
from inr_factory.inr.arguments import check_whole
from inr_factory.storage.manifest import SPLITS, Manifest, ShardEntry


@dataclass(frozen=True, kw_only=True)
class RowSelection:
    """Which rows of the chosen shards are active; None keeps all. See INRDataset."""

    classes: str | int | Sequence[str | int] | None = None
    min_psnr: float | None = None
    max_psnr: float | None = None
    labels_per_class: int | None = None
    label_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("min_psnr", "max_psnr"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | np.number)):
                raise UsageError(f"{name} must be a number of dB, got {value!r}")
        if self.labels_per_class is not None:
            check_whole(1, labels_per_class=self.labels_per_class)
        check_whole(label_seed=self.label_seed)

    def rows(
        self,
        label_N: NDArray[np.int64],
        psnr_N: NDArray[np.float32],
        object_ids_N: NDArray[np.bytes_],
        classes: Sequence[str],
        subset: str,
    ) -> NDArray[np.int64]:
        """The numbers of the active rows; UsageError names what leaves none of `subset`."""
        filters: list[tuple[NDArray[np.bool_], str]] = []
        if self.classes is not None:
            chosen = choose_classes(self.classes, classes)
            filters.append((np.isin(label_N, chosen), f"of class {', '.join(classes[c] for c in chosen)}"))
        if self.min_psnr is not None:
            filters.append((psnr_N >= self.min_psnr, f"with at least {self.min_psnr:g} dB"))
        if self.max_psnr is not None:
            filters.append((psnr_N <= self.max_psnr, f"with at most {self.max_psnr:g} dB"))
        kept = np.ones(len(label_N), bool)
        for passes, condition in filters:
            if not (kept & passes).any():
                low, high = psnr_N[kept].min(), psnr_N[kept].max()
                raise UsageError(
                    f"{subset} has no row {condition}; there are {kept.sum():,} of {low:.1f} to {high:.1f} dB"
                )
            kept &= passes
        rows = np.flatnonzero(kept)
        if self.labels_per_class is not None:
            rows = rows[self._labelled(label_N[rows], object_ids_N[rows], classes, subset)]
        return rows

    def _labelled(
        self, label_N: NDArray[np.int64], object_ids_N: NDArray[np.bytes_], classes: Sequence[str], subset: str
    ) -> NDArray[np.bool_]:
        """(N,): the rows of labels_per_class objects of each class; UsageError where a class has fewer."""
        count, kept = self.labels_per_class, np.zeros(len(label_N), bool)
        for number in np.unique(label_N):
            of_class = label_N == number
            names = sorted(set(object_ids_N[of_class].tolist()), key=self._rank)
            if len(names) < (count or 0):
                raise UsageError(
                    f"{subset} has {len(names)} objects of class {classes[number]}, {count} were requested; "
                    "request fewer"
                )
            kept |= of_class & np.isin(object_ids_N, names[:count])
        return kept

    def _rank(self, name: bytes) -> bytes:
        return hashlib.sha256(b"%d\0" % self.label_seed + name).digest()


def choose_shards(split: str, views: Sequence[int], manifest: Manifest) -> tuple[list[ShardEntry], int]:
    """The recorded shards of a split and its views, view by view, and how many are not fitted yet."""
    if not isinstance(split, str) or split not in SPLITS:
        raise UsageError(f"unknown split {split!r}; {did_you_mean(str(split), SPLITS)}")
    with_objects = [name for name in SPLITS if name in manifest.splits and manifest.splits[name].objects]
    if split not in with_objects:
        remedy = "" if split == "train" else f"; a set fitted with --set splits.{split}=0.1 has them"
        known = ", ".join(with_objects) or "none at all"
        raise UsageError(f"{manifest.name} has no objects in split {split}; it has {known}{remedy}")
    entries = [entry for entry in manifest.shards if entry.split == split and entry.view in views]
    entries.sort(key=lambda entry: (entry.view, entry.block))
    return entries, len(views) * manifest.splits[split].blocks - len(entries)


def choose_views(views: int | Sequence[int] | None, manifest: Manifest) -> tuple[int, ...]:
    """The requested views in rising order."""
    available = f"{manifest.name} has {manifest.views} views"
    if views is None:
        return tuple(range(manifest.views))
    try:
        number = operator.index(views)  # type: ignore[arg-type]
    except TypeError:
        pass
    else:
        if isinstance(views, bool) or not 1 <= number <= manifest.views:
            raise UsageError(
                f"{available}, the first {views} were requested; request 1 to {manifest.views}, or fit more"
            )
        return tuple(range(number))
    try:
        chosen = sorted({operator.index(view) for view in views})  # type: ignore[union-attr]
    except TypeError:
        raise UsageError(f"views must be a number of first views or a list of views, got {views!r}") from None
    if not chosen or chosen[0] < 0 or chosen[-1] >= manifest.views:
        wrong = next((view for view in chosen if not 0 <= view < manifest.views), "none")
        raise UsageError(f"{available}, 0 to {manifest.views - 1}; {wrong} was requested")
    return tuple(chosen)


def choose_classes(classes: str | int | Iterable[str | int], known: Sequence[str]) -> list[int]:
    """The numbers of the requested classes, given by names or numbers."""
    chosen = set()
    several = isinstance(classes, Iterable) and not isinstance(classes, str) and getattr(classes, "ndim", 1) > 0
    for wanted in classes if several else [classes]:  # type: ignore[union-attr]
        if isinstance(wanted, str):
            if wanted not in known:
                raise UsageError(f"unknown class {wanted!r}; {did_you_mean(wanted, known)}")
            chosen.add(known.index(wanted))
        elif isinstance(wanted, bool) or not isinstance(wanted, int | np.integer):
            raise UsageError(f"classes are names or numbers, got {wanted!r}")
        elif not 0 <= wanted < len(known):
            raise UsageError(f"there is no class number {wanted}; the set has {len(known)} classes, from 0")
        else:
            chosen.add(int(wanted))
    if not chosen:
        raise UsageError("no class was requested; name at least one, or leave classes out for all of them")
    return sorted(chosen)


def spans(numbers: Sequence[int]) -> str:
    """Rising numbers as text: 0-2,5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
