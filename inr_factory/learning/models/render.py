"""Render: reads pixels, by a small convolutional network on INRs that are rendered on a regular grid.

Shape letters: N INRs, R points of an axis of the grid, I inputs and O outputs of an INR.
"""

import torch
from torch import Tensor, nn

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.convolutions import STAGES, convolution_stages, read_grid, regular_grid
from inr_factory.learning.models.encoder import Encoder, check_batch_norm, check_kind

RESOLUTIONS = {1: 256, 2: 28, 3: 16}
"""Default points of an axis by the inputs of an INR."""
POINTS_AT_ONCE = 2**14  # of all INRs together: what their hidden layers hold stays in the cache


class RenderEncoder(Encoder):
    """Encoder of INRs, as fitted, rendered on a regular grid: three stages of convolution, batch norm, GELU and pooling.

    Not a reader of weights: it shows how much a network that sees the signal itself gets right, the ceiling of a table.
    Halved at each stage, the grid has hidden_dim, 2 and 4 times hidden_dim channels; means and maxima over the last
    grid are the result.

    Args:
        spec: The INRs' inputs, 1 to 3, outputs, number of layers and activation; any width is accepted.
        resolution: R, points of an axis, at least 4; by default 28 for images, 16 for shapes, 256 for signals of one
            coordinate.
        hidden_dim: Channels of the first stage.
        dropout: Share of the result set to zero in training, in [0, 1).

    Raises:
        UsageError: An option is out of range, or an INR has other inputs, outputs or another number of layers.
    """

    name = "render"
    function_only = True
    reads = "pixels"
    grid: Tensor

    def __init__(
        self, spec: SirenSpec, *, resolution: int | None = None, hidden_dim: int = 32, dropout: float = 0.2
    ) -> None:
        if spec.in_dim not in STAGES:
            raise UsageError(
                f"{self.name} takes INRs of 1 to 3 inputs, got {spec}; the encoder probes takes any number"
            )
        resolution = RESOLUTIONS[spec.in_dim] if resolution is None else resolution
        super().__init__(spec, resolution=resolution, hidden_dim=hidden_dim, dropout=dropout)
        self.features = 8 * hidden_dim
        grid = regular_grid(f"resolution of {self.name}", resolution, spec.in_dim)
        self.register_buffer("grid", grid, persistent=False)
        self.stages = convolution_stages(spec.in_dim, spec.out_dim, hidden_dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, inrs: INRBatch, original: INRBatch | None = None) -> Tensor:
        """(N, 8 * hidden_dim) features of N INRs, any width, as `original` has them."""
        original = inrs if original is None else original
        check_kind(self.name, self.spec, original)
        if self.training:
            check_batch_norm(self.name, original)
        size = max(1, POINTS_AT_ONCE // len(self.grid))
        values = torch.cat([original[i : i + size](self.grid) for i in range(0, len(original), size)])
        features: Tensor = self.drop(read_grid(self.stages, values.mT, self.options["resolution"], self.spec.in_dim))
        return features
