"""Augment report: exact transforms come out exact, noise does not, and better matching gives better midpoints."""

import pytest
import torch

from inr_factory.inr.initialization import initialize
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.transforms.coordinate import Rotate2D
from inr_factory.learning.transforms.intensity import Contrast
from inr_factory.learning.transforms.noise import GaussianNoise
from inr_factory.learning.transforms.symmetries import FlipSigns, PermuteNeurons, ShiftPhases
from inr_factory.reporting.augmentation_report import (
    HIDDEN_BY,
    as_markdown,
    fitting_transforms,
    report_mixing,
    report_recovery,
    report_transform,
)

SPEC = SirenSpec(2, 1, hidden_dim=8, omega_0=7.0, output_bias=0.5)
COORDS = pixel_grid(6, 6)


@pytest.fixture
def inrs():
    return initialize(SPEC, range(6))


@pytest.mark.parametrize("transform", [PermuteNeurons(), FlipSigns(), ShiftPhases(), Rotate2D(), Contrast()], ids=str)
def test_what_is_known_to_change_is_taken_out(transform, inrs):
    assert report_transform(transform, inrs, COORDS).psnr > 90


def test_noise_is_not_exact(inrs):
    assert report_transform(GaussianNoise(), inrs, COORDS).psnr < 40


def test_a_spread_tells_how_a_layer_grows(inrs):
    moved = report_transform(GaussianNoise(scale=1.0), inrs, COORDS)
    assert all(1.2 < spread < 1.7 for spread in moved.weight_spread)
    assert report_transform(PermuteNeurons(), inrs, COORDS).weight_spread == pytest.approx([1, 1, 1], abs=1e-5)


def test_transforms_of_other_inrs_are_left_out():
    flat = {type(transform).__name__ for transform in fitting_transforms(initialize(SPEC, [0, 1]))}
    solid = {
        type(transform).__name__ for transform in fitting_transforms(initialize(SirenSpec(3, 1, hidden_dim=4), [0, 1]))
    }
    assert "Rotate2D" in flat - solid
    assert "Rotate3D" in solid - flat
    assert "ScaleReLU" not in flat | solid


@pytest.mark.parametrize(
    ("hidden_from", "finds"), [("permutation", {"permutation", "signed", "phase"}), ("signed", {"signed", "phase"})]
)
def test_a_hidden_copy_is_found_by_the_matching_that_knows_how_it_was_hidden(inrs, hidden_from, finds):
    copies = PermuteNeurons()(inrs, torch.Generator().manual_seed(1))
    if hidden_from == "signed":
        copies = FlipSigns()(copies, torch.Generator().manual_seed(2))

    found = {m: report_mixing(m, "copies", inrs, copies, COORDS) for m in ("none", "permutation", "signed", "phase")}

    assert {m for m, mixed in found.items() if mixed.distance < 1e-4 and mixed.psnr > 90} == finds


def test_a_path_leads_from_one_inr_to_the_other(inrs):
    other = initialize(SPEC, range(10, 16))
    path = report_mixing("none", "strangers", inrs, other, COORDS).path
    torch.testing.assert_close(path[0], inrs(COORDS))
    torch.testing.assert_close(path[-1], other(COORDS))


def test_the_table_has_a_line_for_each(inrs):
    moved = [report_transform(FlipSigns(), inrs, COORDS)]
    mixed = [report_mixing("none", "strangers", inrs, inrs, COORDS)]
    text = as_markdown(moved, mixed, [report_recovery("signed", inrs)], "six")
    assert "| `flip:probability=0.5` | exact |" in text
    assert "| none | strangers | exact |" in text
    assert "| signed | 100.0% |" in text


def test_recovery_tells_a_match_that_cannot_undo_what_hid_the_copy(inrs, monkeypatch):
    assert report_recovery("phase", inrs).share == 1
    monkeypatch.setitem(HIDDEN_BY, "permutation", (PermuteNeurons(), FlipSigns()))
    assert report_recovery("permutation", inrs).share == 0
