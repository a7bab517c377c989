"""MixUp: averages of two INRs in weight space, with their targets averaged alike.

Shape letters: N INRs, C classes.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.arguments import as_tensor
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.alignment.weight_matching import Match, align, finest_match
from inr_factory.learning.option_strings import Option, check_flag, check_number, check_word, parse_option
from inr_factory.learning.transforms.call_arguments import default_generator, numbers_of, require_pairs
from inr_factory.learning.transforms.random_transform import replace_rows
from inr_factory.learning.transforms.symmetries import PermuteNeurons


@dataclass(frozen=True, kw_only=True)
class MixUp(Option):
    """theta = lam theta_a + (1 - lam) theta_b, and targets likewise (Zhang et al. 2018; Shamsian et al. 2024).

    Each INR is mixed, with `probability`, with a partner from the same batch, so that nothing from outside the active
    subset comes in.

    Args:
        alpha: lam is drawn for each INR from Beta(alpha, alpha); 1 is uniform, as published. In [0.001, 1e6].
        match: What is done to the partner first. "auto", its neurons aligned to those of the INR by the finest match that
            such INRs have: "phase" for sines, "permutation" for ReLU, "signed" for others. "permutation", "signed",
            "phase" or "scale", one of these, see `align`; "permute", its neurons in a random order; "none".
        probability: How likely an INR is mixed, in [0, 1].
        same_class: Take partners whose targets have the same largest class.

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "mixup"
    max_sweeps: ClassVar[int] = 0
    """Passes over the layers after the first, see `match_neurons`: they take longer and bring INRs little nearer."""
    alpha: float = 1.0
    match: Literal["auto", "none", "permute", "permutation", "signed", "phase", "scale"] = "auto"
    probability: float = 1.0
    same_class: bool = False

    def __post_init__(self) -> None:
        check_number(self, "alpha", 1e-3, 1e6)
        check_word(self, "match")
        check_number(self, "probability", 0, 1)
        check_flag(self, "same_class")

    def __call__(self, inrs: INRBatch, targets: Tensor, generator: Generator | None = None) -> tuple[INRBatch, Tensor]:
        """Mix the INRs of a batch with one another, and their targets alike.

        Args:
            inrs: N INRs; they stay as they are.
            targets: (N, C) floats on the INRs' device, one-hot or mixed.
            generator: Where all random numbers come from, on the INRs' device; else a new generator with a seed of
                the operating system, so that every call draws other numbers.

        Returns:
            N new INRs and their targets (N, C).

        Raises:
            UsageError: For targets of another shape, dtype or device, INRs that the match is not made for, or a
                generator on another device.
        """
        generator = default_generator(inrs, generator, "MixUp")
        count = len(inrs)
        targets = as_tensor(targets, "targets", device=inrs.device) if not isinstance(targets, Tensor) else targets
        if targets.dim() != 2 or len(targets) != count or not targets.is_floating_point():
            got = f"{tuple(targets.shape)} of {targets.dtype}"
            raise UsageError(f"MixUp of {count} INRs needs targets ({count}, C) of floats, got {got}; one-hot them")
        if targets.device != inrs.device:
            raise UsageError(
                f"MixUp: the INRs are on {inrs.device} and the targets on {targets.device}; move one of them"
            )
        groups = targets.argmax(dim=1) if self.same_class else torch.zeros(count, device=inrs.device)
        partner = draw_partners(groups, generator)
        lam = draw_lam(count, self.alpha, generator)
        mixed = torch.rand(count, generator=generator, device=generator.device) < self.probability
        lam = torch.where(mixed, lam, 1)
        partners = inrs.select(partner)
        if self.match == "permute":
            partners = PermuteNeurons()(partners, generator)
        elif self.match != "none":
            match = finest_match(inrs.spec) if self.match == "auto" else self.match
            partners = _align_some(partners, inrs, mixed, match, self.max_sweeps)
        return _mix(inrs, partners, lam), torch.lerp(targets[partner], targets, lam[:, None].to(targets.dtype))


