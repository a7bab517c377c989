"""Failure hints: what a failed fit was asked for, and which settings to try, by how it ended."""

import math

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.stopping import psnr_of, target_of
from inr_factory.generation.signals import Signal
from inr_factory.generation.sprint_defaults import sprint_rate, sprint_steps
from inr_factory.inr.spec import SirenSpec

HINT = " (asked for: "
LEARNED = 1.0  # dB above the PSNR of the signal's mean, below which a fit has learned nothing
ADAM_RATE = 1e-3  # which suits all nets of docs/results/fitting.md


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
    sprint = config.optimizer == "sprint"
    safe = sprint_rate(spec.hidden_dim, spec.num_hidden, config.steps) if sprint else ADAM_RATE
    fast = config.learning_rate > 1.01 * safe
    wider = f"a wider net, as --set spec.hidden_dim={2 * spec.hidden_dim}"
    if not math.isfinite(psnr) or psnr < mean + LEARNED:
        ended = "" if not math.isfinite(psnr) else f"it learned no more than the signal's mean, {mean:.1f} dB; "
        if fast:
            return f"{ended}try a smaller rate, as --set fit.learning_rate={safe:.3g}"
        enough = _steps(signal, spec, config)
        if math.isfinite(psnr) and config.steps < enough:
            return f"{ended}try more steps, as --set fit.steps={enough}"
        rate = f"try a smaller rate, as --set fit.learning_rate={config.learning_rate / 4:.3g}"
        if sprint:
            return f"{ended}{rate}, or --set fit.optimizer=adam"
        return f"{ended}{rate}" + ("" if spec.start == "dwsnets" else ", or --set fit.optimizer=sprint")
    if fast and sprint:
        return f"try a smaller rate, as --set fit.learning_rate={safe:.3g}, or {wider}"
    enough = _steps(signal, spec, config)
    if config.steps < enough:
        return f"try more steps, as --set fit.steps={enough}, or {wider}"
    return f"try {wider}, a higher spec.omega_0, or a lower fit.floor_psnr"


def _steps(signal: Signal, spec: SirenSpec, config: FitConfig) -> int:
    """Steps that should do; Adam at a constant rate can always use more."""
    target = target_of(config, signal.peak)
    wanted = max(config.floor_psnr, target) if target is not None else config.floor_psnr
    enough = sprint_steps(wanted, spec.hidden_dim, spec.omega_0, spec.in_dim, spec.out_dim)
    return enough if config.optimizer == "sprint" else max(1000, 4 * config.steps if config.steps < 10_000 else 0)
