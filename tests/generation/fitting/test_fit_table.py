"""Fit table: how fits ended, as columns; which of them start again, and why others failed."""

import numpy as np
import pytest
import torch

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.fit_table import FitTable, explained_variance
from inr_factory.generation.fitting.stopping import psnr_of, stop_loss, stop_losses
from inr_factory.generation.fitting.tally import Tally
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

SPEC = SirenSpec(1, 1, hidden_dim=2, num_hidden=1)
KEYS = [ViewKey(f"object {number}", 0) for number in range(5)]
CONFIG = FitConfig(target_psnr=40.0, floor_psnr=20.0, attempts=2)


def table(**changes):
    seen = []
    peaks = np.array([1.0, 2.0, 1.0, 1.0, 1.0])
    fits = FitTable(SPEC, KEYS, peaks, CONFIG.model_copy(update=changes), 7, seen.append)
    return fits, seen


def stop(fits, rows, losses):
    rows = np.array(rows)
    flat = torch.from_numpy(rows)[:, None] + torch.arange(SPEC.num_parameters)
    return fits.stop(rows, flat.float(), losses, [number + 3 for number in rows.tolist()]).tolist()


def test_fits_that_stop_are_in_their_rows_with_the_psnr_of_their_own_peaks():
    fits, seen = table()
    assert stop(fits, [4, 1], [1e-5, 1e-3]) == []
    assert fits.psnr[[4, 1]].tolist() == [psnr_of(1e-5, 1.0), psnr_of(1e-3, 2.0)]
    assert fits.reached.tolist() == [False, False, False, False, True]
    assert fits.loss[[4, 1]].tolist() == [np.float32(1e-5), np.float32(1e-3)]
    assert fits.steps.tolist() == [0, 4, 0, 0, 7]
    assert fits.flat[[4, 1], 0].tolist() == [4, 1]
    assert fits.seeds.tolist() == [key.seed(7) for key in KEYS]
    fits.step(11)
    assert seen == [Tally(2, 2, psnr_of(1e-5, 1.0) + psnr_of(1e-3, 2.0), 11)]


@pytest.mark.parametrize(
    ("loss", "reason"), [(0.5, "the best reached 3.0 dB"), (float("nan"), "diverged in each of 2")]
)
def test_a_bad_fit_starts_again_with_the_seed_of_its_next_attempt_until_it_has_none(loss, reason):
    fits, _ = table()
    assert stop(fits, [0, 2, 3], [1e-5, loss, 1e-5]) == [2]
    assert fits.seeds.tolist() == [key.seed(7, int(at == 2)) for at, key in enumerate(KEYS)]
    assert fits.failures == {}
    assert fits.tally.done == 2
    assert stop(fits, [2], [10 * loss]) == []
    assert list(fits.failures) == [2]
    assert reason in fits.failures[2]
    assert fits.tally[:2] == (3, 2)


def test_a_target_below_the_floor_is_good_enough():
    fits, _ = table(target_psnr=10.0)
    assert stop(fits, [0, 1], [0.09, 0.09]) == []
    assert fits.reached[:2].all()
    assert not fits.failures


def test_stop_losses_are_those_of_each_peak():
    assert stop_losses(CONFIG, np.array([1.0, 3.0, 1.0])).tolist() == [
        stop_loss(CONFIG, peak) for peak in (1.0, 3.0, 1.0)
    ]


def test_the_share_explained_is_1_less_the_error_over_the_variance():
    shares = explained_variance(
        [0.0, 0.01, 0.02, 0.5, float("nan"), 0.1], np.array([0.02, 0.02, 0.02, 0.02, 0.02, 0.0])
    )

    np.testing.assert_allclose(shares, [1, 0.5, 0, -24, np.nan, np.nan])


def test_a_floor_of_the_share_explained_refuses_near_constant_signals_at_their_target():
    spreads = np.array([1e-2, 1e-4, 0.0, 1e-2, 1e-2])
    config = CONFIG.model_copy(update={"floor_explained": 0.5})
    for variances, failed in ((spreads, {1, 2, 3}), (np.full(5, 0.1), set())):
        fits = FitTable(SPEC, KEYS, np.ones(5), config, 7, None, variances)
        # At 40.5 dB, all are at their target but the fourth, whose error is half as large as 20 dB allows.
        assert stop(fits, [0, 1, 2], [9e-5] * 3) == [], "a second attempt would end at the same error"
        assert stop(fits, [3], [9e-3]) == ([3] if failed else []), "another start may explain more"
        if failed:
            assert stop(fits, [3], [9e-3]) == []
        assert set(fits.failures) == failed
    fits = FitTable(SPEC, KEYS, np.ones(5), config, 7, None, spreads)
    stop(fits, [1, 2], [9e-5] * 2)
    assert "explains 0.1 of its signal's variance at 40.5 dB, fit.floor_explained asks for 0.5" in fits.failures[1]
    assert fits.failures[2] == "its signal is constant, fit.floor_explained asks for 0.5"
    fits = FitTable(SPEC, KEYS, np.ones(5), CONFIG, 7, None, spreads)
    stop(fits, [1, 2], [9e-5] * 2)
    assert fits.failures == {}, "no floor is asked for"
    np.testing.assert_allclose(fits.explained[[1, 2]], [0.1, np.nan], rtol=1e-6)
