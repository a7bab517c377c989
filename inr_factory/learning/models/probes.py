"""Probes: reads the function of INRs, by their values at learned points. Not the probes of features, training/probes.py.

Shape letters: N INRs, K points, I inputs and O outputs of an INR.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.quasirandom import SobolEngine

from inr_factory.errors import UsageError, shorten
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.encoder import Encoder, check_batch_norm, check_kind

CODE_DIM = 32


class ProbesEncoder(Encoder):
    """Encoder of the values that INRs, as fitted, have at K learned points: two INRs of one function have one result.

    It sees no weight, so that neither symmetries nor initialisations matter; every value costs a forward pass of the
    INR. Learned points are of Kofinas et al. (ICLR 2024), points made by a linear generator, values into an MLP, of
    ProbeGen (Kahana et al., 2024).

    Args:
        spec: The INRs' inputs, outputs, number of layers and activation; any width is accepted.
        num_probes: K.
        hidden_dim: Width of the MLP, num_layers of Linear, batch norm, GELU and dropout on standardised values.
        num_layers: Layers of the MLP.
        dropout: Share of hidden values set to zero in training, in [0, 1).
        generator: K learned codes of 32 numbers become points by two Linears, without an activation between them.
            Else the points themselves are learned, and start evenly spread.

    Raises:
        UsageError: An option is out of range, or an INR has other inputs, outputs or another number of layers.
    """

    name = "probes"
    function_only = True
    reads = "function"

    def __init__(
        self,
        spec: SirenSpec,
        *,
        num_probes: int = 256,
        hidden_dim: int = 512,
        num_layers: int = 3,
        dropout: float = 0.3,
        generator: bool = False,
    ) -> None:
        super().__init__(
            spec, num_probes=num_probes, hidden_dim=hidden_dim, num_layers=num_layers, dropout=dropout,
            generator=generator,
        )  # fmt: skip
        if num_probes < 1:
            raise UsageError(f"num_probes of {self.name} must be at least 1, got {num_probes}")
        if not isinstance(generator, bool):
            raise UsageError(f"generator of {self.name} must be true or false, got {shorten(generator)}")
        self.features = hidden_dim
        self.points = PointGenerator(num_probes, spec.in_dim) if generator else FreePoints(num_probes, spec.in_dim)
        widths = [num_probes * spec.out_dim, *[hidden_dim] * num_layers]
        parts: list[nn.Module] = [nn.BatchNorm1d(widths[0], affine=False)]  # distances and colours differ in scale
        for before, after in pairwise(widths):
            parts += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.GELU(), nn.Dropout(dropout)]
        self.mlp = nn.Sequential(*parts)

    def forward(self, inrs: INRBatch, original: INRBatch | None = None) -> Tensor:
        """(N, hidden_dim) features of N INRs, any width, as `original` has them."""
        original = inrs if original is None else original
        check_kind(self.name, self.spec, original)
        if self.training:
            check_batch_norm(self.name, original)
        features: Tensor = self.mlp(original(self.points()).flatten(1))
        return features


class FreePoints(nn.Module):
    """K points (K, I), learned; they start evenly spread over [-1, 1]^I, as a scrambled Sobol sequence."""

    def __init__(self, num_points: int, in_dim: int) -> None:
        super().__init__()
        sequence = SobolEngine(in_dim, scramble=True, seed=int(torch.randint(2**31, ())))  # type: ignore[no-untyped-call]
        self.coords = nn.Parameter(2 * sequence.draw(num_points) - 1)

    def forward(self) -> Tensor:
        return self.coords


class PointGenerator(nn.Module):
    """K points (K, I), two Linears of learned codes; they start with the spread of uniform points in [-1, 1]^I."""

    def __init__(self, num_points: int, in_dim: int) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.randn(num_points, CODE_DIM))
        last = nn.Linear(CODE_DIM, in_dim, bias=False)
        self.linears = nn.Sequential(nn.Linear(CODE_DIM, CODE_DIM), last)
        with torch.no_grad():
            last.weight.div_(math.sqrt(3) * self.forward().square().mean().sqrt())

    def forward(self) -> Tensor:
        points: Tensor = self.linears(self.codes)
        return points
