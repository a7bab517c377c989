"""The loader: batches of INRs and targets, augmented and mixed, that resume in mid-epoch.

Shape letters: n rows of one batch, D parameters of one INR, C classes.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from inr_factory.errors import UsageError, shorten
from inr_factory.inr.arguments import check_whole
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.device import choose_device
from inr_factory.learning.alignment.mixup import parse_mixup
from inr_factory.learning.data.batch_sampler import BatchSampler
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.targets import as_targets, smooth_labels
from inr_factory.learning.transforms.compose import WeightTransform, check_transform, parse_transform
from inr_factory.learning.transforms.random_transform import RandomTransform

GatheredRows = tuple[Tensor, Tensor]
"""Weights (n, D) and labels (n,), or values (n, K), of one batch, on the CPU."""


class Mixing(Protocol):
    """What mixes the INRs of a batch with one another, and their targets alike."""

    def __call__(self, inrs: INRBatch, targets: Tensor, generator: Generator) -> tuple[INRBatch, Tensor]: ...


class INRLoader:
    """Batches (INRBatch, targets (n, C) float32) of a data set, augmented and mixed on a device; of a data set with a
    `target` that is no class (INRBatch, values (n, K) float32), which are mixed alike.

    A batch is transformed, then mixed within itself, then its targets are smoothed. All its randomness comes from
    (seed, epoch, position, rank), whatever num_workers is and wherever a run was resumed.

    An iteration is one epoch from its first batch on; when it has run to its end, the next one is of the next
    epoch, unless `set_epoch` says otherwise. `state_dict` holds the next batch of the latest iteration, and after
    `load_state_dict` the next iteration begins with it.

    Args:
        dataset: An INRDataset, see `inr_factory.open`.
        batch_size: Rows of a batch, of one rank.
        shuffle: A new random order each epoch; else the rows' own order.
        drop_last: Leave out the rows that fill no whole batch; by default if shuffled.
        seed: What all randomness comes from.
        rank: Number of this process, from 0.
        world_size: How many processes share the batches; their parts are disjoint.
        views_per_object: Draw this number of views of each object for an epoch; None takes every row once.
        grouped: Put the views of an object next to each other in one batch.
        transform: What is done to each INR: a transform, or text such as "rotate2d|scale", see `parse_transform`.
        mixup: How INRs are mixed: a MixUp, or text such as "mixup:match=phase".
        label_smoothing: Share of each target that is spread over all classes, in [0, 1].
        device: Where batches are made: "cpu", "cuda", "cuda:N", or "auto".
        num_workers: Processes that read; they help where the disk is slow; otherwise 0 is fastest.

    Raises:
        UsageError: For settings outside their ranges, text that cannot be parsed, a transform that is not made for the set's
            INRs, or a device that torch does not see.
    """

    def __init__(
        self,
        dataset: INRDataset,
        batch_size: int,
        *,
        shuffle: bool = True,
        drop_last: bool | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        views_per_object: int | None = None,
        grouped: bool = False,
        transform: WeightTransform | str | None = None,
        mixup: Mixing | str | None = None,
        label_smoothing: float = 0.0,
        device: torch.device | str = "cpu",
        num_workers: int = 0,
    ) -> None:
        if not (hasattr(dataset, "gather") and hasattr(dataset, "num_classes")):
            raise UsageError(f"INRLoader needs an INRDataset, got {shorten(dataset)}; INRDataset(path) opens a set")
        check_whole(0, 1024, num_workers=num_workers)
        if not isinstance(label_smoothing, int | float) or not 0 <= label_smoothing <= 1:
            raise UsageError(f"label_smoothing must be a number from 0 to 1, got {label_smoothing!r}")
        self.dataset = dataset
        self.sampler = BatchSampler(
            num_rows=len(dataset),
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            seed=seed,
            rank=rank,
            world_size=world_size,
            objects_N=None if views_per_object is None else dataset.objects,
            views_per_object=views_per_object,
            grouped=grouped,
        )
        self.transform = parse_transform(transform) if isinstance(transform, str) else transform
        self.mixup = parse_mixup(mixup) if isinstance(mixup, str) else mixup
        for name, step in (("transform", self.transform), ("mixup", self.mixup)):
            if step is not None and not callable(step):
                raise UsageError(f"{name} must be text or an object that can be called, got {step!r}")
        if isinstance(self.transform, RandomTransform):
            check_transform(self.transform, dataset.spec)
        target, same_class = getattr(dataset, "target", None), getattr(self.mixup, "same_class", False)
        if (label_smoothing or same_class) and target is not None and target.kind != "class":
            what = "label_smoothing" if label_smoothing else "same_class of mixup"
            raise UsageError(f"{what} is for classes, the target {target.name} is a {target.kind}; leave it out")
        self.label_smoothing = label_smoothing
        self.device = choose_device(device)
        self.num_workers = num_workers
        self._epoch, self._position, self._start = 0, 0, 0

    def __len__(self) -> int:
        """How many batches an epoch has."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[INRBatch, Tensor]]:
        epoch, start = self._epoch, self._start
        self._position, self._start = start, 0
        return self._batches(epoch, start)

    def rows(self, epoch: int, position: int = 0) -> Iterator[NDArray[np.int64]]:
        """The row numbers (n,) of the batches of an epoch, from a position on."""
        return self.sampler.batches(epoch, position)

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration begin with the first batch of this epoch."""
        self._epoch, self._position, self._start = epoch, 0, 0

    def figures(self) -> dict[str, float]:
        """What the record of an epoch says about its INRs, see `INRDataset.figures`."""
        return self.dataset.figures()

    def state_dict(self) -> dict[str, Any]:
        """Epoch and position of the next batch."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next iteration begin with the batch that `state_dict` named."""
        epoch, position = state["epoch"], state["position"]
        if not 0 <= position <= len(self):
            raise UsageError(f"there is no batch {position} to resume from; an epoch of this loader has {len(self)}")
        self._epoch, self._position, self._start = epoch, position, position

    def _batches(self, epoch: int, start: int) -> Iterator[tuple[INRBatch, Tensor]]:
        generator = Generator(self.device)
        for position, (weights, labels) in enumerate(self._gathered(epoch, start), start):
            generator.manual_seed(self.sampler.batch_seed(epoch, position))
            inrs = INRBatch.from_flat(self.dataset.spec, weights.to(self.device, non_blocking=True))
            targets = as_targets(labels.to(self.device, non_blocking=True), self.dataset.num_classes)
            if self.transform is not None:
                inrs = self.transform(inrs, generator)
            if self.mixup is not None:
                inrs, targets = self.mixup(inrs, targets, generator)
            if self.label_smoothing:
                targets = smooth_labels(targets, self.label_smoothing)
            self._position = position + 1
            yield inrs, targets
        self._epoch, self._position = epoch + 1, 0

    def _gathered(self, epoch: int, start: int) -> Iterator[GatheredRows]:
        """What the batches of an epoch are made from, from a position on."""
        if isinstance(self.dataset, INRDataset):
            if self.sampler.shuffle:
                self.dataset.begin_epoch(epoch)
            else:
                self.dataset.check_sizes()
        rows = self.rows(epoch, start)
        gathered: Iterator[GatheredRows]
        if self.num_workers == 0:
            gathered = map(self.dataset.gather, rows)
        else:
            # A separate generator, since a DataLoader draws from the global one, on which dropout depends.
            readers: DataLoader[Any] = DataLoader(
                _Gathering(self.dataset),
                batch_size=None,
                sampler=rows,  # type: ignore[arg-type]
                num_workers=self.num_workers,
                collate_fn=_unchanged,  # type: ignore[arg-type]
                generator=Generator(),
            )
            gathered = iter(readers)
        if self.device.type == "cuda":  # not run on a GPU yet
            gathered = prefetch((weights.pin_memory(), labels.pin_memory()) for weights, labels in gathered)
        return gathered


class _Gathering(Dataset[GatheredRows]):
    """A data set whose items are batches, addressed by their rows."""

    def __init__(self, dataset: INRDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, rows: NDArray[np.int64]) -> GatheredRows:
        return self.dataset.gather(rows)


def _unchanged(gathered: GatheredRows) -> GatheredRows:
    return gathered


def prefetch(batches: Iterator[GatheredRows]) -> Iterator[GatheredRows]:
    """The same batches, each read in a thread while the caller uses the one before it."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        upcoming = thread.submit(next, batches, None)
        while (batch := upcoming.result()) is not None:
            upcoming = thread.submit(next, batches, None)
            yield batch
