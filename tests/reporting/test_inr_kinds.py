"""Sets of every activation, width and encoding, from fit to pictures: verify --render, status, show and report."""

import pytest
from support.tiny_recipes import LOCAL, tiny

from inr_factory.cli.main import run
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.storage.manifest_file import load_manifest

IMAGES = {
    "relu with an encoding": ({"activation": "relu", "widths": [9, 5], "frequencies": 3}, "max(0, z)"),
    "sine with an encoding alone": (
        {"widths": [9, 5], "omega_0": 7, "frequencies": 2, "coordinates": False},
        "sin(7 z)",
    ),
    "tanh": ({"activation": "tanh", "hidden_dim": 8}, "tanh(z)"),
    "gauss": ({"activation": "gauss", "hidden_dim": 8}, "exp(-(10 z)² / 2)"),
    "finer": ({"activation": "finer", "widths": [8, 12]}, "sin(30 (|z| + 1) z)"),
}
FEW = {"num_points": 300, "num_truth": 100, "num_surface": 50, "per_class": 1}


def make(out, spec, **changes):
    fit_dataset(tiny(spec=spec, fit={"steps": 10, "floor_psnr": -99, "lanes": 4}, **changes), out, **LOCAL)
    assert load_manifest(out).siren_spec.activation == spec.get("activation", "sine")


@pytest.mark.parametrize(("spec", "formula"), IMAGES.values(), ids=IMAGES)
def test_images_of_any_kind_are_verified_shown_and_reported(tmp_path, capsys, spec, formula):
    out = tmp_path / "set"
    make(out, spec)

    for command in (["verify", out, "--render"], ["status", out], ["show", out], ["report", out]):
        assert run([str(word) for word in command]) == 0, (command, capsys.readouterr().err)
    text = (out / "report.html").read_text()
    assert f"<dd>{formula}, z = W x + b</dd>" in text
    assert ("first layer gets" in text) == ("frequencies" in spec)
    assert "No playground" not in text


def test_verify_render_notices_another_encoding(tmp_path, capsys, monkeypatch):
    make(tmp_path / "set", IMAGES["relu with an encoding"][0])
    monkeypatch.setattr("inr_factory.inr.batch.encode", lambda spec, coords: coords.new_zeros(*coords.shape[:-1], 14))

    assert run(["verify", str(tmp_path / "set"), "--render"]) == 4


@pytest.mark.parametrize("spec", [IMAGES["relu with an encoding"][0], IMAGES["gauss"][0], IMAGES["finer"][0]])
def test_shapes_of_any_kind_are_verified_shown_and_reported(tmp_path, capsys, monkeypatch, spec):
    monkeypatch.setattr("inr_factory.reporting.html.renderings.RESOLUTION", 16)
    monkeypatch.setattr("inr_factory.reporting.html.renderings.FRAME_SIDE", 40)
    out = tmp_path / "set"
    make(out, spec, source={"collection": "primitives", **FEW}, limit=4)

    for command in (["verify", out, "--render"], ["show", out], ["report", out]):
        assert run([str(word) for word in command]) == 0, (command, capsys.readouterr().err)
