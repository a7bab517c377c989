"""MLP: takes the flat weights. A sanity check, the baseline for the value of symmetry."""

from torch import Tensor, nn

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.encoder import Encoder, check_batch_norm, check_kind


class MLPEncoder(Encoder):
    """Linear and ReLU, then num_hidden times Linear, batch normalisation (optional), ReLU, over the (N, D) weights.

    The baseline of Navon et al. (ICML 2023). It is **not** symmetric under permutation of hidden neurons: the same
    function with its neurons in another order gives other features, and its parameters fit one width alone.

    Raises UsageError for options out of range and for INRs whose layers have other shapes.
    """

    name = "mlp"

    def __init__(
        self,
        spec: SirenSpec,
        *,
        hidden_dim: int = 256,
        num_hidden: int = 2,
        batch_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(spec, hidden_dim=hidden_dim, num_hidden=num_hidden, batch_norm=batch_norm, dropout=dropout)
        self.features = hidden_dim
        layers: list[nn.Module] = [nn.Linear(spec.num_parameters, hidden_dim), nn.ReLU()]
        for _ in range(num_hidden):
            norm = nn.BatchNorm1d(hidden_dim) if batch_norm else nn.Identity()
            layers += [nn.Linear(hidden_dim, hidden_dim), norm, nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, inrs: INRBatch, original: INRBatch | None = None) -> Tensor:
        """(N, hidden_dim) features of N INRs."""
        check_kind(self.name, self.spec, inrs, any_width=False)
        if self.training and self.options["batch_norm"]:
            check_batch_norm(self.name, inrs)
        features: Tensor = self.layers(inrs.flatten())
        return features
