"""INRs: stacked batches of them, their start values and their forward pass.

Shape letters: N INRs, P points, I inputs and O outputs of a layer, D parameters of one INR.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.forward_pass import hidden_layer, last_layer
from inr_factory.inr.spec import SirenSpec


@dataclass(frozen=True)
class INRBatch:
    """N INRs of one spec, stacked: weights (N, O, I) and biases (N, O) per layer. One INR is N = 1.

    Tensors may be views into one flat (N, D) tensor; nobody writes into them. Raises UsageError where a
    tensor's shape is not what the spec asks for.
    """

    spec: SirenSpec
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        shapes = self.spec.layer_shapes
        if len(self.weights) != len(shapes) or len(self.biases) != len(shapes):
            raise UsageError(
                f"{self.spec} has {len(shapes)} layers, got {len(self.weights)} weights and {len(self.biases)} biases"
            )
        count = self.weights[0].shape[0]
        for layer, ((outputs, inputs), W, b) in enumerate(zip(shapes, self.weights, self.biases, strict=True)):
            if tuple(W.shape) != (count, outputs, inputs) or tuple(b.shape) != (count, outputs):
                raise UsageError(
                    f"layer {layer} of {self.spec} needs weights {(count, outputs, inputs)} and biases "
                    f"{(count, outputs)}, got {tuple(W.shape)} and {tuple(b.shape)}"
                )

    def __len__(self) -> int:
        return self.weights[0].shape[0]

    @property
    def device(self) -> torch.device:
        return self.weights[0].device

    @property
    def dtype(self) -> torch.dtype:
        return self.weights[0].dtype

    def __call__(self, coords: Tensor) -> Tensor:
        """Evaluate every INR: coords (P, I), shared, or (N, P, I), one set each -> values (N, P, O)."""
        if coords.shape[-1] != self.spec.in_dim or coords.dim() not in (2, 3):
            raise UsageError(
                f"coords must be (P, {self.spec.in_dim}) or (N, P, {self.spec.in_dim}), got {tuple(coords.shape)}"
            )
        return deque(self.activations(coords), maxlen=1).pop()

    def activations(self, coords: Tensor) -> Iterator[Tensor]:
        """Coords, (P, I) or (N, P, I), and what every layer makes of them, (N, P, O) each; the last are the values."""
        hidden = coords if coords.dim() == 3 else coords.expand(len(self), *coords.shape)
        yield hidden
        for W, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = hidden_layer(self.spec, hidden, W, b)
            yield hidden
        yield last_layer(self.spec, hidden, self.weights[-1], self.biases[-1])

    def flatten(self) -> Tensor:
        """(N, D) in the order of `SirenSpec.parameter_shapes`, a new tensor."""
        pairs = zip(self.weights, self.biases, strict=True)
        return torch.cat([part.flatten(1) for pair in pairs for part in pair], dim=1)

    @classmethod
    def from_flat(cls, spec: SirenSpec, flat: Tensor) -> "INRBatch":
        """The batch whose tensors are views into flat (N, D). Raises UsageError where D is another spec's."""
        if flat.dim() != 2 or flat.shape[1] != spec.num_parameters:
            raise UsageError(f"{spec} needs flat weights (N, {spec.num_parameters}), got {tuple(flat.shape)}")
        parts = torch.split(flat, list(spec.parameter_sizes), dim=1)
        shaped = [part.view(len(part), *shape) for part, (_, shape) in zip(parts, spec.parameter_shapes, strict=True)]
        return cls(spec, tuple(shaped[0::2]), tuple(shaped[1::2]))

    @classmethod
    def cat(cls, batches: Sequence["INRBatch"]) -> "INRBatch":
        """The INRs of several batches of one spec, one after the other."""
        spec = batches[0].spec
        if any(batch.spec != spec for batch in batches):
            raise UsageError(
                f"only INRs of one spec can be stacked, got {' and '.join(sorted({repr(b.spec) for b in batches}))}"
            )
        return cls.from_flat(spec, torch.cat([batch.flatten() for batch in batches]))

    def select(self, index: Tensor | slice) -> "INRBatch":
        """The INRs at index (K,), in its order; for a slice views, else copies."""
        return INRBatch(self.spec, tuple(W[index] for W in self.weights), tuple(b[index] for b in self.biases))

    def to(self, device: torch.device | str | torch.dtype, non_blocking: bool = False) -> "INRBatch":
        def move(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(tensor.to(device, non_blocking=non_blocking) for tensor in tensors)

        return INRBatch(self.spec, move(self.weights), move(self.biases))


def start_bounds(spec: SirenSpec) -> Tensor:
    """(D,): every start value is uniform in ± its bound.

    - siren (Sitzmann et al. 2020): W_0 1/in, later weights sqrt(6/in)/omega_0, biases 1/sqrt(in).
    - dwsnets (the public corpora of Navon et al. 2023): weights of every sine layer sqrt(6/in)/omega_0, their
      biases 0; the last layer as torch.nn.Linear starts.
    - linear: every layer as torch.nn.Linear starts, 1/sqrt(in) for weights and biases.
    """
    bounds = []
    last = spec.num_hidden
    for layer, (outputs, inputs) in enumerate(spec.layer_shapes):
        default = inputs**-0.5
        sine = (6 / inputs) ** 0.5 / spec.omega_0
        if spec.start == "siren":
            weight, bias = (1 / inputs if layer == 0 else sine), default
        elif spec.start == "dwsnets" and layer < last:
            weight, bias = sine, 0.0
        else:
            weight, bias = default, default
        bounds += [torch.full((outputs * inputs,), weight), torch.full((outputs,), bias)]
    return torch.cat(bounds)


def start_values(spec: SirenSpec, seeds: Sequence[int]) -> INRBatch:
    """Fresh INRs, one a seed (0 <= seed < 2**63), on the CPU.

    Drawn from the counter-based generator Philox (Salmon et al., SC 2011) keyed by the seed alone, by its raw
    bits, so that they are the same on every device, in every batch and in every numpy.
    """
    count = spec.num_parameters
    raw = np.empty((len(seeds), (count + 1) // 2), dtype="<u8")
    for row, seed in zip(raw, seeds, strict=True):
        row[:] = np.random.Philox(key=int(seed)).random_raw(row.size)
    uniform = (raw.view("<u4")[:, :count] >> 8).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return INRBatch.from_flat(spec, torch.from_numpy(uniform) * start_bounds(spec))
