"""Signals that an INR cannot show, from folder to card: counted, named, stored, and refused where a floor asks for it."""

import json

import numpy as np
import pytest
from PIL import Image
from support.command_line import failure, outcome
from support.images import save

from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.recipe import load_recipe
from inr_factory.generation.signals import Item, Signal
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.shards import ShardReader

FAST = [
    "--backend", "local", "--workers", "1", "--set", "fit.steps=3", "--set", "fit.floor_psnr=-99", "--set",
    "spec.hidden_dim=8", "--set", "splits={val: 0, test: 0}",
]  # fmt: skip
HIDDEN = "constant on source.background: 2"


@pytest.fixture(scope="module")
def icons(tmp_path_factory):
    """D04: white drawings on transparency, and others that show."""
    root = tmp_path_factory.mktemp("icons")
    for at, level in enumerate((255, 255, 0)):
        pixels = np.zeros((8, 8, 4), np.uint8)
        pixels[2 : 5 + at, 2:6] = (level, level, level, 255)
        save(root / "icon" / f"{at}.png", Image.fromarray(pixels))
    save(root / "plain" / "grey.png", np.full((8, 8), 77, np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    save(root / "plain" / "noise.png", noise)
    return root


def column(out, name):
    """The values of a column, by object."""
    manifest = load_manifest(out)
    (entry,) = manifest.shards
    shard = ShardReader(out, entry)
    return dict(zip(shard.object_ids, shard.column(name).tolist(), strict=True))


def test_white_drawings_on_transparency_are_named_by_every_verb_d04(icons, tmp_path, capsys):
    out = tmp_path / "set"
    arguments = ["fit", "image_folder", "--data-root", icons, "--out", out, *FAST]

    assert HIDDEN in outcome(capsys, *arguments, "--dry-run")[1]
    code, said, _ = outcome(capsys, *arguments)
    assert code == 0
    assert f"{HIDDEN} INRs (icon/0.png, icon/1.png); --set source.background=" in said
    assert "constant signal: 1 INR (plain/grey.png)" in said
    assert HIDDEN in outcome(capsys, *arguments)[1], "also where there is nothing to do"
    assert HIDDEN in outcome(capsys, "status", out)[1]
    assert HIDDEN in (out / "README.md").read_text().replace("\\", "")
    for verb in (["status", out], arguments, [*arguments, "--set", "views=2", "--dry-run"]):
        remarks = json.loads(outcome(capsys, *verb, "--json")[1])["remarks"]
        assert remarks[0] == {"kind": "hidden", "count": 2, "objects": ["icon/0.png", "icon/1.png"]}
    explained = column(out, "explained")
    assert np.isnan([explained[name] for name in ("icon/0.png", "icon/1.png", "plain/grey.png")]).all()
    assert outcome(capsys, "verify", out)[0] == 0


def test_another_background_shows_what_is_drawn_d04(icons, tmp_path, capsys):
    out = tmp_path / "set"
    code, said, _ = outcome(
        capsys, "fit", "image_folder", "--data-root", icons, "--out", out, *FAST, "--set", "source.background=0.5"
    )

    assert code == 0
    assert "constant on" not in said
    assert np.isnan(list(column(out, "explained").values())).sum() == 1
    assert column(out, "transparent")["icon/0.png"] == pytest.approx(1 - 12 / 64)


def test_a_floor_of_the_share_explained_puts_the_others_into_quarantine(icons, tmp_path, capsys):
    out = tmp_path / "set"
    code, _, errors = outcome(
        capsys, "fit", "image_folder", "--data-root", icons, "--out", out, *FAST, "--set", "fit.floor_explained=0.5"
    )

    assert code == 3
    assert "quarantine: plain/grey.png, view 0: its signal is constant, fit.floor_explained asks for 0.5" in errors
    assert load_manifest(out).remarks == ()


def test_the_column_is_what_the_stored_loss_and_the_picture_say(icons, tmp_path, capsys):
    out = tmp_path / "set"
    assert outcome(capsys, "fit", "image_folder", "--data-root", icons, "--out", out, *FAST)[0] == 0

    variance = (np.asarray(Image.open(icons / "plain" / "noise.png")) / 255).var()
    expected = 1 - column(out, "loss")["plain/noise.png"] / variance
    assert column(out, "explained")["plain/noise.png"] == pytest.approx(expected, abs=1e-5)


def test_sets_of_version_1_have_the_columns_that_they_had(icons, tmp_path, capsys):
    out = tmp_path / "set"
    assert (
        outcome(capsys, "fit", "image_folder", "--data-root", icons, "--out", out, *FAST, "--set", "version=1")[0] == 0
    )

    (entry,) = load_manifest(out).shards
    assert not {"explained", "transparent", "more_frames", "inside"} & set(ShardReader(out, entry).column_names)
    assert "remarks" not in (out / "manifest.json").read_text()


def test_an_unknown_colour_is_refused_before_anything_is_read(icons, tmp_path, capsys):
    arguments = ["fit", "image_folder", "--data-root", icons, "--out", tmp_path / "set", *FAST, "--set"]

    assert failure(capsys, *arguments, "source.background=blak")[0] == 2
    assert "did you mean 'black'" in failure(capsys, *arguments, "source.background=blak")[1]
    assert "'#rrggbb' in quotes" in failure(capsys, *arguments, "source.background=#000000")[1]


class Bowls:
    """Signed distances to a sphere; of the second all points lie outside, the third is cut off at its clamp."""

    name, version, licence, in_dim, out_dim, fingerprint = "bowls", "1", "none", 2, 1, "bowls-1"
    classes = ("bowl",)
    items = tuple(Item(f"bowl-{at}", 0, None) for at in range(3))

    def signal(self, index, view=0):
        grid = pixel_grid(8, 8)
        distances = grid.norm(dim=1, keepdim=True) - (0.5, -0.1, -9)[index]
        return Signal(grid, distances.clip(-1, 1), peak=2.0, field="sdf")


def test_distances_of_one_sign_and_clamped_ones_are_named(tmp_path):
    fields = {"name": "bowls", "source": {"collection": "own"}, "splits": {"val": 0, "test": 0}}
    fields |= {"fit": {"steps": 3, "floor_psnr": -99}, "spec": {"hidden_dim": 8, "output_bias": 0.0}}
    recipe = load_recipe("image_folder").model_validate(fields)

    report = fit_dataset(recipe, tmp_path / "set", source=Bowls(), backend="local", workers=1)

    found = {remark.kind: remark.objects for remark in report.remarks}
    assert found["one_sided"] == ("bowl-1",)
    assert found["constant"] == ("bowl-2",)
    assert column(tmp_path / "set", "inside") == {"bowl-0": pytest.approx(0.1875), "bowl-1": 0, "bowl-2": 0}
