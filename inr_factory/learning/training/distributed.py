"""Ranks: processes that train one model together, as torchrun starts them; one process alone is rank 0 of 1.

Gradients are averaged here rather than by DistributedDataParallel, so that they may come from anywhere: these models are
small enough for all of them to be sent at once.
"""

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
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Gradients become their mean over all ranks, in place; the loss's mean is given. All ranks must call."""
        if self.size == 1:
            return loss
        loss = loss.detach().clone()
        self.average([*(parameter.grad for parameter in parameters if parameter.grad is not None), loss])
        return loss

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Tensors become their mean over all ranks, in place. All ranks must call."""
        if self.size == 1 or not tensors:
            return
        bucket = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        torch.distributed.all_reduce(bucket)
        bucket /= self.size
        for tensor, part in zip(tensors, torch.split(bucket, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def broadcast(self, value: ValueT) -> ValueT:
        """The value of rank 0, a plain one, for all."""
        if self.size == 1:
            return value
        told: list[Any] = [value]
        torch.distributed.broadcast_object_list(told, src=0)
        return told[0]  # type: ignore[no-any-return]

    def gather(self, value: ValueT) -> list[ValueT]:
        """The plain values of all ranks, in their order."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(found, value)
        return found


@contextmanager
def join_process_group(device: torch.device) -> Iterator[tuple[Ranks, torch.device]]:
    """The ranks that torchrun started, by $RANK and $WORLD_SIZE, and this one's own device: GPU $LOCAL_RANK of its
    machine for "cuda". Without them, one rank and the device as it is.

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
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(int(os.environ["RANK"]), size), device
    finally:
        torch.distributed.destroy_process_group()
