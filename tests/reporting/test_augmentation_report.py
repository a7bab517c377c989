"""Augment report: exact transforms come out exact, noise does not, and better matching gives better midpoints."""

import json
from pathlib import Path

import pytest
import torch
from support.tiny_recipes import LOCAL, tiny

from inr_factory.errors import UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.inr.initialization import initialize
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.transforms.coordinate import Rotate2D
from inr_factory.learning.transforms.intensity import Contrast
from inr_factory.learning.transforms.noise import GaussianNoise
from inr_factory.learning.transforms.symmetries import FlipSigns, PermuteNeurons, ShiftPhases
from inr_factory.reporting import augmentation_report
from inr_factory.reporting.augmentation_report import (
    HIDDEN_BY,
    AugmentReport,
    applicable_transforms,
    augment_report,
    measure_mixing,
    measure_recovery,
    measure_transform,
)

SPEC = SirenSpec(2, 1, hidden_dim=8, omega_0=7.0, output_bias=0.5)
COORDS = pixel_grid(6, 6)


@pytest.fixture
def inrs():
    return initialize(SPEC, range(6))


@pytest.mark.parametrize("transform", [PermuteNeurons(), FlipSigns(), ShiftPhases(), Rotate2D(), Contrast()], ids=str)
def test_what_is_known_to_change_is_taken_out(transform, inrs):
    assert measure_transform(transform, inrs, COORDS).psnr > 90


def test_noise_is_not_exact(inrs):
    assert measure_transform(GaussianNoise(), inrs, COORDS).psnr < 40


def test_a_spread_tells_how_a_layer_grows(inrs):
    moved = measure_transform(GaussianNoise(scale=1.0), inrs, COORDS)
    assert all(1.2 < spread < 1.7 for spread in moved.weight_spread)
    assert measure_transform(PermuteNeurons(), inrs, COORDS).weight_spread == pytest.approx([1, 1, 1], abs=1e-5)


def test_transforms_of_other_inrs_are_left_out():
    flat = {type(transform).__name__ for transform in applicable_transforms(initialize(SPEC, [0, 1]))}
    solid = {
        type(transform).__name__
        for transform in applicable_transforms(initialize(SirenSpec(3, 1, hidden_dim=4), [0, 1]))
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

    found = {m: measure_mixing(m, "copies", inrs, copies, COORDS) for m in ("none", "permutation", "signed", "phase")}

    assert {m for m, mixed in found.items() if mixed.distance < 1e-4 and mixed.psnr > 90} == finds


def test_a_path_leads_from_one_inr_to_the_other(inrs):
    other = initialize(SPEC, range(10, 16))
    path = measure_mixing("none", "strangers", inrs, other, COORDS).path
    torch.testing.assert_close(path[0], inrs(COORDS))
    torch.testing.assert_close(path[-1], other(COORDS))


def test_the_table_has_a_line_for_each(inrs):
    moved = measure_transform(FlipSigns(), inrs, COORDS)
    mixed = measure_mixing("none", "strangers", inrs, inrs, COORDS)
    text = AugmentReport("six", Path(), (moved,), (mixed,), (measure_recovery("signed", inrs),)).to_markdown()
    assert "| `flip:probability=0.5` | exact |" in text
    assert "| none | strangers | exact |" in text
    assert "| signed | 100.0% |" in text


def test_recovery_tells_a_match_that_cannot_undo_what_hid_the_copy(inrs, monkeypatch):
    assert measure_recovery("phase", inrs).share == 1
    monkeypatch.setitem(HIDDEN_BY, "permutation", (PermuteNeurons(), FlipSigns()))
    assert measure_recovery("permutation", inrs).share == 0


def test_a_set_of_images_gets_tables_and_pictures(tmp_path, monkeypatch):
    root, out = tmp_path / "set", tmp_path / "report"
    fit_dataset(tiny(limit=6, splits={"val": 0, "test": 0}), root, **LOCAL)
    drawn = {}
    monkeypatch.setattr(
        augmentation_report, "draw_columns", lambda columns, path, *_, **__: drawn.update({path.name: columns})
    )

    report = augment_report(root, count=4, out=str(out))

    assert report.folder == out
    assert {path.name for path in out.iterdir()} == {"report.md", "report.json"}
    rows = {name: list(columns[0].images) for name, columns in drawn.items()}
    assert rows["augmentations.png"] == ["as fitted", *(t.name for t in report.transforms)]
    for pairs in ("different-objects", "two-views-of-one-object"):
        assert rows[f"mixing-{pairs}.png"][1] == "pair 1, permute"
        captions = [column.caption[0] for column in drawn[f"mixing-{pairs}.png"]]
        assert captions == ["lam = 1, first", "lam = 0.75", "lam = 0.5", "lam = 0.25", "lam = 0, second"]
    assert all(
        image.shape == (8, 8, 1) for columns in drawn.values() for column in columns for image in column.images.values()
    )
    assert (out / "report.md").read_text() == report.to_markdown()
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(report.to_fields()))
    assert len(report.mixings) == 10
    for wrong, words in (
        ({"count": 1}, "count must be"),
        ({"split": "tset"}, "unknown split"),
        ({"dataset": 3}, "named by"),
    ):
        with pytest.raises(UsageError, match=words):
            augment_report(**({"dataset": root, "out": out} | wrong))
