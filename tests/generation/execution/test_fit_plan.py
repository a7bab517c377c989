"""Fit plan: what is read to see that a set is complete, and what to add views costs."""

import json
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from support.tiny_recipes import LOCAL, shards, strip_version, tiny

from inr_factory.errors import UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.fit_plan import continued_recipe, plan_fit, plan_from_arguments
from inr_factory.generation.execution.run_settings import FitSettings
from inr_factory.generation.maintenance.verify import verify_dataset
from inr_factory.generation.recipe import load_recipe

COUNTED = ("load_manifest", "file_sizes", "remove_stale_temporaries")


@pytest.fixture
def whole(tmp_path):
    fit_dataset(tiny(views=1), tmp_path / "set", **LOCAL)
    return tmp_path / "set"


@pytest.fixture
def calls(whole, monkeypatch):
    """How often each of the functions was called since the set was made, from any module."""
    counts = Counter()

    def counted(name, function):
        return lambda *args, **kwargs: (counts.update([name]), function(*args, **kwargs))[1]

    for module in [module for name, module in sys.modules.items() if name.startswith("inr_factory.")]:
        for name in COUNTED:
            if name in vars(module):
                monkeypatch.setattr(module, name, counted(name, vars(module)[name]))
    return counts


def test_a_finished_fit_reads_the_manifest_and_lists_the_shards_once(whole, calls):
    report = fit_dataset(tiny(views=1), whole, **LOCAL)

    assert (report.made, report.missing) == (0, 0)
    assert calls == {"load_manifest": 1, "file_sizes": 1, "remove_stale_temporaries": 1}


def test_a_fit_that_adds_views_reads_again_only_when_it_writes(whole, calls, monkeypatch):
    monkeypatch.setattr("inr_factory.generation.execution.progress_recorder.RECORD_SECONDS", 1e9)

    report = fit_dataset(tiny(views=3), whole, **LOCAL)

    assert (report.made, report.missing) == (10, 0)
    # The plan; the record of the new views before the first shard; the record of the new shards. It was 6, 6 and 3.
    assert calls == {"load_manifest": 3, "file_sizes": 2, "remove_stale_temporaries": 1}


def test_a_plan_names_what_is_missing_and_what_lies_unrecorded_and_writes_nothing(whole):
    name = "data/train-view000-00001.h5"
    (whole / "data/train-view001-00000.h5").write_bytes(b"mine")
    (whole / name).unlink()
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}

    plan = plan_fit(tiny(views=2), whole, FitSettings())

    assert not plan.complete
    assert (
        {task.path for task in plan.tasks}
        == plan.missing
        == {name} | {path for path in plan.manifest.shard_names() if "view001" in path}
    )
    assert [task.path for task in plan.unrecorded] == ["data/train-view001-00000.h5"]
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_fewer_views_than_a_set_has_are_complete_although_others_are_missing(whole):
    fit_dataset(tiny(views=2), whole, **LOCAL)
    (whole / "data/train-view001-00001.h5").unlink()

    assert plan_fit(tiny(views=1), whole, FitSettings()).complete
    assert not plan_fit(tiny(views=2), whole, FitSettings()).complete


def test_options_lie_over_the_recipe_and_settings(tmp_path):
    report = fit_dataset("digits", tmp_path / "set", views=2, limit=6, settings=["fit.engine=none", "views=5"], **LOCAL)

    assert (report.recipe.views, report.recipe.fit.engine, report.manifest.rows) == (2, "none", 12)
    assert len(shards(tmp_path / "set")) == report.made


