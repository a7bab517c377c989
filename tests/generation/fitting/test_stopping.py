"""Stopping: the loss at which engines stop is exactly the one that the target asks for."""

import numpy as np
import pytest

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.stopping import psnr_of, stop_loss


@pytest.mark.parametrize("target", [0.1, 25.0, 40.0, 63.7, 199.9])
@pytest.mark.parametrize("peak", [1.0, 0.1, 2.0, 255.0])
def test_the_stop_loss_is_the_largest_that_reaches_the_target(target, peak):
    loss = stop_loss(FitConfig(target_psnr=target), peak)
    assert psnr_of(loss, peak) >= target
    assert psnr_of(float(np.nextafter(np.float32(loss), np.float32(np.inf))), peak) < target


def test_without_a_target_no_loss_is_small_enough():
    assert stop_loss(FitConfig(target_psnr=None), 1.0) < 0
    assert stop_loss(FitConfig(target_psnr=201.0), 1.0) < 0
