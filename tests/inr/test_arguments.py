"""Arrays of users: numbers of the right shape become tensors, everything else gets one line."""

import numpy as np
import pytest
import torch

from inr_factory.errors import UsageError
from inr_factory.inr.arguments import as_tensor


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2], [3, 4]],
        np.array([[1, 2], [3, 4]], dtype=">f4"),
        np.array([[1, 2], [3, 4]], dtype=np.uint16),
        np.array([[3, 4], [1, 2]], dtype=np.float32)[::-1],
        np.array([[1, 2], [3, 4]], dtype=np.longdouble),
        torch.tensor([[1, 2], [3, 4]]),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')}",
)
def test_numbers_of_every_kind_become_tensors(value):
    tensor = as_tensor(value, "coords", "P I", "N P I", I=2, dtype=torch.float32)

    assert tensor.dtype == torch.float32
    assert tensor.tolist() == [[1, 2], [3, 4]]


def test_floating_types_stay_and_whole_numbers_become_float32():
    assert as_tensor(np.ones(2), "x").dtype == torch.float64
    assert as_tensor(np.ones(2, np.uint8), "x").dtype == torch.float32


def test_arrays_that_cannot_be_written_are_copied():
    array = np.zeros(3, np.float32)
    array.flags.writeable = False

    as_tensor(array, "x")[0] = 1

    assert array[0] == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(3), r"coords must have the shape \(P, 2\) or \(N, P, 2\), got \(3,\)$"),
        (torch.zeros(4, 3), r"coords must have the shape .*got \(4, 3\)$"),
        ("red", "coords must be an array of numbers, got str$"),
        (None, "coords must be an array of numbers, got NoneType$"),
        ([[1, 2], [3]], "coords must be an array of numbers, got list$"),
        (np.array(["1"]), "coords must be an array of numbers, got ndarray of <U1$"),
        (np.zeros((2, 2), np.complex64), "coords must be an array of numbers, got ndarray of complex64$"),
        (torch.zeros(2, 2, dtype=torch.complex64), "coords must be real numbers, got torch.complex64$"),
    ],
)
def test_everything_else_is_refused_in_one_line(value, message):
    with pytest.raises(UsageError, match=message):
        as_tensor(value, "coords", "P I", "N P I", I=2)


def test_letters_that_repeat_must_agree():
    assert as_tensor(np.zeros((3, 5, 3)), "x", "N P N").shape == (3, 5, 3)
    assert as_tensor(np.zeros((7, 3, 5)), "x", "... H W", H=3, W=5).shape == (7, 3, 5)
    with pytest.raises(UsageError, match=r"\(N, P, N\), got \(3, 5, 4\)"):
        as_tensor(np.zeros((3, 5, 4)), "x", "N P N")


def test_a_tensor_on_another_device_is_refused():
    with pytest.raises(UsageError, match=r"coords must be on meta, got a tensor on cpu; use coords.to\('meta'\)"):
        as_tensor(torch.zeros(2), "coords", device=torch.device("meta"))