def test_a_rate_that_was_chosen_for_adam_is_named_under_sprint(tmp_path):
    def notes(*settings):
        plan = plan_fit(load_recipe("digits", ["limit=8", "spec.hidden_dim=16", *settings]), tmp_path, FitSettings())
        return [note for note in plan.notes if "learning_rate" in note]

    assert notes() == notes("fit.optimizer=sprint", "fit.learning_rate=0.01") == []
    (note,) = notes("fit.optimizer=sprint")
    assert note == "fit.learning_rate is 0.003; sprint's own for this net is --set fit.learning_rate=0.016"
    shapes = load_recipe("primitives", ["limit=8", "fit.learning_rate=5e-3"])
    assert plan_fit(shapes, tmp_path / "shapes", FitSettings()).notes[-1].endswith("--set fit.learning_rate=0.002")
    assert notes("fit.optimizer=muon", "fit.learning_rate=0.003") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "slurm"}, "--backend must be auto, ray or local, got 'slurm'"),
        ({"workers": 0}, "--workers must be at least 1, got 0"),
        ({"device": "gpu"}, "--device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"device": "cuda:1", "backend": "ray"}, "names one GPU, which needs --backend local"),
        ({"views": 0}, "views: input should be greater than or equal to 1, got 0"),
        ({"seed": "x"}, "seed: input should be a valid integer"),
        ({"settings": ["fit.stpes=1"]}, "did you mean 'fit.steps'"),
        ({"recipe": "digts"}, "did you mean 'digits'"),
        ({"recipe": 7}, "a recipe is a name, a YAML file, a dict or a Recipe, got int"),
        ({"settings": "fit.steps=1"}, "settings is a list of key=value, got the string 'fit.steps=1'"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(tmp_path, options, message):
    with pytest.raises(UsageError) as caught:
        fit_dataset(**({"recipe": "digits", "out": tmp_path / "set"} | options))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("device", "gpu", "named"),
    [("cpu", True, False), ("auto", False, False), ("auto", True, True), ("cuda:1", True, True)],
)
def test_the_software_of_a_set_names_triton_on_a_gpu_only(device, gpu, named, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("inr_factory.generation.fitting.fused_cuda.metadata.version", lambda name: f"{name} 3.6.0")
    settings = FitSettings.checked(device=device, backend="local")
    manifest = plan_fit(tiny(), tmp_path / "set", settings).manifest
    assert manifest.software.get("triton") == ("triton 3.6.0" if named else None)


def test_a_set_from_before_triton_was_named_is_continued_on_a_gpu(whole, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    before = plan_fit(tiny(views=1), whole, FitSettings.checked(device="cpu")).manifest
    plan = plan_fit(tiny(views=2), whole, FitSettings.checked(device="cuda"))
    assert plan.manifest.software == before.software
    assert len(plan.tasks) == 5


@pytest.fixture
def old(tmp_path):
    """A set as one was written before recipes had a version."""
    folder = tmp_path / "old"
    fit_dataset(tiny(views=1, version=1), folder, **LOCAL)
    strip_version(folder)
    return folder


def test_a_set_without_a_version_is_continued_as_version_1(old):
    report = fit_dataset(tiny(views=2), old, **LOCAL)

    assert report.recipe.version == 1
    assert (report.made, report.missing) == (5, 0)
    assert "version 1 of the recipe" in report.notes[0]
    assert not verify_dataset(old).faults


def test_a_recipe_by_name_has_the_defaults_of_the_version_of_the_set(old, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "inr_factory.generation.execution.fit_plan.load_recipe",
        lambda recipe, settings, version, **values: seen.append(version) or tiny(views=1, version=version or 2),
    )

    plan = plan_from_arguments("tiny", old, None, None, None, (), **LOCAL)

    assert (seen, plan.recipe.version, plan.complete) == ([None, 1], 1, True)


def test_a_version_that_the_user_names_is_kept(old, tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(json.dumps(tiny(views=1).model_dump(mode="json", exclude={"version"})))

    assert plan_from_arguments(recipe, old, None, None, None, (), **LOCAL).complete
    with pytest.raises(UsageError, match="version is 2 here, 1 there"):
        fit_dataset(recipe, old, settings=["version=2"], **LOCAL)


@pytest.mark.parametrize(
    ("name", "before"), [("mnist", "mnist_40db"), ("mnist_10view", "mnist_40db"), ("cifar10", "cifar10_40db")]
)
def test_a_set_of_a_recipe_that_has_changed_is_not_mixed_and_the_refusal_names_its_recipe(name, before, tmp_path):
    fields = load_recipe(before, ["limit=100"]).model_dump(mode="json") | {"name": name}
    begun = SimpleNamespace(recipe=fields)

    with pytest.raises(UsageError) as refused:
        continued_recipe(load_recipe(name, ["limit=100"]), begun, tmp_path)

    message = str(refused.value)
    assert f"holds a set of another recipe ({name}: fit.learning_rate" in message
    assert f"that of the recipe {before} now; continue it by `inr-factory fit {tmp_path}`" in message


def test_a_set_of_settings_of_its_own_is_no_built_in_recipe(tmp_path):
    fields = load_recipe("mnist_40db", ["spec.omega_0=7"]).model_dump(mode="json")

    with pytest.raises(UsageError, match=r"there\); continue it by"):
        continued_recipe(load_recipe("mnist"), SimpleNamespace(recipe=fields), tmp_path)
