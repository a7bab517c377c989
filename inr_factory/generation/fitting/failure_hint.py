"""Failure hints: what a failed fit was asked for, and which settings to try, by how it ended."""

import math

from inr_factory.generation.fit_config import GAUSS_OMEGA_0, FitConfig
from inr_factory.generation.fitting.stopping import psnr_of, target_of
from inr_factory.generation.signals import Signal
from inr_factory.generation.sprint_defaults import MUON_STEPS, muon_rate, sprint_rate, sprint_steps
from inr_factory.inr.spec import SirenSpec

HINT = " (asked for: "
LEARNED = 1.0  # dB above the PSNR of the signal's mean, below which a fit has learned nothing
ADAM_RATE = 1e-3  # which suits all nets of docs/results/optimisers.md
SLOW = 20  # times below the rate that suits, at which a fit is slow
LOWEST_OMEGA, HIGHEST_OMEGA = 4, 150  # beyond which images and shapes are not fitted
FREQUENCIES = 6  # of a positional encoding, up to 32 pi: the details of some 64 pixels
REACH = 10  # from output_bias, which no fit crosses in its steps


def failure_hint(psnr: float, signal: Signal, spec: SirenSpec, config: FitConfig) -> str:
    """What follows the reason of a failure, in parentheses.

    Args:
        psnr: The best of the attempts, in dB; not finite where all diverged.
        signal: What was fitted.
        spec: The net.
        config: How it was fitted.
    """
    target = target_of(config, signal.peak)
    asked = f"{target:.3g} dB" if target is not None else f"at least {config.floor_psnr:g} dB"
    mean = psnr_of(float((signal.targets - signal.targets.mean(dim=0)).square().mean()), signal.peak)
    return f"{HINT}{asked} in {config.steps:,} steps; {_remedy(psnr, mean, signal, spec, config)})"


def without_hint(reason: str) -> str:
    """The reason as sets of recipe version 1 store it."""
    return reason.partition(HINT)[0]


def _remedy(psnr: float, mean: float, signal: Signal, spec: SirenSpec, config: FitConfig) -> str:
    """The first that applies: values out of reach, omega_0, rate, steps, size and detail."""
    sprint, rate = config.optimizer != "adam", config.learning_rate
    safe = {"sprint": sprint_rate(spec, config.steps), "muon": muon_rate(spec)}.get(config.optimizer, ADAM_RATE)
    finite = math.isfinite(psnr)
    stuck = not finite or psnr < mean + LEARNED
    ended = f"it learned no more than the signal's mean, {mean:.1f} dB; " if finite and stuck else ""
    larger = f"hidden_dim={2 * spec.hidden_dim}" if spec.num_hidden > 1 else "num_hidden=2"
    if spec.widths is not None:
        larger = f"widths=[{','.join(str(2 * width) for width in spec.widths)}]"
    net = f"a {'wider' if spec.num_hidden > 1 else 'deeper'} net, as --set spec.{larger}"
    far = float((signal.targets - spec.output_bias).abs().max())
    if far > REACH:
        return f"{ended}its values lie up to {far:.3g} from spec.output_bias: scale them to [0, 1], and set the bias to 0.5"
    if finite and spec.has_omega_0 and not LOWEST_OMEGA <= spec.omega_0 <= HIGHEST_OMEGA:
        usual = GAUSS_OMEGA_0 if spec.activation == "gauss" else 30
        return f"{ended}try a usual frequency, as --set spec.omega_0={usual:g}"
    if finite and rate < safe / SLOW:
        return f"{ended}try a larger rate, as --set fit.learning_rate={safe:.3g}"
    smaller = "try a smaller rate, as --set fit.learning_rate="
    fast = rate > 1.01 * safe
    if stuck and fast:
        return f"{ended}{smaller}{safe:.3g}"
    enough = _steps(signal, spec, config)
    if finite and config.steps < enough:
        return f"{ended}try more steps, as --set fit.steps={enough}" + ("" if stuck else f", or {net}")
    if stuck:
        other = "adam" if sprint else "sprint"
        usable = sprint or spec.start != "dwsnets"
        return f"{ended}{smaller}{rate / 4:.3g}" + (f", or --set fit.optimizer={other}" if usable else "")
    if fast and sprint:
        return f"{smaller}{safe:.3g}, or {net}"
    detail = " a higher spec.omega_0," if spec.has_omega_0 else ""
    if not spec.has_omega_0 and spec.frequencies < FREQUENCIES:
        detail = f" a positional encoding, as --set spec.frequencies={FREQUENCIES},"
    return f"try {net},{detail} or a lower fit.floor_psnr"


def _steps(signal: Signal, spec: SirenSpec, config: FitConfig) -> int:
    """Steps that should do; Adam at a constant rate can always use more."""
    target = target_of(config, signal.peak)
    wanted = max(config.floor_psnr, target) if target is not None else config.floor_psnr
    enough = sprint_steps(wanted, spec)
    if config.optimizer == "muon":
        return max(MUON_STEPS, min(2 * config.steps, 4 * MUON_STEPS))
    return enough if config.optimizer == "sprint" else max(1000, 4 * config.steps if config.steps < 10_000 else 0)
