"""Stand-ins for wandb and mlflow: modules with the calls that training makes, which keep runs in memory."""

import sys
from collections import defaultdict
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


@dataclass
class TrackedRun:
    """One run: settings, figures by name and epoch, final figures, and the state after each session."""

    name: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    final: dict[str, float] = field(default_factory=dict)
    states: list[str] = field(default_factory=list)


@dataclass
class StandInTracker:
    """A tracker with its runs by id. Its call number `fails_at`, and all later ones, fail."""

    runs: dict[str, TrackedRun] = field(default_factory=dict)
    calls: int = 0
    fails_at: int | None = None

    def call(self) -> None:
        self.calls += 1
        if self.fails_at is not None and self.calls >= self.fails_at:
            print("a library's own words", file=sys.stderr)
            raise ConnectionError("the server is down\nas it says in two lines")

    def new_run(self, name: str) -> str:
        self.runs[key := f"run{len(self.runs)}"] = TrackedRun(name)
        return key


class WandbRun:
    offline, url = False, "https://example.org/run"

    def __init__(self, tracker: StandInTracker, key: str) -> None:
        self.tracker, self.id, self.kept = tracker, key, tracker.runs[key]
        self.summary = SimpleNamespace(update=self._summarize)

    def _summarize(self, figures: dict[str, float]) -> None:
        self.tracker.call()
        self.kept.final |= figures

    def log(self, figures: dict[str, float], step: int) -> None:
        self.tracker.call()
        for name, value in figures.items():
            self.kept.figures[name].append((step, value))

    def finish(self, exit_code: int) -> None:
        self.tracker.call()
        self.kept.states.append("failed" if exit_code else "finished")


def stand_in_wandb(monkeypatch: pytest.MonkeyPatch) -> StandInTracker:
    """A module `wandb` for the time of a test."""
    tracker = StandInTracker()

    def init(id: str | None, name: str | None, config: dict[str, Any] | None, **options: Any) -> WandbRun:
        tracker.call()
        assert options["project"] == "inr-factory"
        assert options["dir"].is_dir()
        key = id or tracker.new_run(name or "")
        assert (config is None) == (id is not None), "settings are those of a new run"
        tracker.runs[key].settings |= config or {}
        return WandbRun(tracker, key)

    _install(monkeypatch, "wandb", init=init, Settings=SimpleNamespace)
    return tracker


class MlflowClient:
    tracker: StandInTracker

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        self.tracker.call()
        return None

    def create_experiment(self, name: str) -> str:
        self.tracker.call()
        return name

    def create_run(self, experiment_id: str, run_name: str) -> SimpleNamespace:
        self.tracker.call()
        assert experiment_id == "inr-factory"
        return SimpleNamespace(info=SimpleNamespace(run_id=self.tracker.new_run(run_name)))

    def update_run(self, run_id: str, status: str) -> None:
        self.tracker.call()
        assert status == "RUNNING"

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        self.tracker.call()
        run = self.tracker.runs[run_id]
        for name, value in params:
            assert isinstance(value, str)
            assert name not in run.settings, "MLflow refuses to change a parameter"
            run.settings[name] = value
        for name, value, _, step in metrics:
            kept = run.figures[name] if not name.startswith(("test_", "best_")) else None
            if kept is None:
                run.final[name] = value
            else:
                kept.append((step, value))

    def set_terminated(self, run_id: str, status: str) -> None:
        self.tracker.call()
        self.tracker.runs[run_id].states.append({"FINISHED": "finished", "KILLED": "failed"}[status])


def stand_in_mlflow(monkeypatch: pytest.MonkeyPatch) -> StandInTracker:
    """A module `mlflow` for the time of a test."""
    client = type("Client", (MlflowClient,), {"tracker": (tracker := StandInTracker())})
    _install(monkeypatch, "mlflow", MlflowClient=client, get_tracking_uri=lambda: "sqlite:///mlflow.db")
    _install(monkeypatch, "mlflow.entities", Param=lambda *values: values, Metric=lambda *values: values)
    _install(monkeypatch, "mlflow.exceptions", MlflowException=RuntimeError)
    return tracker


def _install(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


STAND_INS = {"wandb": stand_in_wandb, "mlflow": stand_in_mlflow}
