"""Sprint defaults: peak rate and steps of the optimizer sprint by net and target, as docs/results/optimisers.md measures,
and the rate of muon by net (docs/results/shapes.md)."""

import math

from inr_factory.inr.spec import SirenSpec

PEAK, STEPS, MOST_STEPS = 8e-3, 80, 1200  # of a net with two hidden layers of 32 neurons, to 40 dB of a grey image
MUON_RATE, MUON_STEPS, MUON_OMEGA = 4e-3, 800, 10.0
LONG = 200  # steps above which deep nets need a lower rate
RELU_RATE, RELU_STEPS, RELU_RIDGE = 2.5, 1.5, 1.0  # of ReLU INRs with frequencies: factors of rate and steps, and ridge


def is_encoded_relu(spec: SirenSpec) -> bool:
    """Whether the factors of ReLU INRs with frequencies apply."""
    return spec.activation == "relu" and spec.frequencies > 0


def sprint_steps(target_psnr: float | None, spec: SirenSpec) -> int:
    """Steps in which most signals reach a PSNR (dB), in tens; None is for all steps, 80.

    In 80 steps nets of 32 neurons reach 40 dB of grey images, 30 dB of several values a point, and 18 dB of fields in
    space. Twice the neurons reach 12 dB more, half of omega_0 14 dB less in grey images and 5 dB less elsewhere. Twice
    the steps add 7 dB to grey images and 2 dB elsewhere. Where the first layer is no plain sine, its omega_0 does not
    count.
    """
    if target_psnr is None:
        return STEPS
    grey = spec.in_dim <= 2 and spec.out_dim == 1
    reached = 40 + 12 * math.log2(spec.hidden_dim / 32) - 10 * (spec.out_dim > 1) - 22 * (spec.in_dim > 2)
    if spec.activation in ("sine", "relu") and not spec.frequencies:
        reached -= (14 if grey else 5) * max(0.0, math.log2(30 / spec.omega_0))
    doublings = max(0.0, target_psnr - reached) / (7 if grey else 2)
    factor = RELU_STEPS if is_encoded_relu(spec) else 1.0
    return min(MOST_STEPS, 10 * round(factor * STEPS / 10 * 2 ** min(doublings, 10.0)))


def sprint_rate(spec: SirenSpec, steps: int) -> float:
    """The peak rate 8e-3 · min(2, 32 / hidden_dim) · min(1, 2 / num_hidden), lower for deep nets above 200 steps."""
    deep = math.sqrt(LONG / steps) if spec.num_hidden > 2 and steps > LONG else 1.0
    peak = PEAK * (RELU_RATE if is_encoded_relu(spec) else 1.0)
    return peak * min(2.0, 32 / spec.hidden_dim) * min(1.0, 2 / spec.num_hidden) * deep


def muon_rate(spec: SirenSpec) -> float:
    """The peak rate 4e-3 · sqrt(64 / hidden_dim) / (num_hidden - 1), of sines times (10 / omega_0)^0.7 above 10."""
    high = max(1.0, spec.omega_0 / MUON_OMEGA) if spec.activation in ("sine", "finer") else 1.0
    return float(MUON_RATE * math.sqrt(64 / spec.hidden_dim) / max(1, spec.num_hidden - 1) / high**0.7)
