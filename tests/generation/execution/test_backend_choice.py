"""Backend choice: short runs and machines without Ray take processes of this machine, and one line says so."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from support.tiny_recipes import files, tiny

from inr_factory.errors import ResourceError, UsageError
from inr_factory.generation.execution import backend_choice, ray_pool, run_fit
from inr_factory.generation.execution.backend_choice import choose_backend, estimate_seconds
from inr_factory.generation.execution.estimate import estimate
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.fit_plan import plan_fit
from inr_factory.generation.execution.ray_address import RayUnavailableError
from inr_factory.generation.execution.run_settings import FitSettings, cluster_address


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, __spec__=True))


@pytest.fixture
def plan(tmp_path):
    return plan_fit(tiny(), tmp_path / "set", FitSettings.checked(device="cpu"))


def test_auto_is_the_default(plan):
    assert plan.settings.backend == "auto"


def test_a_short_run_takes_processes_of_this_machine_and_says_so(plan):
    backend, why = choose_backend(plan, "cpu", 2)

    assert backend == "local"
    assert "s of work: processes of this machine make the shards; --backend ray takes Ray" in why


def test_a_long_run_takes_ray(plan, monkeypatch):
    monkeypatch.setattr(backend_choice, "SHORT_SECONDS", 0)

    assert choose_backend(plan, "cpu", 2) == ("ray", None)


def test_fits_that_do_not_end_in_time_count_with_all_their_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(backend_choice, "PROBE_SECONDS", 0.2)
    endless = tiny(fit={"steps": 10**7, "target_psnr": None, "engine": "reference"})
    plan = plan_fit(endless, tmp_path / "set", FitSettings.checked(device="cpu"))

    assert estimate_seconds(plan, 2) > backend_choice.SHORT_SECONDS


def test_a_machine_without_ray_takes_processes(plan, monkeypatch):
    monkeypatch.setattr(backend_choice, "find_spec", lambda name: None)
    monkeypatch.setattr(backend_choice, "SHORT_SECONDS", 0)

    backend, why = choose_backend(plan, "cpu", 2)

    assert backend == "local"
    assert why.startswith("Ray is not installed: processes of this machine")


@pytest.mark.parametrize("change", [{"backend": "ray"}, {"address": "host:1"}], ids=["named", "address"])
def test_a_backend_or_an_address_that_is_named_is_taken(plan, change):
    assert choose_backend(replace(plan, settings=replace(plan.settings, **change)), "cpu", 2) == ("ray", None)


def test_a_variable_names_a_cluster_and_a_cluster_that_runs_is_used(plan, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "host:1")
    assert choose_backend(plan, "cpu", 2) == ("ray", None)
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True, __spec__=True))
    assert choose_backend(plan, "cpu", 2) == ("ray", None)


@pytest.mark.parametrize("address", ["", " ", "local"])
def test_a_variable_that_asks_for_a_ray_of_its_own_names_no_cluster(plan, monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert not plan.settings.remote
    assert cluster_address(None) is None
    assert cluster_address("host:1") == "host:1"


def test_where_ray_does_not_start_processes_make_the_same_set(tmp_path, monkeypatch):
    def failing(*arguments):
        raise RayUnavailableError("Ray cannot start here: no port; use --backend local")

    monkeypatch.setattr(backend_choice, "SHORT_SECONDS", 0)
    monkeypatch.setattr(ray_pool, "run_ray", failing)
    notes = []
    fit_dataset(tiny(), tmp_path / "auto", workers=1, on_progress=lambda state: notes.extend(state.notes))
    fit_dataset(tiny(), tmp_path / "local", workers=1, backend="local")

    assert "Ray cannot start here: no port: processes of this machine make the shards" in notes
    assert files(tmp_path / "auto") == files(tmp_path / "local")
    with pytest.raises(ResourceError, match="use --backend local"):
        fit_dataset(tiny(), tmp_path / "ray", backend="ray")


def test_an_unknown_backend_is_refused():
    with pytest.raises(UsageError, match="--backend must be auto, ray or local, got 'dask'"):
        FitSettings.checked(backend="dask")


def test_the_choice_is_said_once(tmp_path):
    notes = []
    fit_dataset(tiny(), tmp_path / "set", workers=1, on_progress=lambda state: notes.append(list(state.notes)))

    assert sum("processes of this machine" in note for note in notes[-1]) == 1
    assert notes[-1][0].startswith("objects in val: 2"), "what the plan says comes before the first shard"
    assert run_fit.WITHOUT_RAY in notes[0][1]


def test_a_dry_run_says_which_backend_auto_takes(tmp_path):
    assert run_fit.WITHOUT_RAY in estimate(tiny(), tmp_path / "set", workers=1).notes[-1]
    assert run_fit.WITHOUT_RAY not in estimate(tiny(), tmp_path / "set", backend="ray").notes[-1]
