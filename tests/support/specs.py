"""Specs of small INRs: images and shapes, two values of omega_0, other activations, widths and positional encodings."""

import pytest
import torch

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec

SPECS = [
    SirenSpec(in_dim, out_dim, hidden_dim=8, num_hidden=num_hidden, omega_0=omega_0, output_bias=0.5)
    for in_dim, out_dim, num_hidden, omega_0 in ((2, 1, 2, 30.0), (2, 3, 3, 7.0), (3, 1, 2, 7.0), (3, 1, 3, 30.0))
]

SHAPES = (
    {"hidden_dim": 6, "num_hidden": 2},
    {"widths": (7, 4, 5)},
    {"hidden_dim": 6, "num_hidden": 2, "frequencies": 2},
    {"widths": (4, 6), "frequencies": 2, "coordinates": False},
)
KINDS = [
    SirenSpec(2, 3, omega_0=3.0, output_bias=0.5, activation=activation, **shape)
    for activation in ("sine", "relu", "tanh", "gauss", "finer")
    for shape in SHAPES
]
"""Specs of every activation, with equal widths and others, with a positional encoding and without."""


def names(specs):
    """Of the cases of a test."""
    return [f"{spec}, {spec.coordinates}" for spec in specs]


def random_inrs(spec, count=5, seed=0):
    """INRs of normal weights in double precision, so that equal is equal."""
    generator = torch.Generator().manual_seed(seed)
    return INRBatch.from_flat(
        spec, 0.5 * torch.randn(count, spec.num_parameters, generator=generator, dtype=torch.float64)
    )


# Other activations, widths by layer and positional encodings: what hidden layers and the first layer's inputs may be.
VARIANTS = [
    pytest.param(SirenSpec(in_dim, 1, output_bias=0.5, **kind), id="-".join(map(str, kind.values())))
    for in_dim, kind in (
        (2, {"activation": "relu", "start": "linear", "widths": (9, 5), "frequencies": 3}),
        (3, {"activation": "relu", "start": "linear", "widths": (9, 5), "frequencies": 2, "first_frequency": 1.0}),
        (2, {"activation": "sine", "widths": (9, 5, 7), "frequencies": 2, "coordinates": False}),
        (2, {"activation": "tanh", "start": "linear", "hidden_dim": 6}),
        (2, {"activation": "gauss", "start": "linear", "hidden_dim": 6, "omega_0": 2.0}),
        (3, {"activation": "finer", "start": "finer", "widths": (5, 9)}),
    )
]
