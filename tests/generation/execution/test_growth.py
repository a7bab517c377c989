"""Growth: a set gets more objects and more views, and nothing that it has changes."""

import json
import shutil

import pytest
from support.command_line import failure, outcome
from support.tiny_recipes import LOCAL, files, shards, tiny

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.execution.estimate import estimate
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.fit_plan import plan_fit
from inr_factory.generation.execution.run_settings import FitSettings
from inr_factory.generation.maintenance.merge import merge_datasets
from inr_factory.generation.maintenance.repair import repair_dataset
from inr_factory.generation.maintenance.verify import verify_dataset
from inr_factory.generation.recipe import check_recipe
from inr_factory.reporting.dataset_status import dataset_status
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest, load_origin, update_manifest
from inr_factory.storage.shards import ShardReader


@pytest.fixture
def grown(tmp_path):
    """24 objects, then 40."""
    out = tmp_path / "set"
    fit_dataset(tiny(views=1), out, **LOCAL)
    before = shards(out)
    report = fit_dataset(tiny(views=1, limit=40), out, **LOCAL)
    assert shards(out).items() >= before.items()
    assert report.missing == 0
    assert any("grows from 24 to 40 objects; its shards stay as they are" in note for note in report.notes)
    return out


@pytest.mark.parametrize("version", [1, 2])
def test_a_larger_limit_adds_blocks_and_changes_no_shard(tmp_path, version):
    """faults.md section 4: --limit 1000, then --limit 2000 into the same set."""
    out = tmp_path / "set"
    fit_dataset(tiny(version=version), out, **LOCAL)
    before = shards(out)

    report = fit_dataset(tiny(version=version, limit=40), out, **LOCAL)

    assert shards(out).items() > before.items()
    assert sum(split.objects for split in report.manifest.splits.values()) == 40
    assert verify_dataset(out, render=True).faults == ()
    whole = fit_dataset(tiny(version=version, limit=40), tmp_path / "whole", **LOCAL).manifest
    assert {s: r.objects for s, r in report.manifest.splits.items()} == {s: r.objects for s, r in whole.splits.items()}
    assert fit_dataset(tiny(version=version, limit=40), out, **LOCAL).made == 0
    assert fit_dataset(tiny(version=version), out, **LOCAL).made == 0, "the smaller is a part of the larger"
    assert load_origin(out).limits == [24, 40]


def test_a_set_of_shapes_of_an_earlier_version_gets_views_with_its_columns(tmp_path):
    fields = {"source": {"collection": "primitives", "per_class": 1, "num_points": 200, "num_truth": 100}}
    settings = {version: tiny(**fields, limit=2, version=version) for version in (2, 3)}
    columns = {}
    for version, recipe in settings.items():
        out = tmp_path / str(version)
        fit_dataset(recipe.model_copy(update={"views": 1}), out, **LOCAL)
        fit_dataset(tiny(**fields, limit=2, version=version), out, **LOCAL)
        assert verify_dataset(out, render=True).faults == ()
        entries = load_manifest(out).shards
        assert {entry.view for entry in entries} == {0, 1}
        (columns[version],) = {tuple(ShardReader(out, entry).column_names) for entry in entries if entry.rows}

    assert set(columns[3]) - set(columns[2]) == {"fscore", "normals"}
    assert set(columns[2]) < set(columns[3])
    shown = {
        version: {name for part in dataset_status(tmp_path / str(version)).parts for name in part.quality}
        for version in columns
    }
    assert shown[3] - shown[2] == {"fscore"}, "of view 1, too; small INRs have no surface"
    assert "iou" in shown[2]
    assert "curvature" not in json.loads((tmp_path / "2" / MANIFEST).read_text())["recipe"]["source"]


def test_a_grown_set_gets_views_and_grows_again_to_all(grown):
    assert fit_dataset(tiny(views=2, limit=40), grown, **LOCAL).missing == 0
    before = shards(grown)
    report = fit_dataset(tiny(views=1, limit=None), grown, **LOCAL)
    assert report.manifest.limits == [24, 40, None]
    assert shards(grown).items() > before.items()
    assert sum(split.objects for split in report.manifest.splits.values()) == 1797


def test_a_set_keeps_its_limit_where_none_is_given(grown):
    fields = tiny(views=2).model_dump(mode="json", exclude_unset=True)
    del fields["limit"]
    report = fit_dataset(check_recipe(fields, "test"), grown, **LOCAL)
    assert (report.manifest.limits, report.manifest.rows, report.missing) == ([24, 40], 80, 0)
    assert any("keeps its 40 objects, --limit adds some, --set limit=null all" in note for note in report.notes)
    assert estimate(check_recipe(fields, "test"), grown, settings=["limit=null"], **LOCAL).inrs == 2 * (1797 - 40)


def test_the_command_of_a_set_names_a_folder_and_no_recipe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fit_dataset(tiny(views=1), "digits", **LOCAL)
    assert "to extend it: inr-factory fit ./digits --views 2," in outcome(capsys, "status", "digits")[2]
    assert outcome(capsys, "fit", "./digits", "--views", 2, "--backend", "local", "--workers", 1)[0] == 0
    assert load_manifest(tmp_path / "digits").rows == 48


