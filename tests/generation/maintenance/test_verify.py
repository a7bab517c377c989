"""Verify: faults are reported, not raised; rendered INRs are compared with their source."""

import shutil

import pytest
import torch
from PIL import Image
from support.damage import SHARD, flip
from support.tiny_recipes import LOCAL, tiny

from inr_factory.cli.main import run
from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.fitting import fused_cpu, self_check
from inr_factory.generation.maintenance.verify import verify_dataset
from inr_factory.storage.manifest import MANIFEST


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "set"
    fit_dataset(tiny(), out, **LOCAL)
    return out


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def test_a_valid_set_has_no_faults_and_its_inrs_render_what_they_were_fitted_to(whole):
    seen = []

    report = verify_dataset(str(whole), render=True, on_shard=seen.append)

    assert (report.faults, report.valid, report.missing) == ((), 10, ())
    assert report.rendered.inrs == 48
    assert report.rendered.max_psnr_gap < 0.01
    assert len(seen) == 20


def test_a_picture_that_was_replaced_by_one_of_the_same_pixels_is_another_content(tmp_path):
    for number in range(10):
        (tmp_path / "images/a").mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), number * 20).save(tmp_path / f"images/a/{number}.bmp")
    recipe = tiny(source={"collection": "image_folder", "mode": "grey"}, limit=None, views=1)
    fit_dataset(recipe, tmp_path / "set", **LOCAL, data_root=tmp_path / "images")
    assert verify_dataset(tmp_path / "set", render=True).faults == ()
    content = bytearray((tmp_path / "images/a/3.bmp").read_bytes())
    content[6] ^= 1  # a reserved byte: the file has the same size
    (tmp_path / "images/a/3.bmp").write_bytes(content)

    (fault,) = verify_dataset(tmp_path / "set", render=True).faults

    assert "was fitted to another content of a/3.bmp than the source has" in fault.reason


def test_a_damaged_shard_is_a_fault_of_the_report_and_nothing_is_rendered(copy):
    flip(copy)

    report = verify_dataset(copy, render=True)

    assert [fault.path for fault in report.faults] == [SHARD]
    assert (report.valid, report.rendered) == (9, None)


def test_what_is_not_made_yet_is_missing_and_no_fault(tmp_path):
    fit_dataset(tiny(), tmp_path / "set", **LOCAL, shard="0/2")

    report = verify_dataset(tmp_path / "set")

    assert (report.faults, report.valid, len(report.missing)) == ((), 5, 5)


def test_a_set_of_several_engines_is_valid_and_says_so(tmp_path, monkeypatch, capsys):
    """As on a GPU where a later process found its engines wrong."""
    out = tmp_path / "set"
    monkeypatch.setattr(fused_cpu, "obstacle", lambda spec: "it is not built")
    fit_dataset(tiny(), out, **LOCAL, shard="0/2")
    faults = dict.fromkeys([("fused", torch.device("cpu")), ("batched", torch.device("cpu"))], "wrong")
    monkeypatch.setattr(self_check, "_faults", faults)
    fit_dataset(tiny(), out, **LOCAL, shard="1/2")

    report = verify_dataset(out, render=True)

    assert (report.faults, report.valid) == ((), 10)
    assert report.made_by == {"batched on cpu": 5, "reference on cpu": 5}
    assert run(["verify", str(out)]) == 0
    assert "engines, which agree within rounding: 5 batched on cpu, 5 reference on cpu" in capsys.readouterr().out


def test_a_folder_without_a_set_and_a_broken_manifest_are_errors(copy, tmp_path):
    with pytest.raises(UsageError, match="no data set"):
        verify_dataset(tmp_path / "nowhere")
    (copy / MANIFEST).write_text("{")
    with pytest.raises(IntegrityError, match="manifest"):
        verify_dataset(copy)
