"""Optimizers of training, by their names."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Muon, Optimizer

from inr_factory.errors import UsageError
from inr_factory.learning.models.normalized_encoder import NormalizedEncoder
from inr_factory.learning.training.run_config import RunConfig


class MuonAdamW(Optimizer):
    """Muon for matrices and AdamW for all other parameters, as one optimizer; the learning rate is set in each step.

    Muon (Jordan et al. 2024) steps along the orthogonalised momentum. Its steps are scaled to the size of those of AdamW
    (Liu et al. 2025), so that both share learning rate and weight decay.

    Args:
        matrices: Parameters (O, I).
        others: Groups of all other parameters.
        weight_decay: Of both.
    """

    def __init__(self, matrices: Sequence[Tensor], others: Iterable[dict[str, Any]], weight_decay: float) -> None:
        muon = Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.parts = (muon, AdamW(others, weight_decay=weight_decay, amsgrad=True, fused=True))
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let both parts use the groups and the state of this optimizer."""
        for part, groups in zip(self.parts, (self.param_groups[:1], self.param_groups[1:]), strict=True):
            part.param_groups, part.state = groups, self.state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for part in self.parts:
            part.step()  # type: ignore[no-untyped-call]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()


def build_optimizer(config: RunConfig, model: NormalizedEncoder, extra: Sequence[nn.Parameter] = ()) -> Optimizer:
    """The optimizer of a run for a model and for `extra` parameters, which have no weight decay.

    "muon" updates the weights of hidden linear layers by Muon and all else by AdamW. "adamw" has amsgrad, "adam"
    adds its weight decay to the gradient (L2). Raises UsageError for "muon" where the encoder has no linear layer.
    """
    decay = config.weight_decay
    further = [{"params": list(extra), "weight_decay": 0.0}] if extra else []
    if config.optimizer == "muon":
        if not (matrices := [layer.weight for layer in model.hidden_layers]):
            raise UsageError(f"muon updates linear layers, of which {model.encoder.name} has none; take adamw")
        known = set(map(id, matrices))
        others = [parameter for parameter in model.parameters() if id(parameter) not in known]
        return MuonAdamW(matrices, [{"params": others}, *further], decay)
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}, *further]
    if config.optimizer == "adam":
        return Adam(groups, weight_decay=decay, fused=True)
    return AdamW(groups, weight_decay=decay, amsgrad=True, fused=True)
