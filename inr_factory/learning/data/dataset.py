"""The data set: the rows of a set on disk that are asked for, as a torch Dataset.

Shape letters: N active rows, n rows of one batch, D parameters of one INR, C classes.
"""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset

from inr_factory.errors import IntegrityError, UsageError, did_you_mean
from inr_factory.inr.stable_hash import fingerprint
from inr_factory.learning.data.label_noise import noisy_labels
from inr_factory.learning.data.weight_reader import WeightReader, WeightsLocation
from inr_factory.learning.targets import one_hot
from inr_factory.storage.locations import Location, parse_location
from inr_factory.storage.manifest import SPLITS, Manifest, ShardEntry
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.shards import ShardReader, fetch_shards


class INRDataset(Dataset[tuple[Tensor, Tensor]]):
    """The active rows of one split of a set: of the views, classes and PSNR asked for.

    An item is (weights (D,), target (C,)), both float32, the target one-hot. `views` is the number of first views,
    or the views themselves; `classes` are names or numbers. C is always the number of the set's classes and a label
    means the same in every subset. PSNR bounds are in dB and inclusive. `label_noise` (share, seed) gives that share of
    the objects a wrong label, see label_noise.py; what is chosen by class is chosen by the right one.

    Rows come view by view, in each block by block, in each as the shard has them, however the subset was asked for:
    one view is the beginning of three. `labels_per_class` keeps so many objects of each class, all of their views, drawn
    by `label_seed` and the objects' names alone: fewer are a subset of more. Only shards of the split and the views are
    opened; `check` compares their sha256 once, here, and without it their size alone. `path` may be a URL: what is read
    of the set is copied to this machine. `in_memory` copies the active rows into memory.

    `labels`, `views` (N,) int64 and `psnr` (N,) float32 describe the rows. `incomplete` counts shards of the split
    and views that are not fitted yet: what there is can be read. `fingerprint` stands for all that the rows hold.

    Raises UsageError for what the set does not have or a subset without rows, IntegrityError for a shard that is
    not as recorded.
    """

    def __init__(
        self,
        path: str | Location,
        split: str = "train",
        views: int | Sequence[int] | None = None,
        classes: str | Sequence[str | int] | None = None,
        min_psnr: float | None = None,
        max_psnr: float | None = None,
        *,
        label_noise: tuple[float, int] | None = None,
        labels_per_class: int | None = None,
        label_seed: int = 0,
        check: bool = True,
        in_memory: bool = False,
    ) -> None:
        where = parse_location(path)
        self.manifest = load_manifest(where)
        self.spec = self.manifest.siren_spec
        self.classes = self.manifest.classes
        self.split = split
        self.chosen_views = _choose_views(views, self.manifest)
        num_shards = len(self.chosen_views) * _num_blocks(split, self.manifest)
        asked = {(split, view) for view in self.chosen_views}
        there = [entry for entry in self.manifest.shards if (entry.split, entry.view) in asked]
        entries = sorted(there, key=lambda entry: (entry.view, entry.block))
        self.incomplete = num_shards - len(entries)
        self.root = root = fetch_shards(where, entries)
        shards = [self._open(root, entry, check) for entry in entries]
        sizes = [len(shard) for shard in shards]

        label = _column(shards, "label", np.int64)
        psnr = _column(shards, "psnr", np.float32)
        what = f"{split}, views {_spans(self.chosen_views)} of {self.manifest.name}"
        if not len(label):
            raise UsageError(f"{what} has no rows ({self.incomplete} shards are missing); inr-factory fit makes them")
        if self.classes and not ((label >= 0) & (label < self.num_classes)).all():
            raise IntegrityError(f"{what} has labels outside 0..{self.num_classes - 1}; remove its shards, fit again")

        passes = []
        if classes is not None:
            chosen = _choose_classes(classes, self.classes)
            passes.append((np.isin(label, chosen), f"of class {', '.join(self.classes[c] for c in chosen)}"))
        if min_psnr is not None:
            passes.append((psnr >= min_psnr, f"with at least {min_psnr:g} dB"))
        if max_psnr is not None:
            passes.append((psnr <= max_psnr, f"with at most {max_psnr:g} dB"))
        rows = _passing(passes, psnr, what)
        object_ids = _column(shards, "object_id")
        if labels_per_class is not None:
            rows = rows[_few(object_ids[rows], label[rows], labels_per_class, label_seed, self.classes, what)]

        self.labels_per_class = labels_per_class
        self.labels, self.psnr = label[rows], psnr[rows]
        self.views = np.repeat([entry.view for entry in entries], sizes)[rows]
        self._object_ids = object_ids[rows]
        self._checksums = _column(shards, "checksum")[rows]
        self.label_noise = label_noise
        if label_noise is not None:
            self.labels = noisy_labels(self.labels, self.object_ids, self.num_classes, *label_noise)
        shard_of = np.repeat(np.arange(len(shards), dtype=np.int32), sizes)
        row_of = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])
        places = [WeightsLocation.of(shard) for shard in shards]
        self._weights = WeightReader(places, shard_of[rows], row_of[rows], in_memory)

    def _open(self, root: Path, entry: ShardEntry, check: bool) -> ShardReader:
        shard = ShardReader(root, entry, check=check)
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
        return np.char.decode(self._object_ids, "utf-8")

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
        """What a run that learns from this data set should write down, as JSON."""
        noise = {} if self.label_noise is None else {"label_noise": list(self.label_noise)}
        few = {} if self.labels_per_class is None else {"labels_per_class": self.labels_per_class}
        return {
            "name": self.manifest.name,
            "split": self.split,
            "views": _spans(self.chosen_views),
            "rows": len(self),
            "fingerprint": self.fingerprint,
            **noise,
            **few,
        }

    def gather(self, rows: ArrayLike) -> tuple[Tensor, Tensor]:
        """Weights (n, D) float32 and labels (n,) int64 of the rows with these numbers, in their order; copies."""
        index = np.asarray(rows)
        if index.size and index.dtype.kind not in "iu":
            raise UsageError(f"rows are asked for by their numbers, got {index.dtype}; use np.flatnonzero of a mask")
        index = index.astype(np.int64, copy=False)
        return self._weights.gather(index), torch.from_numpy(self.labels[index])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """The items of a batch, read together: torch's DataLoader asks for this where it is there."""
        weights, labels = self.gather(indices)
        return list(zip(weights, one_hot(labels, self.num_classes), strict=True))

    def __repr__(self) -> str:
        views = f"views {_spans(self.chosen_views)} of {self.manifest.views}"
        active = np.unique(self.labels).size
        classes = f"{self.num_classes} classes" + (f" ({active} active)" if active < self.num_classes else "")
        missing = f", {self.incomplete} shards missing" if self.incomplete else ""
        name = f"{self.manifest.name}, {self.split}"
        return f"INRDataset({name}: {len(self):,} INRs, {views}, {classes}{missing}; {self.spec})"


