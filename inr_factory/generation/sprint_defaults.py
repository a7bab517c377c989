"""Sprint defaults: peak rate and steps of the optimizer sprint by net and target, as docs/results/optimisers.md measures."""

import math

PEAK, STEPS, MOST_STEPS = 8e-3, 80, 1200  # of a net with two hidden layers of 32 neurons, to 40 dB of a grey image
LONG = 200  # steps above which deep nets need a lower rate


def sprint_steps(
    target_psnr: float | None, hidden_dim: int, omega_0: float = 30.0, in_dim: int = 2, out_dim: int = 1
) -> int:
    """Steps in which most signals reach a PSNR (dB), in tens; None is for all steps, 80.

    In 80 steps nets of 32 neurons reach 40 dB of grey images, 30 dB of several values a point, and 18 dB of fields in
    space. Twice the neurons reach 12 dB more, half of omega_0 14 dB less in grey images and 5 dB less elsewhere. Twice
    the steps add 7 dB to grey images and 2 dB elsewhere.
    """
    if target_psnr is None:
        return STEPS
    grey = in_dim <= 2 and out_dim == 1
    reached = 40 + 12 * math.log2(hidden_dim / 32) - (10 if out_dim > 1 else 0) - (22 if in_dim > 2 else 0)
    reached -= (14 if grey else 5) * max(0.0, math.log2(30 / omega_0))
    doublings = max(0.0, target_psnr - reached) / (7 if grey else 2)
    return min(MOST_STEPS, 10 * round(STEPS / 10 * 2 ** min(doublings, 10.0)))


def sprint_rate(hidden_dim: int, num_hidden: int, steps: int) -> float:
    """The peak rate 8e-3 · min(2, 32 / hidden_dim) · min(1, 2 / num_hidden), lower for deep nets above 200 steps."""
    deep = math.sqrt(LONG / steps) if num_hidden > 2 and steps > LONG else 1.0
    return PEAK * min(2.0, 32 / hidden_dim) * min(1.0, 2 / num_hidden) * deep
