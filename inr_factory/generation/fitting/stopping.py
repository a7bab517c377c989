"""Stopping: the PSNR of a loss, the target of a fit, and the loss at which an engine stops."""

import math

import numpy as np
from numpy.typing import NDArray

from inr_factory.generation.fit_config import FitConfig


def psnr_of(loss: float, peak: float) -> float:
    """10 log10(peak² / loss) in dB, at most 200, so that a loss of 0 gives a number; NaN for NaN."""
    return min(200.0, 10 * math.log10(peak * peak / max(loss, 1e-300))) if loss < math.inf else math.nan


def target_of(config: FitConfig, peak: float) -> float | None:
    """The PSNR (dB) at which a fit is good enough; `target_error` takes precedence over `target_psnr`."""
    return 20 * math.log10(peak / config.target_error) if config.target_error else config.target_psnr


def reached_target(loss: float, peak: float, config: FitConfig) -> bool:
    """Whether a finite loss is that of a fit at its target; False where there is no target."""
    target = target_of(config, peak)
    return target is not None and psnr_of(loss, peak) >= target


def stop_loss(config: FitConfig, peak: float) -> float:
    """The largest float32 loss at which `psnr_of` says that the target is reached; -1 where none is.

    For engines that compare losses in their kernels, so that they stop exactly where `reached_target` does.
    """
    target = target_of(config, peak)
    if target is None or psnr_of(0.0, peak) < target:
        return -1.0
    above = np.float32(math.inf)
    loss = np.float32(peak * peak * 10 ** (-target / 10))
    while psnr_of(float(loss), peak) < target:
        loss, above = np.nextafter(loss, np.float32(-1)), loss
    while loss < above and psnr_of(float(np.nextafter(loss, above)), peak) >= target:
        loss = np.nextafter(loss, above)
    return float(loss)


def stop_losses(config: FitConfig, peaks: NDArray[np.float64]) -> NDArray[np.float32]:
    """`stop_loss` of each of many peaks, most of which are equal."""
    losses = {peak: stop_loss(config, peak) for peak in set(peaks.tolist())}
    return np.array([losses[peak] for peak in peaks.tolist()], dtype=np.float32)