@dataclass(frozen=True, kw_only=True)
class ThoroughMixUp(MixUp):
    """MixUp of runs that began under rules 1 to 3: it aligns until no layer improves."""

    max_sweeps: ClassVar[int] = 50


def parse_mixup(text: str) -> MixUp:
    """Read a MixUp from text.

    Args:
        text: "mixup" or with settings, such as "mixup:alpha=0.5" or "mixup:match=none,probability=0.5".

    Returns:
        The MixUp; `str()` of it is such a text again.

    Raises:
        UsageError: For an unknown name or key, with the nearest known one, and for a value that does not fit.
    """
    return parse_option(text, {MixUp.name: MixUp}, "mixing")


def mix(a: INRBatch, b: INRBatch, lam: float | Tensor = 0.5) -> INRBatch:
    """Average two batches of INRs in weight space, INR by INR: lam a + (1 - lam) b.

    Args:
        a: N INRs.
        b: N INRs of the same spec, or one for all.
        lam: One number or (N,), in [0, 1]. 0.5 is the midpoint; 1 gives a back bit for bit, 0 gives b.

    Returns:
        N new INRs. Align b to a first, or the midpoint of different INRs renders as noise.

    Raises:
        UsageError: For INRs of different specs, dtypes or devices, counts that do not pair up, or lam outside [0, 1].
    """
    require_pairs("mix", a, b)
    lam_N = numbers_of(a, lam, "lam", "", "N").to(a.dtype).expand(len(a))
    if not bool(((lam_N >= 0) & (lam_N <= 1)).all()):
        raise UsageError(f"lam must lie in [0, 1], got {lam!r}")
    return _mix(a, b, lam_N)


def _mix(inrs: INRBatch, partners: INRBatch, lam_N: Tensor) -> INRBatch:
    lam = lam_N.to(inrs.dtype)
    pairs = zip((*inrs.weights, *inrs.biases), (*partners.weights, *partners.biases), strict=True)
    mixed = [torch.lerp(b.expand_as(a), a, lam.view(-1, *[1] * (a.dim() - 1))) for a, b in pairs]
    layers = len(inrs.weights)
    return INRBatch(inrs.spec, tuple(mixed[:layers]), tuple(mixed[layers:]))


def draw_partners(groups_N: Tensor, generator: Generator) -> Tensor:
    """(N,): a random permutation of the batch, uniform over those that leave everyone in its group (N,)."""
    # Two random orders of the batch that agree on the order of the groups; float64 keeps groups apart exactly.
    unit = torch.rand(2, len(groups_N), generator=generator, device=generator.device)
    first, second = (groups_N.double() + unit.double()).argsort(dim=1).unbind()
    return torch.empty_like(first).scatter_(0, first, second)


def draw_lam(count: int, alpha: float, generator: Generator) -> Tensor:
    """(count,) float64 draws from Beta(alpha, alpha), from this generator alone.

    Two gamma variates in logarithms, log Gamma(alpha) = log Gamma(alpha + 1) + log(U) / alpha in distribution
    (Marsaglia and Tsang 2000), so that small alphas do not underflow.
    """
    shape = torch.full((2, count), alpha + 1, dtype=torch.float64, device=generator.device)
    unit = 1 - torch.rand(2, count, generator=generator, device=generator.device, dtype=torch.float64)
    first, second = (torch._standard_gamma(shape, generator=generator).log() + unit.log() / alpha).unbind()
    return torch.sigmoid(first - second)


def _align_some(moving: INRBatch, fixed: INRBatch, chosen_N: Tensor, match: Match, max_sweeps: int) -> INRBatch:
    """moving with the chosen INRs aligned to those of fixed; the others take no time."""
    rows = chosen_N.nonzero()[:, 0]
    if len(rows) == len(moving):
        return align(moving, fixed, match, max_sweeps)
    aligned = align(moving.select(rows), fixed.select(rows), match, max_sweeps)
    return replace_rows(moving, rows, aligned)
