"""Aligned copies: the same functions and rows, weights nearer to the template, complete after an interruption."""

import numpy as np
import pytest
import torch
from support.small_sets import make_set

from inr_factory.cli.main import run
from inr_factory.errors import PartialError, UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.learning.alignment.aligned_dataset import align_dataset, find_template
from inr_factory.learning.alignment.weight_matching import relative_distance
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest


@pytest.fixture
def root(tmp_path):
    make_set(tmp_path / "set", views=2)
    return tmp_path / "set"


def inrs_of(root, split="train"):
    data = INRDataset(root, split)
    return INRBatch.from_flat(data.spec, data.gather(np.arange(len(data)))[0]), data


@pytest.mark.parametrize("match", ["permutation", "signed", "phase"])
def test_an_aligned_copy_has_the_same_functions_and_rows_but_nearer_weights(root, tmp_path, match):
    report = align_dataset(root, tmp_path / "copy", match)

    before, rows = inrs_of(root)
    after, copied = inrs_of(tmp_path / "copy")
    torch.testing.assert_close(after(pixel_grid(5, 5)), before(pixel_grid(5, 5)), atol=1e-5, rtol=0)
    assert not torch.equal(after.flatten(), before.flatten())
    assert (rows.object_ids == copied.object_ids).all()
    assert (rows.labels == copied.labels).all()
    assert (rows.psnr == copied.psnr).all()
    fixed, _ = find_template(root, load_manifest(root), None)
    template = fixed.select(torch.zeros(len(after), dtype=torch.long))
    assert (relative_distance(after, template) <= relative_distance(before, template) + 1e-6).all()
    assert report.after < report.before


def test_the_template_itself_stays_as_it_is(root, tmp_path):
    align_dataset(root, tmp_path / "copy", "signed", template="train-3@1")
    before, rows = inrs_of(root)
    after, _ = inrs_of(tmp_path / "copy")
    at = np.flatnonzero((rows.object_ids == "train-3") & (rows.views == 1))[0]
    assert torch.equal(after.flatten()[at], before.flatten()[at])


def test_a_copy_is_completed_and_what_it_has_is_left_alone(root, tmp_path):
    out = tmp_path / "copy"
    align_dataset(root, out)
    whole = {path.name: path.read_bytes() for path in (out / "data").iterdir()}
    victim = sorted((out / "data").iterdir())[1]
    victim.unlink()
    times = {path: path.stat().st_mtime_ns for path in (out / "data").iterdir()}

    report = align_dataset(root, out)

    assert report.made == 1
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert {path.name: path.read_bytes() for path in (out / "data").iterdir()} == whole
    assert align_dataset(root, out).made == 0


def test_a_copy_of_a_set_that_is_not_complete_is_partial_until_the_set_is_complete(root, tmp_path, capsys):
    command = ["align", str(root), "--out", str(tmp_path / "copy"), "--quiet"]
    whole = (root / MANIFEST).read_bytes()
    manifest = load_manifest(root)
    (root / MANIFEST).write_text(manifest.model_copy(update={"shards": manifest.shards[:-1]}).to_json())
    assert run(command) == PartialError.exit_code
    assert f"{root} lacks 1 shard; complete it, and run the same command again" in capsys.readouterr().err

    (root / MANIFEST).write_bytes(whole)
    assert run(command) == 0
    assert "1 shard aligned" in capsys.readouterr().out


def test_a_copy_in_another_way_is_refused(root, tmp_path):
    align_dataset(root, tmp_path / "copy", "signed")
    with pytest.raises(UsageError, match="align made in another way"):
        align_dataset(root, tmp_path / "copy", "permutation")
    with pytest.raises(UsageError, match="is the set itself"):
        align_dataset(root, root)


@pytest.mark.parametrize(
    ("template", "words"),
    [("train-99", "no INR of object 'train-99'"), ("train-1@7", "view 7"), ("train-1@x", "NAME@VIEW")],
)
def test_a_template_that_is_not_there_is_told(root, tmp_path, template, words):
    with pytest.raises(UsageError, match=words):
        align_dataset(root, tmp_path / "copy", template=template)


def test_a_wrong_match_leaves_no_folder(root, tmp_path):
    with pytest.raises(UsageError, match="match must be one of permutation, signed, phase, scale, got 'sign'"):
        align_dataset(str(root), str(tmp_path / "copy"), match="sign")

    assert not (tmp_path / "copy").exists()


def test_fitting_into_a_copy_is_refused(tmp_path):
    from support.tiny_recipes import LOCAL, tiny

    from inr_factory.generation.execution.fit_dataset import fit_dataset

    fit_dataset(tiny(), tmp_path / "set", **LOCAL)
    align_dataset(tmp_path / "set", tmp_path / "copy")
    with pytest.raises(UsageError, match="is a copy"):
        fit_dataset(tiny(views=3), tmp_path / "copy", **LOCAL)
