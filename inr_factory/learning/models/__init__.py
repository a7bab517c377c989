"""Models: encoders that read INRs, by name, and the classifier built on one; the contrastive head is in contrastive.py.

Shape letters: N INRs, L layers of an INR, F features, C classes.
"""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from inr_factory.errors import UsageError, did_you_mean
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.dws import DWSEncoder
from inr_factory.learning.models.encoder import Encoder
from inr_factory.learning.models.mlp import MLPEncoder
from inr_factory.learning.models.ng_gnn import NGGNNEncoder
from inr_factory.learning.models.ng_t import NGTransformerEncoder
from inr_factory.learning.models.parity import ForwardEncoder
from inr_factory.learning.models.scalegmn import ScaleGMNEncoder
from inr_factory.learning.transforms.canonical import canonicalize

ENCODERS: dict[str, type[Encoder]] = {
    kind.name: kind
    for kind in (MLPEncoder, ForwardEncoder, DWSEncoder, NGGNNEncoder, NGTransformerEncoder, ScaleGMNEncoder)
}


def build_encoder(name: str, spec: SirenSpec, **options: Any) -> Encoder:
    """The encoder of a name in ENCODERS, with its own parameters drawn from torch's global generator.

    Raises UsageError for an unknown name or option, with the nearest known one.
    """
    if name not in ENCODERS:
        raise UsageError(f"no encoder is called {name!r}; {did_you_mean(name, ENCODERS)}")
    known = [option for option in inspect.signature(ENCODERS[name]).parameters if option != "spec"]
    for option in options:
        if option not in known:
            raise UsageError(f"{name} has no option {option!r}; {did_you_mean(option, known)}")
    return ENCODERS[name](spec, **options)


class Normalizer(nn.Module):
    """Standardises each layer by one mean and one std, weights and biases apart: INRBatch -> INRBatch.

    One number a layer, not one a position, so that it commutes with permutations of the neurons. Its buffers, (L,)
    each, travel with the model's state. As constructed it changes nothing; `fit` takes the numbers from INRs.
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
        """Statistics over all INRs of all batches, in one pass; a layer without any spread gets std 1.

        Sums in double precision, merged by Chan, Golub and LeVeque (1983). Raises UsageError for INRs of another
        spec, NaN or infinite weights, or no INR at all.
        """
        shape = (2, spec.num_hidden + 1)  # weights, biases
        count, mean, square = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
        for inrs in batches:
            _check_spec(spec, inrs, "these statistics are")
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
        std = torch.where(std > 1e-12, std, 1.0)
        normalizer = cls(spec)
        (normalizer.weight_mean, normalizer.bias_mean), (normalizer.weight_std, normalizer.bias_std) = (
            mean.float(),
            std.float(),
        )
        return normalizer

    def forward(self, inrs: INRBatch, centred: bool = True) -> INRBatch:
        """The same INRs, standardised; their spec is kept although they no longer render.

        Not `centred`, each layer is divided by its root mean square alone, so that it commutes with signs, too.
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


class Reader(nn.Module):
    """Canonical form, normalizer and encoder, to which a head is added: INRBatch of N INRs -> features (N, F).

    `canonical` brings every INR to its canonical form first, so that the features do not change with the signs and
    phases of its neurons, whatever the encoder. Without a normalizer the weights go to the encoder as they are.
    Raises UsageError for parts made for different specs, and for INRs of another spec than its own.
    """

    kind: ClassVar[str]

    def __init__(
        self, spec: SirenSpec, encoder: Encoder, normalizer: Normalizer | None = None, canonical: bool = False
    ) -> None:
        super().__init__()
        normalizer = Normalizer(spec) if normalizer is None else normalizer
        for part in (encoder, normalizer):
            if part.spec != spec:
                raise UsageError(f"a {self.kind} of {spec} cannot use a {type(part).__name__} made for {part.spec}")
        if canonical and spec.activation != "sine":
            raise UsageError(f"only sine INRs have a canonical form, got {spec}; build the {self.kind} without it")
        self.spec = spec
        self.canonical = canonical
        self.normalizer = normalizer
        self.encoder = encoder
        self.frozen = False

    @property
    def device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    def features(self, inrs: INRBatch) -> Tensor:
        """(N, F): what the encoder says of INRs."""
        _check_spec(self.spec, inrs, f"this {self.kind} was made")
        inrs = canonicalize(inrs) if self.canonical else inrs
        return self.encoder.read(self.normalizer(inrs, self.encoder.centred), inrs)

    def freeze(self) -> None:
        """From now on only the head learns: the encoder keeps its parameters, and reads as in evaluation."""
        self.frozen = True
        self.encoder.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def describe(self) -> dict[str, Any]:
        """All but the numbers: what `from_description` builds the same from; plain values only."""
        return {
            "encoder": self.encoder.name,
            "options": dict(self.encoder.options),
            "spec": self.spec.to_dict(),
            "canonical": self.canonical,
        }


class Classifier(Reader):
    """A reader with one Linear: INRBatch of N INRs -> logits (N, C). Raises UsageError for fewer than two classes."""

    kind = "classifier"

    def __init__(
        self,
        spec: SirenSpec,
        num_classes: int,
        encoder: Encoder,
        normalizer: Normalizer | None = None,
        canonical: bool = False,
    ) -> None:
        super().__init__(spec, encoder, normalizer, canonical)
        if num_classes < 2:
            raise UsageError(f"a classifier needs at least two classes, got {num_classes}")
        self.num_classes = num_classes
        self.head = nn.Linear(encoder.features, num_classes)

    def forward(self, inrs: INRBatch) -> Tensor:
        """Logits (N, C)."""
        logits: Tensor = self.head(self.features(inrs))
        return logits

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "num_classes": self.num_classes}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Classifier":
        spec = SirenSpec.from_dict(description["spec"])
        encoder = build_encoder(description["encoder"], spec, **description["options"])
        return cls(spec, description["num_classes"], encoder, canonical=description["canonical"])


def build_classifier(
    name: str,
    spec: SirenSpec,
    num_classes: int,
    normalizer: Normalizer | None = None,
    seed: int = 0,
    canonical: bool = False,
    **options: Any,
) -> Classifier:
    """A classifier on the encoder of that name, its parameters drawn from the seed alone, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(spec, num_classes, build_encoder(name, spec, **options), normalizer, canonical)


def _check_spec(spec: SirenSpec, inrs: INRBatch, subject: str) -> None:
    if inrs.spec == spec:
        return
    mine, theirs = spec.to_dict(), inrs.spec.to_dict()
    fields = [name for name in mine if mine[name] != theirs[name]]
    expected, got = (", ".join(f"{name} {values[name]}" for name in fields) for values in (mine, theirs))
    raise UsageError(f"{subject} for INRs of {expected}, got {got}; fit or import INRs of that spec, or train again")
