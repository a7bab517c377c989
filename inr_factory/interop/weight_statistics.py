"""Weight statistics: the statistics.pth of DWSNets and neural graphs, mean and std of each weight and bias over a corpus.

{"weights": {"mean": [...], "std": [...]}, "biases": ...}, a tensor a layer, transposed: (I, O, 1) and (O, 1).
"""

import io
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec


@dataclass
class Statistics:
    """Running sums over the INRs of a training split."""

    spec: SirenSpec
    count: int = 0
    sums: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, inrs: INRBatch) -> None:
        for kind, tensors in (("weights", inrs.weights), ("biases", inrs.biases)):
            values = [tensor.double().mT if kind == "weights" else tensor.double() for tensor in tensors]
            for power in (1, 2):
                before = self.sums.get(f"{kind}{power}", [torch.zeros(())] * len(values))
                added = [(v**power).sum(dim=0) for v in values]
                self.sums[f"{kind}{power}"] = [total + more for total, more in zip(before, added, strict=True)]
        self.count += len(inrs)

    def fields(self) -> dict[str, dict[str, list[Tensor]]]:
        """Means and unbiased standard deviations, float32."""
        fields = {}
        for kind in ("weights", "biases"):
            means = [total / self.count for total in self.sums[f"{kind}1"]]
            squares = [total / self.count for total in self.sums[f"{kind}2"]]
            unbiased = self.count / max(self.count - 1, 1)
            stds = [(s - m**2).clamp(min=0).mul(unbiased).sqrt() for s, m in zip(squares, means, strict=True)]
            fields[kind] = {
                "mean": [m.float().unsqueeze(-1) for m in means],
                "std": [s.float().unsqueeze(-1) for s in stds],
            }
        return fields

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        torch.save(self.fields(), buffer)
        return buffer.getvalue()
