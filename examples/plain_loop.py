"""A plain PyTorch loop on a set of INRs, with a model of your own. `python examples/plain_loop.py DATASET [EPOCHS]`."""

import sys

import torch
from torch import Tensor, nn

import inr_factory as inr


class AlongWeights(nn.Module):
    """Passes features of width F through the INR along its own weights, so that the order of neurons has no effect."""

    def __init__(self, spec: inr.SirenSpec, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.spec = spec
        sizes = [spec.in_dim] + [width] * spec.num_hidden
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * size + 1, width), nn.LayerNorm(width), nn.GELU()) for size in sizes
        )
        self.head = nn.Linear(width * spec.out_dim, num_classes)

    def forward(self, flat: Tensor) -> Tensor:
        """Weights (N, D) -> logits (N, C)."""
        inrs = inr.INRBatch.from_flat(self.spec, flat)
        features = torch.eye(self.spec.in_dim).expand(len(flat), -1, -1)  # (N, I, F) of each layer's inputs
        for W, b, layer in zip(inrs.weights, inrs.biases, self.layers, strict=True):
            along = [W @ features, W.square() @ features, b[..., None]]
            features = layer(torch.cat([part / part.norm(dim=(1, 2), keepdim=True) for part in along], dim=-1))
        return self.head(features.flatten(1))


@torch.no_grad()
def accuracy(model: nn.Module, data: inr.INRDataset) -> float:
    model.eval()
    batches = inr.INRLoader(data, batch_size=512, shuffle=False, transform=inr.Canonicalize())
    correct = sum((model(inrs.flatten()).argmax(1) == targets.argmax(1)).sum() for inrs, targets in batches)
    return float(correct) / len(data)


def main(path: str, epochs: int) -> None:
    torch.manual_seed(0)
    train, test = inr.open(path, split="train"), inr.open(path, split="test", views=1)
    transform = inr.parse_transform("canonical+noise:scale=0.1")
    loader = inr.INRLoader(train, batch_size=64, transform=transform, mixup=inr.MixUp(match="phase", probability=0.5))
    model = AlongWeights(train.spec, train.num_classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(epochs):
        model.train()
        for inrs, targets in loader:  # INRBatch of N INRs, targets (N, C): mixed, so not one-hot
            loss = nn.functional.cross_entropy(model(inrs.flatten()), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss:.3f}, test accuracy {accuracy(model, test):.1%}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "inrs/digits", int(sys.argv[2]) if len(sys.argv) > 2 else 30)
