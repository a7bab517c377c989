"""Ranks: processes that train one model together, as torchrun starts them; one process alone is rank 0 of 1.

Gradients are averaged explicitly rather than by DistributedDataParallel, since perturbations compute them outside of one
backward pass. These models are small enough to send all gradients at once.
"""

import importlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn

from inr_factory.errors import ResourceError, UsageError

ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class Ranks:
    """Which of `size` processes this is."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Average gradients over all ranks, in place, and return the mean loss. All ranks must call."""
        if self.size == 1:
            return loss
        loss = loss.detach().clone()
        self.average([*(parameter.grad for parameter in parameters if parameter.grad is not None), loss])
        return loss

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Average tensors over all ranks, in place. All ranks must call."""
        if self.size == 1 or not tensors:
            return
        bucket = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        torch.distributed.all_reduce(bucket)
        bucket /= self.size
        for tensor, part in zip(tensors, torch.split(bucket, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def broadcast(self, value: ValueT) -> ValueT:
        """Return the plain value of rank 0 on all ranks."""
        if self.size == 1:
            return value
        values: list[Any] = [value]
        torch.distributed.broadcast_object_list(values, src=0)
        return values[0]  # type: ignore[no-any-return]

    def gather(self, value: ValueT) -> list[ValueT]:
        """Return the plain values of all ranks, in their order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values


def is_first_rank() -> bool:
    """Whether this process is rank 0 of those that torchrun started, or alone."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


@contextmanager
def join_process_group(device: torch.device) -> Iterator[tuple[Ranks, torch.device]]:
    """Join the ranks that torchrun started, by $RANK and $WORLD_SIZE; yield them and the device of this one: GPU
    $LOCAL_RANK of its machine for "cuda". Without them, one rank and the device unchanged.

    Raises UsageError for a GPU by number, which all ranks would share, ResourceError for fewer GPUs than ranks.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks(), device
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cuda":
        if device.index is not None:
            raise UsageError(f"{size} ranks take a GPU each, got --device {device}; use --device cuda")
        if local >= torch.cuda.device_count():
            raise ResourceError(f"rank {local} of this machine has no GPU, there are {torch.cuda.device_count()}")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    # Its functions have the present group as a default argument. Imported later (optimizers do), it would keep the group
    # and its threads beyond destroy_process_group, and at the interpreter's end a thread can abort the process.
    importlib.import_module("torch.distributed.nn.functional")
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(int(os.environ["RANK"]), size), device
    finally:
        torch.distributed.destroy_process_group()
