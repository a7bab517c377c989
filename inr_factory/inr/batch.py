"""INR batches: INRs of one architecture, stacked, that are indexed, evaluated, rendered and saved together.

Shape letters: N INRs, P points, I inputs and O outputs of a layer, D parameters of one INR.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.errors import UsageError, one_line, shorten
from inr_factory.inr.arguments import as_tensor
from inr_factory.inr.batch_files import read_batch, write_batch
from inr_factory.inr.device import choose_device
from inr_factory.inr.forward_pass import encode, layer_outputs
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec

# What can index a batch: one number, or several.
Index = int | slice | Sequence[int] | NDArray[Any] | Tensor


@dataclass(frozen=True, eq=False, repr=False)
class INRBatch:
    """N INRs of one spec, stacked. One INR is a batch with N = 1.

    `inrs[0]`, `inrs[2:5]` and `inrs[[4, 1]]` are batches, `for inr in inrs` gives batches of one. Batches are values:
    nothing writes into their tensors, which may be views into one flat (N, D) tensor.

    Args:
        spec: the architecture that all share.
        weights: one tensor or numpy array (N, O, I) for each layer.
        biases: one tensor or numpy array (N, O) for each layer.

    Raises:
        UsageError: where shape, type or device of a tensor is not what the spec and the other tensors need.
    """

    spec: SirenSpec
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        _require_spec(self.spec)
        for name in ("weights", "biases"):
            if not isinstance(getattr(self, name), tuple | list):
                raise UsageError(
                    f"{name} must be a tuple of one array for each layer, got {shorten(getattr(self, name))}"
                )
        shapes = self.spec.layer_shapes
        if len(self.weights) != len(shapes) or len(self.biases) != len(shapes):
            raise UsageError(
                f"{self.spec} has {len(shapes)} layers, got {len(self.weights)} weights and {len(self.biases)} biases"
            )
        for name in ("weights", "biases"):
            tensors = getattr(self, name)
            if not all(isinstance(tensor, Tensor) and tensor.is_floating_point() for tensor in tensors):
                tensors = (as_tensor(value, f"{name} of layer {layer}") for layer, value in enumerate(tensors))
            object.__setattr__(self, name, tuple(tensors))
        first = self.weights[0]
        count = first.shape[0] if first.dim() else 0
        for layer, ((outputs, inputs), W, b) in enumerate(zip(shapes, self.weights, self.biases, strict=True)):
            if tuple(W.shape) != (count, outputs, inputs) or tuple(b.shape) != (count, outputs):
                raise UsageError(
                    f"layer {layer} of {self.spec} needs weights {(count, outputs, inputs)} and biases "
                    f"{(count, outputs)}, got {tuple(W.shape)} and {tuple(b.shape)}"
                )
            if not first.device == W.device == b.device or not first.dtype == W.dtype == b.dtype:
                raise UsageError(
                    f"all tensors of a batch must be {first.dtype} on {first.device}, layer {layer} has "
                    f"{W.dtype} on {W.device} and {b.dtype} on {b.device}"
                )

    def __repr__(self) -> str:
        return f"INRBatch({len(self)} x {self.spec}, {self.dtype} on {self.device})"

    def __len__(self) -> int:
        return self.weights[0].shape[0]

    def __getitem__(self, index: Index) -> "INRBatch":
        """Return the INRs at an index.

        Args:
            index: a number, -N to N - 1, which gives a batch of one; a slice; whole numbers (K,) as a list, array or
                tensor; or a mask of N booleans.

        Raises:
            UsageError: for an index of another kind, or out of range.
        """
        count = len(self)
        if isinstance(index, slice):
            try:
                rows = range(count)[index]
            except (TypeError, ValueError) as error:
                raise UsageError(
                    f"INRs are indexed by slices of whole numbers, got {index}: {one_line(error)}"
                ) from None
            return self.select(index if rows.step > 0 else torch.tensor(list(rows), dtype=torch.int64).to(self.device))
        if isinstance(index, int | np.integer) and not isinstance(index, bool):
            self._check_range(int(index), int(index))
            return self.select(slice(int(index) % count, int(index) % count + 1))
        index_K = index if isinstance(index, Tensor) else _as_index(index)
        if index_K.dtype == torch.bool and tuple(index_K.shape) == (count,):
            return self.select(index_K.to(self.device))
        if index_K.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8) or index_K.dim() > 1:
            raise UsageError(
                f"a batch of {count} INRs is indexed by whole numbers (K,) or a mask ({count},), got {index_K.dtype} "
                f"{tuple(index_K.shape)}"
            )
        index_K = index_K.to(self.device, torch.int64).reshape(-1)
        if len(index_K):
            self._check_range(int(index_K.min()), int(index_K.max()))
        return self.select(index_K)

    def _check_range(self, least: int, greatest: int) -> None:
        count = len(self)
        if least < -count or greatest >= count:
            index = least if least < -count else greatest
            limits = f"use {-count} to {count - 1}" if count else "it is empty"
            raise UsageError(f"index {index} is out of range for a batch of {count} INRs; {limits}")

    def __iter__(self) -> Iterator["INRBatch"]:
        """Batches of one, in order; their tensors are views."""
        return (self.select(slice(row, row + 1)) for row in range(len(self)))

    def __array__(self, *_: Any, **__: Any) -> NDArray[Any]:
        raise UsageError("INRs are no single array; inrs.flatten().numpy() has their parameters, (N, D)")

    @property
    def device(self) -> torch.device:
        """Where all tensors lie."""
        return self.weights[0].device

    @property
    def dtype(self) -> torch.dtype:
        """The type of all tensors, float32 as a rule."""
        return self.weights[0].dtype

    def __call__(self, coords: Any) -> Tensor:
        """Evaluate every INR.

        Args:
            coords: tensor or numpy array (P, I) for all INRs, or (N, P, I), one set for each. Fits cover [-1, 1].

        Returns:
            Values (N, P, O).

        Raises:
            UsageError: for coords of another shape or on another device.
        """
        return deque(self.activations(coords), maxlen=1).pop()

    def images(self, height: int, width: int) -> Tensor:
        """Render INRs of images on the pixel grid.

        Args:
            height: number of rows, which need not be that of the fitted image.
            width: number of columns.

        Returns:
            Values (N, height, width, O) as the INRs give them; fits of images lie near [0, 1].

        Raises:
            UsageError: for INRs that have other than 2 inputs, or sizes that are not positive whole numbers.
        """
        if self.spec.in_dim != 2:
            raise UsageError(f"images renders INRs with 2 inputs, these have {self.spec.in_dim}; call them with coords")
        values = self(pixel_grid(height, width).to(self.device, self.dtype))
        return values.view(len(self), int(height), int(width), self.spec.out_dim)

    def activations(self, coords: Any) -> Iterator[Tensor]:
        """Yield coords, (P, I) or (N, P, I), with the positional encoding of the spec, if any, and the output of every
        layer, (N, P, O); the last outputs are the values."""
        coords = as_tensor(
            coords, "coords", "P I", "N P I", dtype=self.dtype, device=self.device, N=len(self), I=self.spec.in_dim
        )
        encoded = encode(self.spec, coords)
        encoded = encoded if encoded.dim() == 3 else encoded.expand(len(self), *encoded.shape)
        yield from layer_outputs(self.spec, encoded, self.weights, self.biases)

    def flatten(self) -> Tensor:
        """Return all parameters, (N, D) in the order of `SirenSpec.parameter_shapes`, as a new tensor."""
        pairs = zip(self.weights, self.biases, strict=True)
        return torch.cat([part.flatten(1) for pair in pairs for part in pair], dim=1)

    @classmethod
    def from_flat(cls, spec: SirenSpec, flat: Any) -> "INRBatch":
        """Make a batch of flat weights.

        Args:
            spec: the architecture.
            flat: tensor or numpy array (N, D), as `flatten` returns it. The batch's tensors are views into it.

        Raises:
            UsageError: where D is not the spec's number of parameters.
        """
        _require_spec(spec)
        flat = as_tensor(flat, "flat weights")
        if flat.dim() != 2 or flat.shape[1] != spec.num_parameters:
            raise UsageError(f"{spec} needs flat weights (N, {spec.num_parameters}), got {tuple(flat.shape)}")
        parts = torch.split(flat, list(spec.parameter_sizes), dim=1)
        shaped = [part.view(len(part), *shape) for part, (_, shape) in zip(parts, spec.parameter_shapes, strict=True)]
        return cls(spec, tuple(shaped[0::2]), tuple(shaped[1::2]))

    @classmethod
    def cat(cls, batches: Sequence["INRBatch"]) -> "INRBatch":
        """Concatenate batches of one spec.

        Raises UsageError for no batches, or batches of several specs.
        """
        if not isinstance(batches, tuple | list) or not all(isinstance(batch, cls) for batch in batches):
            raise UsageError(f"INRBatch.cat needs a list of INRBatches, got {shorten(batches)}")
        if not batches:
            raise UsageError("INRBatch.cat needs at least one batch, got none")
        spec = batches[0].spec
        if any(batch.spec != spec for batch in batches):
            raise UsageError(
                f"only INRs of one spec can be stacked, got {' and '.join(sorted({repr(b.spec) for b in batches}))}"
            )
        return cls.from_flat(spec, torch.cat([batch.flatten() for batch in batches]))

    def select(self, index: Tensor | slice) -> "INRBatch":
        """Return the INRs at index (K,), unchecked: views for a slice, else copies."""
        return INRBatch(self.spec, tuple(W[index] for W in self.weights), tuple(b[index] for b in self.biases))

    def to(self, device: torch.device | str | torch.dtype, non_blocking: bool = False) -> "INRBatch":
        """Return the batch on another device, or with another floating type. Raises UsageError for anything else."""
        try:
            kind = device if isinstance(device, torch.dtype) else torch.device(device)
        except (TypeError, RuntimeError, ValueError):
            kind = None
        if kind is None or (isinstance(kind, torch.dtype) and not kind.is_floating_point):
            raise UsageError(f"INRBatch.to takes a device or a floating type, got {shorten(device)}")
        if isinstance(kind, torch.device) and kind.type == "cuda":
            choose_device(kind)

        def move(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(tensor.to(device, non_blocking=non_blocking) for tensor in tensors)

        return INRBatch(self.spec, move(self.weights), move(self.biases))

    def save(self, path: str | Path) -> None:
        """Save the INRs, as float32, to one file that numpy reads, too: `format`, `spec` and `weights` (N, D).

        Args:
            path: the file, by custom NAME.npz. It appears complete; an older file of that name is replaced.

        Raises:
            UsageError: where the file cannot be written.
            ResourceError: where the disk is full.
        """
        write_batch(path, self.spec, self.flatten().detach().float().cpu().numpy())

    @classmethod
    def load(cls, path: str | Path) -> "INRBatch":
        """Load INRs that `save` wrote, on the CPU.

        Args:
            path: the file.

        Raises:
            UsageError: where there is no file.
            IntegrityError: where it is damaged, or was not written by `save`.
        """
        spec, weights = read_batch(path)
        return cls.from_flat(spec, weights)


def _require_spec(spec: Any) -> None:
    if not isinstance(spec, SirenSpec):
        raise UsageError(f"INRs need a SirenSpec, such as SirenSpec(2, 1, hidden_dim=32), got {shorten(spec)}")


def _as_index(index: Any) -> Tensor:
    try:
        array = np.array(index)
        if isinstance(index, tuple | bool | float) or np.ma.is_masked(index):
            raise TypeError
        return torch.from_numpy(array.astype(np.int64) if array.size == 0 or array.dtype.kind == "u" else array)
    except (TypeError, ValueError):
        raise UsageError(
            f"INRs are indexed by whole numbers, slices or masks, got {type(index).__name__} {str(index)[:50]!r}"
        ) from None
