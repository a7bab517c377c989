"""Forward: sends features through an INR along its own weights, from its inputs to its outputs.

Shape letters: N INRs, I inputs and O outputs of a layer, F features.
"""

import torch
from torch import Tensor, nn

from inr_factory.errors import UsageError
from inr_factory.inr import INRBatch, SirenSpec
from inr_factory.models.encoder import Encoder, check_options


class ForwardEncoder(Encoder):
    """Layer by layer each neuron hears W f and W^2 f (entry by entry) of the neurons before it, and its bias; Linear, LayerNorm
    and GELU make its own features f of them. The inputs begin with one-hot features, the outputs' are the result.

    Message passing along the computation, as in the forward graphs of Kalogeropoulos et al. (ScaleGMN, NeurIPS 2024), cut
    down to one pass with messages that are linear in the weight and in its square, so that a layer is two products of
    matrices. What each neuron hears is divided by its norm over the layer: the scale of a layer does not count.

    Invariant to permutations of the neurons of each hidden layer. Raises UsageError for options out of range, and
    for INRs of other inputs, outputs or number of layers.
    """

    name = "forward"
    centred = False  # a weight of 0 says nothing, and is to stay so

    def __init__(self, spec: SirenSpec, *, hidden_dim: int = 64, dropout: float = 0.0) -> None:
        check_options(self.name, hidden_dim=hidden_dim, dropout=dropout)
        super().__init__(spec, hidden_dim=hidden_dim, dropout=dropout)
        self.features = hidden_dim * spec.out_dim
        heard = [2 * features + 1 for features in (spec.in_dim, *[hidden_dim] * spec.num_hidden)]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, hidden_dim), nn.LayerNorm(hidden_dim), nn.GELU(), nn.Dropout(dropout))
            for inputs in heard
        )

    def forward(self, inrs: INRBatch) -> Tensor:
        """(N, features) of N INRs, any width."""
        mine, theirs = self.spec, inrs.spec
        if (mine.in_dim, mine.out_dim, mine.num_hidden) != (theirs.in_dim, theirs.out_dim, theirs.num_hidden):
            raise UsageError(f"this {self.name} encoder reads INRs {mine}, of any width; got {theirs}")
        first = inrs.weights[0]
        f = torch.eye(mine.in_dim, dtype=first.dtype, device=first.device).expand(len(inrs), -1, -1)  # (N, I, F)
        for W, b, layer in zip(inrs.weights, inrs.biases, self.layers, strict=True):
            heard = [_scaled(part) for part in (W @ f, W.square() @ f, b.unsqueeze(-1))]
            f = layer(torch.cat(heard, dim=-1))
        return f.flatten(1)


def _scaled(x: Tensor) -> Tensor:
    """x (N, O, F) of each INR with the norm 1; nothing but zeros stays so."""
    size: Tensor = x.norm(dim=(1, 2), keepdim=True)
    return x / size.clamp_min(1e-12)
