"""Assignments: the C code finds an optimum, as scipy does, for any gains, and can be done without."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.alignment import linear_assignment
from inr_factory.learning.alignment.weight_matching import solve_assignments

built = pytest.mark.skipif(
    linear_assignment._library() is None, reason="the C code was not compiled when this was installed"
)


def total(gain, columns):
    return gain[np.arange(len(gain)), columns].sum()


def best(gain):
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return gain[rows, columns].sum()


KINDS = {
    "random": lambda n, g: torch.randn(20, n, n, generator=g),
    "ties": lambda n, g: torch.randint(0, 3, (20, n, n), generator=g).float(),
    "zeros": lambda n, g: torch.zeros(20, n, n),
    "tiny to huge": lambda n, g: torch.randn(20, n, n, generator=g) * torch.logspace(-30, 30, 20)[:, None, None],
    "one row dear": lambda n, g: torch.randn(20, n, n, generator=g).index_fill(1, torch.tensor([0]), 1e6),
    "of neurons": lambda n, g: _gains_of_neurons(n),
}


def _gains_of_neurons(count):
    first, second = (initialize(SirenSpec(2, 1, hidden_dim=count), seeds) for seeds in (range(20), range(20, 40)))
    return torch.bmm(first.weights[1], second.weights[1].mT)


@built
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 32, 65])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_an_optimum(kind, size):
    gains = KINDS[kind](size, torch.Generator().manual_seed(size))

    columns = linear_assignment.solve(gains)

    assert torch.equal(columns.sort(dim=1).values, torch.arange(size).expand(len(gains), -1))
    for gain, assigned in zip(gains.double().numpy(), columns.numpy(), strict=True):
        assert total(gain, assigned) == pytest.approx(best(gain), rel=1e-9, abs=1e-6 * np.abs(gain).max())


@built
def test_each_problem_is_solved_by_itself():
    gains = torch.randn(9, 16, 16, generator=torch.Generator().manual_seed(0))

    alone = torch.cat([linear_assignment.solve(gain[None]) for gain in gains])

    assert torch.equal(linear_assignment.solve(gains), alone)
    assert torch.equal(linear_assignment.solve(gains.mT.contiguous().mT), alone)
    assert linear_assignment.solve(gains[:0]).shape == (0, 16)


def test_without_the_library_and_in_double_precision_scipy_does_the_work(monkeypatch, tmp_path):
    gains = torch.randn(5, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = solve_assignments(gains)
    assert not linear_assignment.supports(gains.double())
    monkeypatch.setattr(linear_assignment, "LIBRARY", tmp_path / "_linear_assignment.so")
    linear_assignment._library.cache_clear()
    try:
        assert not linear_assignment.supports(gains)
        assert torch.equal(solve_assignments(gains), expected)
    finally:
        linear_assignment._library.cache_clear()
