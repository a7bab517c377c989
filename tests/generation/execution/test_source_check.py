"""Source checks: what a Source written in Python may not be, refused in one line before or while it is fitted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.tiny_recipes import LOCAL, tiny

from inr_factory.errors import UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.signals import Item, Signal
from inr_factory.inr.pixel_grid import pixel_grid


class Ramps:
    """Six images of 4x4 pixels, in three splits."""

    name, version, licence, fingerprint = "ramps", "1", "CC0", "0" * 16
    in_dim, out_dim, classes = 2, 1, ("up", "down")

    def __init__(self):
        self.items = [Item(f"ramp {number}", number % 2, ("train", "val", "test")[number // 2]) for number in range(6)]

    def signal(self, index, view=0):
        return Signal(pixel_grid(4, 4), torch.linspace(0, 1, 16)[:, None] * (index + 1) / 6)


def fit(source, out):
    return fit_dataset(tiny(source={"collection": "own"}, limit=None, views=1), out, source=source, **LOCAL)


def test_a_source_written_in_python_is_fitted(tmp_path):
    assert fit(Ramps(), tmp_path / "set").manifest.rows == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda source: 5, "source must be a Source, got int without name, version"),
        (lambda source: source.items.append("ramp"), r"source.items\[6\] must be an Item, got str"),
        (lambda source: source.items.append(source.items[0]), "2 objects named ramp 0; each needs a name of its own"),
        (
            lambda source: source.items.append(Item("x", 2, None)),
            "object x has the label 2, source.classes has 2 names",
        ),
        (lambda source: source.items.append(Item("x", 1, "dev")), "object x has the split 'dev', expected train, val"),
        (lambda source: source.items.clear(), "the source has no objects"),
    ],
)
def test_a_source_that_cannot_be_fitted_is_refused_before_anything_is_written(tmp_path, change, message):
    source = Ramps()
    changed = change(source)

    with pytest.raises(UsageError, match=message) as caught:
        fit(source if changed is None else changed, tmp_path / "set")

    assert "\n" not in str(caught.value)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (lambda good: good.targets.numpy(), r"ramps: signal\(\) of ramp \d must be a Signal, got ndarray"),
        (lambda good: replace(good, targets=np.zeros((16, 3), np.float32)), "2 coordinates and 3 values a point"),
        (lambda good: replace(good, coords=torch.zeros(16, 3)), "3 coordinates and 1 values a point"),
    ],
)
def test_a_signal_that_does_not_fit_its_source_stops_the_fit(tmp_path, signal, message):
    source, good = Ramps(), Ramps().signal(0)
    source.signal = lambda index, view=0: signal(good)

    with pytest.raises(UsageError, match=message):
        fit(source, tmp_path / "set")
