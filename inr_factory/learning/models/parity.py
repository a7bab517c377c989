"""Parity: sends features of known parity through an INR along its own weights, from its inputs to its outputs.

Shape letters: N INRs, I inputs and O outputs of a layer, F features, P points.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.forward_pass import activate, encode
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.convolutions import STAGES, convolution_stages, read_grid, regular_grid
from inr_factory.learning.models.encoder import Encoder, check_batch_norm, check_kind

MAPS = 8
"""Channels of `grid` besides those that show the INR."""


class ParityEncoder(Encoder):
    """Encoder whose features are odd or even in the signs of neurons, so that no symmetry of a SIREN changes its result.

    Each neuron has odd features o, which change sign with the neuron, and even features e, which do not. Layer by layer
    it receives the messages W o and W^2 e (entry by entry) of the layer before and maps them to features of its own;
    the features of the outputs are the result.

    A neuron sin(omega_0 (W x + b)) is minus the one with -W and -b, and minus the one half a turn of its phase omega_0 b
    away. With E even and D odd in the messages, o = sin(phase) E + cos(phase) D follows it exactly, as
    sin(a + b) = sin(b) cos(a) + cos(b) sin(a) does. So the features are invariant to permutations, signs and phases of
    hidden neurons, without a canonical form.

    Message passing along the computation and features by their parity are the ideas of ScaleGMN (Kalogeropoulos et al.,
    NeurIPS 2024), reduced to one pass with messages that are linear in a weight and in its square: a layer is two
    matrix products. INRs of another odd activation f, tanh or FINER, have f(b) and 1 for sin(phase) and
    cos(phase), which follows signs. INRs with ReLU or Gaussians have one kind of features, and their biases are messages
    without a phase: such features are invariant to permutations.

    Args:
        spec: The INRs' inputs, outputs, number of layers and activation; any width is accepted.
        hidden_dim: Features of a neuron.
        points: The odd features of the first layer start as its neurons' values at `hidden_dim` learned points of
            [-1, 1]^I. Such an encoder can learn to look at what the INR shows, as probes do (Kofinas et al., ICLR
            2024). Odd activations only.
        amplitudes: The result also depends on the logarithms of the norms of the last three messages, and on the biases
            of the outputs. Without them, contrast and brightness do not change it.
        sine_path: From the second layer on, sin(omega_0 (M W o + b)), or another activation, is added to the odd
            features, as the INR computes it; M, learned, starts as the identity. Such an encoder can learn to probe, too:
            compare it with encoders of weights alone only without it. Odd activations only.
        frequencies: K. The first layer takes each weight w as sin(omega_0 w k / K), odd, and cos(omega_0 w k / K), even,
            for k = 1 to K, as neural graphs and ScaleGMN embed weights; layers get linear paths past their wider MLPs,
            and the readout is deeper. 0: the encoder of version 0.1, which takes w and w^2. Odd activations only; tanh has
            no omega_0.
        dropout: Share of hidden values set to zero in training, in [0, 1); with frequencies those of the readout alone.
        grid: R, at least 4. A linear layer also lays the last messages out on a regular grid of R points an axis, which
            is read as `render` reads pixels. The first channels are the encoder's `picture`: trained with `decode`, they
            show the INR as far as weights tell. For INRs of 1 to 3 inputs. 0: none.

    Raises:
        UsageError: An option is out of range, or an INR has other inputs, outputs or another number of layers.
    """

    name = "parity"
    centred = False  # a weight of 0 carries no message, and signs must stay exact
    former_options: ClassVar[Mapping[str, Any]] = {"amplitudes": False, "sine_path": True, "frequencies": 0, "grid": 0}

    def __init__(
        self,
        spec: SirenSpec,
        *,
        hidden_dim: int = 64,
        points: bool = False,
        amplitudes: bool = True,
        sine_path: bool = True,
        frequencies: int = 0,
        dropout: float = 0.0,
        grid: int = 0,
    ) -> None:
        flags = {"points": points, "amplitudes": amplitudes, "sine_path": sine_path}
        super().__init__(spec, hidden_dim=hidden_dim, dropout=dropout, frequencies=frequencies, grid=grid, **flags)
        for option, value in flags.items():
            if not isinstance(value, bool):
                raise UsageError(f"{option} of {self.name} must be true or false, got {value!r}")
        if points and not spec.is_odd:
            raise UsageError(
                f"points of {self.name} must be false for INRs of activations that are not odd, such as {spec}; got {points!r}"
            )
        first = 2 * torch.rand(hidden_dim, spec.in_dim) - 1 if points else None
        later = torch.eye(hidden_dim) if sine_path else None
        probe_mixes = (first, *[later] * (spec.num_hidden - 1))
        evaluates = spec.is_odd and any(mix is not None for mix in probe_mixes)
        self.reads = "weights and probes" if evaluates else "weights"
        embedded = self.embedded = spec.is_odd and frequencies > 0
        inputs = (spec.encoded_dim * max(1, frequencies * embedded), *[hidden_dim] * (spec.num_hidden - 1))
        self.layers = nn.ModuleList(
            _OddNeurons(spec, depth, width, hidden_dim, 0.0 if embedded else dropout, mix, wide=embedded)
            if spec.is_odd
            else _Neurons(width, hidden_dim, dropout)
            for depth, (width, mix) in enumerate(zip(inputs, probe_mixes, strict=True))
        )
        messages = 2 * hidden_dim + (5 if amplitudes else 1)
        widths = (messages, *[4 * hidden_dim] * 3) if embedded else (messages, 2 * hidden_dim)
        self.last = nn.Sequential()
        for size, out in pairwise(widths):
            self.last.extend([nn.Linear(size, out), nn.LayerNorm(out), nn.GELU(), nn.Dropout(dropout)])
        if not embedded:
            self.last.extend([nn.Linear(2 * hidden_dim, hidden_dim), nn.GELU()])
        self.features = (4 * hidden_dim + messages if embedded else hidden_dim) * spec.out_dim
        if type(grid) is not int or grid:
            if spec.in_dim not in STAGES:
                raise UsageError(f"grid of {self.name} must be 0 for INRs of more than 3 inputs, got {spec}")
            self.picture = regular_grid(f"grid of {self.name}", grid, spec.in_dim)
            channels = spec.out_dim + MAPS
            self.maps = nn.Linear(messages * spec.out_dim, channels * len(self.picture))
            self.stages = convolution_stages(spec.in_dim, channels, max(1, hidden_dim // 2))
            self.features += 8 * max(1, hidden_dim // 2) + spec.out_dim * len(self.picture)

    def forward(self, inrs: INRBatch, original: INRBatch | None = None) -> Tensor:
        """(N, features) of N INRs, any width; phases and sines are those of `original`."""
        original = inrs if original is None else original
        return self.readout(self.neurons(inrs, original)[-1], inrs, original)

    def neurons(self, inrs: INRBatch, original: INRBatch) -> list["Neurons"]:
        """The features of every hidden layer, from the first on."""
        check_kind(self.name, self.spec, inrs)
        weights, biases, omega = original.weights, original.biases, _omega(inrs.spec)
        odd, even, angle = inrs.weights[0], inrs.weights[0].square(), omega * weights[0]
        if self.embedded:
            steps = torch.arange(1, self.options["frequencies"] + 1, device=angle.device) / self.options["frequencies"]
            angles = (angle.unsqueeze(-1) * steps.to(angle.dtype)).flatten(2)
            odd, even = angles.sin(), angles.cos()
        result: list[Neurons] = []
        for depth, layer in enumerate(self.layers):
            if depth:
                angle = omega * (weights[depth] @ odd)
                odd, even = _scaled(angle), _scaled(weights[depth].square() @ even)
            phase = omega * biases[depth].unsqueeze(-1)
            neurons = layer(odd, even, angle, phase)
            odd, even = neurons.odd, neurons.even
            result.append(neurons)
        return result

    def readout(self, neurons: "Neurons", inrs: INRBatch, original: INRBatch) -> Tensor:
        """(N, features) of the features of the last hidden layer."""
        weights, biases = original.weights, original.biases
        messages = (
            weights[-1] @ neurons.odd,
            weights[-1].square() @ neurons.even,
            biases[-1].unsqueeze(-1),
        )
        parts = [(_scaled if self.embedded else _unit)(message) for message in messages]
        if self.options["amplitudes"]:
            norms = [message.norm(dim=(1, 2), keepdim=True) for message in messages]
            parts += [norm.clamp_min(1e-6).log().expand_as(messages[-1]) for norm in norms]
            parts.append(inrs.biases[-1].unsqueeze(-1))
        last_messages = torch.cat(parts, dim=-1)
        features: list[Tensor] = [self.last(last_messages), *[last_messages] * self.embedded]
        if self.picture is not None:
            if self.training:
                check_batch_norm(self.name, inrs)
            maps = self.maps(last_messages.flatten(1)).unflatten(1, (-1, len(self.picture)))
            features.append(read_grid(self.stages, maps, self.options["grid"], self.spec.in_dim))
            features.append(maps[:, : self.spec.out_dim].mT)
        return torch.cat([part.flatten(1) for part in features], dim=1)


class Neurons(NamedTuple):
    """Features of a hidden layer: odd and even (N, O, F), its phases (N, O, 1), and its linear parts at the F points of
    the sine path, in radians; without one, the phases."""

    odd: Tensor
    even: Tensor
    phase: Tensor
    linear: Tensor


class _OddNeurons(nn.Module):
    """A layer of sines or another odd activation: messages odd, even and `angle` (N, O, I), phases (N, O, 1) -> Neurons.

    `angle` is the odd message before it is scaled, in radians; `probe_mix` mixes it into the input of the activation:
    (F, I), or of the first layer, depth 0, F points in the coordinates of the INR.
    """

    def __init__(
        self,
        spec: SirenSpec,
        depth: int,
        inputs: int,
        hidden_dim: int,
        dropout: float,
        probe_mix: Tensor | None,
        wide: bool,
    ) -> None:
        super().__init__()
        self.spec, self.depth = spec, depth
        width = 2 * hidden_dim if wide else hidden_dim
        self.odd = nn.Linear(inputs, width, bias=False)
        self.even = nn.Linear(inputs, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, 2 * hidden_dim),
        )
        self.past_odd = nn.Linear(inputs, hidden_dim, bias=False) if wide else None
        self.past_even = nn.Linear(inputs, hidden_dim) if wide else None
        # Checkpoints of version 1 hold the probe mix as "look".
        self.look = None if probe_mix is None else nn.Parameter(probe_mix)

    def forward(self, odd: Tensor, even: Tensor, angle: Tensor, phase: Tensor) -> Neurons:
        wide_odd, wide_even = self.odd(odd), self.even(even)
        plus, minus = self.mlp(torch.stack([wide_even + wide_odd, wide_even - wide_odd]))
        (kept, kept_even), (turned, turned_even) = (plus + minus).chunk(2, dim=-1), (plus - minus).chunk(2, dim=-1)
        if self.past_odd is not None and self.past_even is not None:
            kept, turned = kept + self.past_even(even), turned + self.past_odd(odd)
        sine = self._values(phase)
        cosine = phase.cos() if self.spec.activation == "sine" else torch.ones_like(phase)
        odd = sine * kept + cosine * turned
        linear = phase
        if self.look is not None:
            mix = self.look if self.depth else encode(self.spec, self.look)
            linear = angle @ mix.mT + phase
            odd = odd + self._values(linear)
        return Neurons(odd, cosine * (cosine * kept_even + sine * turned_even), phase, linear)

    def _values(self, angle: Tensor) -> Tensor:
        """What neurons compute of their linear parts times `_omega`."""
        return angle.sin() if self.spec.activation == "sine" else activate(self.spec, angle / _omega(self.spec))


class _Neurons(nn.Module):
    """A layer of other neurons, with the same arguments: one kind of features, returned twice."""

    def __init__(self, inputs: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(2 * inputs + 1, hidden_dim),
            nn.LayerNorm(hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
        )

    def forward(self, odd: Tensor, even: Tensor, angle: Tensor, phase: Tensor) -> Neurons:
        f = self.mlp(torch.cat([odd, even, phase], dim=-1))
        return Neurons(f, f, phase, phase)


def _omega(spec: SirenSpec) -> float:
    """What linear parts are multiplied by before they are features: omega_0, where the activation has one."""
    return spec.omega_0 if spec.has_omega_0 else 1.0


def _unit(x: Tensor) -> Tensor:
    """x (N, O, F), each INR divided by its norm; an INR of zeros stays."""
    size: Tensor = x.norm(dim=(1, 2), keepdim=True)
    return x / size.clamp_min(1e-12)


def _scaled(x: Tensor) -> Tensor:
    """x (N, O, F), each INR scaled to root mean square 1."""
    return _unit(x) * math.sqrt(x[0].numel())
