"""Normalizer: brings the weights of INRs to mean 0 and standard deviation 1, layer by layer.

Shape letters: L layers of an INR.
"""

from collections.abc import Iterable
from dataclasses import asdict

import torch
from torch import Tensor, nn

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.transforms.call_arguments import require_batch


class Normalizer(nn.Module):
    """Standardises each layer by one mean and one std, weights and biases apart: INRBatch -> INRBatch.

    One number a layer, not one a position, so that it commutes with permutations of the neurons. Its buffers, (L,)
    each, are saved with the model's state. As constructed it changes nothing; `fit` estimates the numbers.

    Args:
        spec: The INRs that it is made for.
    """

    weight_mean: Tensor
    weight_std: Tensor
    bias_mean: Tensor
    bias_std: Tensor

    def __init__(self, spec: SirenSpec) -> None:
        super().__init__()
        self.spec = spec
        num_layers = spec.num_hidden + 1
        for name in ("weight", "bias"):
            self.register_buffer(f"{name}_mean", torch.zeros(num_layers))
            self.register_buffer(f"{name}_std", torch.ones(num_layers))

    @classmethod
    def fit(cls, spec: SirenSpec, batches: Iterable[INRBatch]) -> "Normalizer":
        """Estimate the statistics over all INRs of all batches, in one pass; a layer without spread gets std 1.

        Sums in double precision, merged by Chan, Golub and LeVeque (1983).

        Args:
            spec: The INRs that the normalizer is made for.
            batches: INRs of the training split.

        Returns:
            The normalizer, on the CPU.

        Raises:
            UsageError: A batch has INRs of another spec, NaN or infinite weights, or there is no INR at all.
        """
        shape = (2, spec.num_hidden + 1)  # weights, biases
        count, mean, square = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
        for inrs in batches:
            check_spec(spec, inrs, "these statistics are")
            tensors = [tensor.detach().double().cpu() for tensor in (*inrs.weights, *inrs.biases)]
            sizes = torch.tensor([tensor.numel() for tensor in tensors], dtype=torch.float64).view(shape)
            means = torch.stack([tensor.mean() for tensor in tensors]).view(shape)
            squares = torch.stack([(tensor - tensor.mean()).square().sum() for tensor in tensors]).view(shape)
            total, shift = count + sizes, means - mean
            square += squares + shift.square() * count * sizes / total
            mean += shift * sizes / total
            count = total
        if not bool((count > 0).all()):
            raise UsageError("a normalizer needs at least one INR of the training split, got none")
        if not bool(mean.isfinite().all() and square.isfinite().all()):
            raise UsageError("the training split has INRs with NaN or infinite weights; run `inr-factory verify` on it")
        std = (square / count).sqrt()
        normalizer = cls(spec)
        normalizer.weight_mean, normalizer.bias_mean = mean.float()
        normalizer.weight_std, normalizer.bias_std = torch.where(std > 1e-12, std, 1.0).float()
        return normalizer

    def forward(self, inrs: INRBatch, centred: bool = True) -> INRBatch:
        """The same INRs, standardised; their spec is kept although they no longer render.

        Not `centred`, each layer is only divided by its root mean square, which commutes with signs, too.
        """
        means = torch.stack([self.weight_mean, self.bias_mean])
        stds = torch.stack([self.weight_std, self.bias_std])
        if not centred:
            means, stds = torch.zeros_like(means), torch.hypot(means, stds)
        (weight_mean, bias_mean), (weight_std, bias_std) = means.unbind(), stds.unbind()
        weights = zip(inrs.weights, weight_mean, weight_std, strict=True)
        biases = zip(inrs.biases, bias_mean, bias_std, strict=True)
        return INRBatch(
            inrs.spec,
            tuple((W - mean) / std for W, mean, std in weights),
            tuple((b - mean) / std for b, mean, std in biases),
        )


def check_spec(spec: SirenSpec, inrs: INRBatch, subject: str) -> None:
    """Raise UsageError unless the INRs are of this spec; `subject` begins the sentence."""
    require_batch(inrs, "a model")
    if inrs.spec == spec:
        return
    made_for, got = asdict(spec), asdict(inrs.spec)
    fields = [name for name in made_for if made_for[name] != got[name]]
    expected, given = (", ".join(f"{name} {values[name]}" for name in fields) for values in (made_for, got))
    raise UsageError(f"{subject} for INRs of {expected}, got {given}; fit or import INRs of that spec, or train again")


def check_finite(inrs: INRBatch) -> None:
    """Raise UsageError unless all weights are finite."""
    tensors: Iterable[Tensor] = (*inrs.weights, *inrs.biases)
    finite = torch.stack([tensor.isfinite().flatten(1).all(1) for tensor in tensors]).all(0)
    if not bool(finite.all()):
        raise UsageError(
            f"{int((~finite).sum())} of {len(inrs)} INRs of a batch have NaN or infinite weights; "
            "run `inr-factory verify` on the data set, and check the transforms"
        )
