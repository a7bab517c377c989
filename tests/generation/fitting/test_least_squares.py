"""Least squares: no other last layer fits better."""

import pytest
import torch
from support.signals import smooth

from inr_factory.generation.fitting.least_squares import solve_last_layers
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec

SPECS = [
    SirenSpec(2, 1, hidden_dim=8, output_bias=0.5),
    SirenSpec(2, 3, hidden_dim=6, num_hidden=3, omega_0=7.0),
    SirenSpec(2, 1, hidden_dim=8, activation="relu", start="linear"),
]
RIDGE = 0.01


def objective(inr, signal):
    """The objective of the least-squares problem."""
    error = (inr(signal.coords)[0] - signal.targets).square().mean(dim=0).sum()
    last = torch.cat([inr.weights[-1][0].flatten(), inr.biases[-1][0]])
    return float(error + RIDGE * last.square().sum())


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_no_other_last_layer_fits_better(spec):
    signal, inr = smooth(pixel_grid(9, 9), spec.out_dim), initialize(spec, [3])
    flat = solve_last_layers(spec, inr.flatten(), signal.coords, signal.targets[None], "values", RIDGE)
    solved = INRBatch.from_flat(spec, flat)
    best, size = objective(solved, signal), spec.hidden_dim * spec.out_dim + spec.out_dim
    assert best < objective(inr, signal)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        flat = solved.flatten()
        flat[0, -size:] += 0.01 * torch.randn(size, generator=generator)
        assert objective(INRBatch.from_flat(spec, flat), signal) > best
    assert torch.equal(solved.flatten()[:, :-size], inr.flatten()[:, :-size]), "another layer moved"


def test_the_sums_over_chunks_of_points_give_the_same_solution():
    spec, signal = SPECS[1], smooth(pixel_grid(9, 9), 3)
    flat, targets = initialize(spec, [3, 4]).flatten(), torch.stack([signal.targets, 1 - signal.targets])
    complete = solve_last_layers(spec, flat, signal.coords, targets, "values", RIDGE)
    chunked = solve_last_layers(spec, flat, signal.coords, targets, "values", RIDGE, chunk=10)
    torch.testing.assert_close(chunked, complete)
    assert not torch.equal(complete[0], complete[1])
