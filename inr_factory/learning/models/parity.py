"""Forward: sends features through an INR along its own weights, from its inputs to its outputs.

Shape letters: N INRs, I inputs and O outputs of a layer, F features, P points.
"""

import math

import torch
from torch import Tensor, nn

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.encoder import Encoder, check_options


class ForwardEncoder(Encoder):
    """Each neuron has features that change their sign with it, odd ones o, and others that do not, even ones e. Layer by
    layer it hears W o and W^2 e (entry by entry) of the neurons before it, makes its own of them, and the outputs' are the
    result. In layers with features before them omega_0 (W o + b) is also sent through a sine, as the INR does.

    A neuron sin(omega_0 (W x + b)) is minus the one with -W and -b, and minus the one half a turn of its phase omega_0 b
    away. With E even and D odd in what is heard, o = sin(phase) E + cos(phase) D follows it exactly, as
    sin(a + b) = sin(b) cos(a) + cos(b) sin(a) does. So the features are invariant to permutations, signs and phases of
    hidden neurons, without a canonical form.

    Message passing along the computation and features by their parity are the ideas of ScaleGMN (Kalogeropoulos et al.,
    NeurIPS 2024), cut down to one pass with messages that are linear in a weight and in its square: a layer is two
    products of matrices. For INRs with ReLU there is one kind of features, and biases are heard as they are.

    points: the first layer's odd features begin as its neurons' values at `hidden_dim` learned points of [-1, 1]^I. Such
    an encoder can learn to look at what the INR shows, as probes do (Kofinas et al., ICLR 2024). Sines only.

    Raises UsageError for options out of range, and for INRs of other inputs, outputs or number of layers.
    """

    name = "forward"
    centred = False  # a weight of 0 says nothing, and signs are to stay

    def __init__(self, spec: SirenSpec, *, hidden_dim: int = 64, points: bool = False, dropout: float = 0.0) -> None:
        check_options(self.name, hidden_dim=hidden_dim, dropout=dropout)
        sine = spec.activation == "sine"
        if not isinstance(points, bool) or (points and not sine):
            raise UsageError(f"points of {self.name} must be true or false, and false for {spec}; got {points!r}")
        super().__init__(spec, hidden_dim=hidden_dim, points=points, dropout=dropout)
        self.features = hidden_dim * spec.out_dim
        first = 2 * torch.rand(hidden_dim, spec.in_dim) - 1 if points else None
        looks = (first, *[torch.eye(hidden_dim)] * (spec.num_hidden - 1))
        heard = (spec.in_dim, *[hidden_dim] * (spec.num_hidden - 1))
        self.layers = nn.ModuleList(
            _SineNeurons(inputs, hidden_dim, dropout, look) if sine else _Neurons(inputs, hidden_dim, dropout)
            for inputs, look in zip(heard, looks, strict=True)
        )
        self.last = nn.Sequential(
            nn.Linear(2 * hidden_dim + 1, 2 * hidden_dim),
            nn.LayerNorm(2 * hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * hidden_dim, hidden_dim),
            nn.GELU(),
        )

    def read(self, normal: INRBatch, original: INRBatch) -> Tensor:
        return self(normal, original)  # type: ignore[no-any-return]

    def forward(self, inrs: INRBatch, original: INRBatch | None = None) -> Tensor:
        """(N, features) of N INRs, any width; `original` are those whose phases and sines are taken."""
        mine, theirs = self.spec, inrs.spec
        if (mine.in_dim, mine.out_dim, mine.num_hidden) != (theirs.in_dim, theirs.out_dim, theirs.num_hidden):
            raise UsageError(f"this {self.name} encoder reads INRs {mine}, of any width; got {theirs}")
        original = inrs if original is None else original
        weights, biases, omega = original.weights, original.biases, theirs.omega_0
        odd, even, angle = inrs.weights[0], inrs.weights[0].square(), omega * weights[0]
        for depth, layer in enumerate(self.layers):
            if depth:
                angle = omega * (weights[depth] @ odd)
                odd, even = _scaled(angle), _scaled(weights[depth].square() @ even)
            odd, even = layer(odd, even, angle, omega * biases[depth].unsqueeze(-1))
        heard = [_unit(part) for part in (weights[-1] @ odd, weights[-1].square() @ even, biases[-1].unsqueeze(-1))]
        read: Tensor = self.last(torch.cat(heard, dim=-1))
        return read.flatten(1)


class _SineNeurons(nn.Module):
    """A layer of sines: odd, even and `angle` (N, O, I) as heard, phases (N, O, 1) -> odd and even features (N, O, F).

    `angle` is what is odd before it is scaled, in radians; `look` (F, I) mixes it into what is sent through the sine.
    """

    def __init__(self, inputs: int, hidden_dim: int, dropout: float, look: Tensor | None) -> None:
        super().__init__()
        self.odd = nn.Linear(inputs, hidden_dim, bias=False)
        self.even = nn.Linear(inputs, hidden_dim)
        self.mlp = nn.Sequential(
            nn.LayerNorm(hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, 2 * hidden_dim),
        )
        self.look = None if look is None else nn.Parameter(look)

    def forward(self, odd: Tensor, even: Tensor, angle: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
        odd, even = self.odd(odd), self.even(even)
        plus, minus = self.mlp(torch.stack([even + odd, even - odd]))
        (kept, kept_even), (turned, turned_even) = (plus + minus).chunk(2, dim=-1), (plus - minus).chunk(2, dim=-1)
        sine, cosine = phase.sin(), phase.cos()
        odd = sine * kept + cosine * turned
        if self.look is not None:
            odd = odd + torch.sin(angle @ self.look.mT + phase)
        return odd, cosine * (cosine * kept_even + sine * turned_even)


class _Neurons(nn.Module):
    """A layer of other neurons, with the same arguments: one kind of features, for both."""

    def __init__(self, inputs: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(2 * inputs + 1, hidden_dim),
            nn.LayerNorm(hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
        )

    def forward(self, odd: Tensor, even: Tensor, angle: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
        f = self.mlp(torch.cat([odd, even, phase], dim=-1))
        return f, f


def _unit(x: Tensor) -> Tensor:
    """x (N, O, F) of each INR with the norm 1; nothing but zeros stays so."""
    size: Tensor = x.norm(dim=(1, 2), keepdim=True)
    return x / size.clamp_min(1e-12)


def _scaled(x: Tensor) -> Tensor:
    """x (N, O, F) of each INR with the root mean square 1."""
    return _unit(x) * math.sqrt(x[0].numel())