def _column(shards: Iterable[ShardReader], name: str, dtype: type | None = None) -> NDArray[Any]:
    """A column of all shards, one after the other; empty where there are no shards."""
    parts = [np.array(shard.column(name), dtype=dtype) for shard in shards]
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _passing(filters: Iterable[tuple[NDArray[np.bool_], str]], psnr_N: NDArray[Any], what: str) -> NDArray[np.int64]:
    """The numbers of the rows that pass all filters; UsageError names the first that leaves none."""
    kept = np.ones(len(psnr_N), bool)
    for passes, words in filters:
        if not (kept & passes).any():
            low, high = psnr_N[kept].min(), psnr_N[kept].max()
            raise UsageError(f"{what} has no row {words}; there are {kept.sum():,} of {low:.1f} to {high:.1f} dB")
        kept &= passes
    return np.flatnonzero(kept)


def _few(
    object_ids_N: NDArray[np.bytes_],
    labels_N: NDArray[np.int64],
    count: int,
    seed: int,
    classes: Sequence[str],
    what: str,
) -> NDArray[np.int64]:
    """The numbers of the rows of `count` objects of each class that is there; UsageError where a class has fewer."""
    if count < 1:
        raise UsageError(f"labels_per_class must be at least 1, got {count}")
    kept = np.zeros(len(labels_N), bool)
    for number in np.unique(labels_N):
        here = labels_N == number
        names = sorted(set(object_ids_N[here].tolist()), key=lambda name: fingerprint(f"{seed}\0", name))
        if len(names) < count:
            raise UsageError(
                f"{what} has {len(names)} objects of class {classes[number]}, {count} were asked for; ask for fewer"
            )
        kept |= here & np.isin(object_ids_N, names[:count])
    return np.flatnonzero(kept)


def _choose_views(views: int | Sequence[int] | None, manifest: Manifest) -> tuple[int, ...]:
    """The views asked for, in rising order."""
    there = f"{manifest.name} has {manifest.views} views"
    if views is None:
        return tuple(range(manifest.views))
    if isinstance(views, int):
        if not 1 <= views <= manifest.views:
            raise UsageError(f"{there}, the first {views} were asked for; ask for 1 to {manifest.views}, or fit more")
        return tuple(range(views))
    chosen = sorted({int(view) for view in views})
    if not chosen or chosen[0] < 0 or chosen[-1] >= manifest.views:
        wrong = next((view for view in chosen if not 0 <= view < manifest.views), "none")
        raise UsageError(f"{there}, 0 to {manifest.views - 1}; {wrong} was asked for")
    return tuple(chosen)


def _choose_classes(classes: str | Sequence[str | int], known: Sequence[str]) -> list[int]:
    """The numbers of the classes asked for."""
    chosen = []
    for wanted in [classes] if isinstance(classes, str) else classes:
        if isinstance(wanted, str):
            if wanted not in known:
                raise UsageError(f"unknown class {wanted!r}; {did_you_mean(wanted, known)}")
            chosen.append(known.index(wanted))
        else:
            if not 0 <= wanted < len(known):
                raise UsageError(f"there is no class number {wanted}; the set has {len(known)} classes, from 0")
            chosen.append(int(wanted))
    if not chosen:
        raise UsageError("no class was asked for; name at least one, or leave classes out for all of them")
    return sorted(set(chosen))


def _num_blocks(split: str, manifest: Manifest) -> int:
    """How many shards a view of the split has; UsageError where there is no such split."""
    there = [name for name in SPLITS if name in manifest.splits and manifest.splits[name].objects]
    if split not in SPLITS:
        raise UsageError(f"unknown split {split!r}; {did_you_mean(split, SPLITS)}")
    if split not in there:
        remedy = "" if split == "train" else f"; a set fitted with --set splits.{split}=0.1 has them"
        raise UsageError(
            f"{manifest.name} has no objects in split {split}; it has {', '.join(there) or 'none at all'}{remedy}"
        )
    return manifest.splits[split].blocks


def _spans(numbers: Sequence[int]) -> str:
    """Rising numbers as text: 0-2,5."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
