"""PSNR, against its formula and scikit-image."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from inr_factory.errors import UsageError
from inr_factory.inr.metrics import psnr, psnr_of_mse


def test_psnr_follows_its_formula():
    assert float(psnr_of_mse(torch.tensor(0.01))) == pytest.approx(20.0, abs=1e-4)
    assert float(psnr_of_mse(torch.tensor(1.0))) == pytest.approx(0.0, abs=1e-6)
    assert float(psnr_of_mse(torch.tensor(0.01), peak=2.0)) == pytest.approx(20 + 20 * math.log10(2), abs=1e-4)
    assert float(psnr_of_mse(torch.tensor(0.0))) == math.inf


def test_psnr_takes_a_peak_for_each():
    values = psnr_of_mse(torch.full((3,), 0.01, dtype=torch.float64), torch.tensor([1, 2, 10]))

    assert values.dtype == torch.float64
    torch.testing.assert_close(values, torch.tensor([20.0, 26.0206, 40.0], dtype=torch.float64), atol=1e-4, rtol=0)


def test_psnr_is_that_of_scikit_image(generator):
    a, b = torch.rand(2, 3, 8, 8, 1, generator=generator)
    for data_range in (1.0, 2.5):
        expected = peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=data_range)
        assert psnr(a, b, data_range) == psnr(a.numpy(), b, data_range) == pytest.approx(expected, abs=1e-4)
    assert psnr(a, a) == math.inf
    bytes_a, bytes_b = (255 * a).byte().numpy(), (255 * b).byte().numpy()
    expected = peak_signal_noise_ratio(bytes_a, bytes_b)
    assert psnr(bytes_a, bytes_b, data_range=255) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0, 1], [[0.0, 1]]), r"arrays of one shape, got \(2,\) and \(1, 2\)"),
        (([], []), "arrays of one shape"),
        ((torch.zeros(2, dtype=torch.uint8), np.zeros(2, np.uint8)), "give data_range=255"),
        ((255 * np.eye(2), 250 * np.eye(2)), "up to 255 with data_range 1; give data_range=255 for uint8"),
        ((np.eye(2, dtype=np.int64) * 9, np.eye(2)), "int64 up to 9 with data_range 1"),
        ((np.eye(2, dtype=np.uint16) * 4095, np.eye(2), 1), "uint16 up to 4095 with data_range 1"),
        ((torch.tensor(0.01), 2.0), "got a single number; psnr_of_mse"),  # yesterday's psnr(mse, peak)
        ((torch.full((3,), 0.01), 1.0), "got a single number; psnr_of_mse"),
        ((0.01, 1), "got a single number; psnr_of_mse"),
        (([0.0, math.nan], [0.0, 1.0]), "a has values that are NaN or infinite"),
        (([0.0, 1.0], [0.0, math.inf]), "b has values that are NaN or infinite"),
        (([0.0], [1.0], "1"), "data_range must be a number, got str"),
        (([0.0], [1.0], np.ones(2)), "data_range must be a number, got ndarray"),
        ((2 * np.eye(2) - 1, 1.9 * np.eye(2) - 0.9), "float64 up to 1 with data_range 1"),
        ((np.eye(2), 0.9 * np.eye(2), 255), "float64 up to 1 with data_range 255"),
        (([0.0], [1.0], 0), "data_range must be a positive number, got 0"),
        (("a", "b"), "a must be an array of numbers, got str"),
    ],
)
def test_psnr_refuses_what_it_cannot_compare_in_one_line(arguments, message):
    with pytest.raises(UsageError, match=message):
        psnr(*arguments)