@pytest.mark.parametrize(
    ("floor", "code", "said"),
    [(99, 3, "no INR was kept; 8 in quarantine"), (-99, 0, " dB, below fit.target_psnr 35; 0 in quarantine")],
)
def test_a_fit_says_what_it_did_not_reach(tmp_path, capsys, floor, code, said):
    settings = [f"--set={option}" for option in ("limit=4", "fit.steps=1", f"fit.floor_psnr={floor}")]
    ended, out, _ = outcome(capsys, "fit", "digits", *settings, "--out", tmp_path, "--backend", "local", "--workers", 1)
    assert ended == code
    assert said in out


def test_a_smaller_limit_of_an_incomplete_set_is_refused_with_the_reason(grown):
    next(grown.glob("data/train-*.h5")).unlink()
    with pytest.raises(UsageError, match="begun with the limit 40 and is not complete, and a set keeps its objects"):
        fit_dataset(tiny(views=1), grown, **LOCAL)


def test_a_lost_manifest_of_a_grown_set_is_rebuilt(grown):
    before = files(grown)
    (grown / MANIFEST).unlink()
    (grown / "data/train-view000-00001.h5").unlink()
    report = repair_dataset(grown, workers=1)
    assert report.missing == 0
    assert shards(grown) == {name: content for name, content in before.items() if name.endswith(".h5")}
    assert (grown / MANIFEST).read_bytes() == before[MANIFEST]


def test_parts_that_grew_alike_are_merged_and_others_refused(grown, tmp_path):
    fit_dataset(tiny(views=1), tmp_path / "small", **LOCAL)
    merged = merge_datasets([tmp_path / "small", grown], tmp_path / "merged")
    assert (merged.missing, merged.faults) == (0, ())
    assert shards(tmp_path / "merged") == shards(grown)
    fit_dataset(tiny(views=1), tmp_path / "other", **LOCAL)
    fit_dataset(tiny(views=1, limit=50), tmp_path / "other", **LOCAL)
    with pytest.raises(UsageError, match=r"limit is 50 here, 40 there"):
        merge_datasets([grown, tmp_path / "other"], tmp_path / "no")


def test_two_runs_that_grow_a_set_differently_do_not_mix(grown):
    stale = plan_fit(tiny(views=1, limit=60), grown, FitSettings()).manifest
    fit_dataset(tiny(views=1, limit=50), grown, **LOCAL)
    with pytest.raises(UsageError, match=r"another run has made .* grow otherwise"):
        update_manifest(grown, stale)


def test_the_folder_of_a_set_takes_the_place_of_its_recipe(tmp_path, capsys):
    """faults.md section 4: fit DATASET, and status that prints the command."""
    out, options = tmp_path / "a set", ["--backend", "local", "--workers", "1"]
    fit_dataset(tiny(views=1), out, **LOCAL)
    assert f"to extend it: inr-factory fit '{out}' --views 2, or a larger --limit" in outcome(capsys, "status", out)[2]
    code, said, _ = outcome(capsys, "fit", out, *options)
    assert (code, said.splitlines()[0]) == (0, f"nothing to do: {out} has all 5 shards of 1 view")
    assert outcome(capsys, "fit", out, "--views", 2, "--limit", 30, *options)[0] == 0
    manifest = load_manifest(out)
    assert (manifest.views, manifest.limits) == (2, [24, 30])
    assert outcome(capsys, "fit", out, "--limit", 35, *options)[0] == 0
    assert load_manifest(out).limits == [24, 30, 35]

    next(out.glob("data/train-*.h5")).unlink()
    code, line = failure(capsys, "status", out)
    assert (code, line) == (75, f"inr-factory: missing: 1 shard; continue: inr-factory fit '{out}'")
    assert json.loads(outcome(capsys, "status", out, "--json")[1])["command"] == f"inr-factory fit '{out}'"
    assert outcome(capsys, "fit", out, *options)[0] == 0
    assert verify_dataset(out).faults == ()


def test_a_set_without_its_manifest_points_to_repair(grown, tmp_path):
    copy = shutil.copytree(grown, tmp_path / "copy")
    (copy / MANIFEST).unlink()
    with pytest.raises(IntegrityError, match=r"has lost its manifest.json; inr-factory repair .*copy rebuilds it"):
        fit_dataset(copy, **LOCAL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no data set in"):
        fit_dataset(tmp_path / "empty", **LOCAL)


def test_settings_over_a_set_make_another_recipe(grown):
    with pytest.raises(UsageError, match=r"another recipe .*fit.steps is 11 here, 10 there"):
        fit_dataset(grown, settings=["fit.steps=11"], **LOCAL)


def test_a_dry_run_says_that_the_default_folder_is_taken(tmp_path, monkeypatch, grown):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(grown, tmp_path / "inrs/tiny")
    report = estimate(tiny(views=1, seed=5), **LOCAL)
    assert report.inrs == 24
    assert any("fit would need another --out: inrs/tiny holds a set of another recipe" in note for note in report.notes)
    with pytest.raises(UsageError, match="another recipe"):
        estimate(tiny(views=1, seed=5), tmp_path / "inrs/tiny", **LOCAL)


def test_a_small_validation_split_is_named_by_fit_and_dry_run(tmp_path):
    notes = [estimate(tiny(), tmp_path / "set", **LOCAL).notes, fit_dataset(tiny(), tmp_path / "set", **LOCAL).notes]
    assert all(any("fewer than 200" in note for note in each) for each in notes)
