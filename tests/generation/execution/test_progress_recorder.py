"""ProgressRecorder: several runs on one set at once, records that take a small share of the time, logs."""

import fcntl
import json

import pytest
from support.tiny_recipes import LOCAL, files, tiny

from inr_factory.generation.execution import progress_recorder as module
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.fit_plan import describe_set
from inr_factory.generation.execution.progress_recorder import ProgressRecorder
from inr_factory.generation.execution.shard_plan import make_shard_plan
from inr_factory.generation.sources.registry import open_source
from inr_factory.storage import manifest_file
from inr_factory.storage.dataset_card import CROISSANT, README
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest, update_manifest
from inr_factory.storage.run_log import LOG_FOLDER, RunLog


def many(**changes):
    """26 shards of two objects."""
    return tiny(shard_objects=2, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "set"
    fit_dataset(many(), out, **LOCAL)
    return out


@pytest.fixture(scope="module")
def entries(whole):
    return {entry.path: entry for entry in load_manifest(whole).shards}


@pytest.fixture
def new_run(tmp_path):
    """A run on an empty set: its folder, and what makes the run."""
    recipe = many()
    source = open_source(recipe.source)
    plan = make_shard_plan(recipe, source)
    out = tmp_path / "set"
    manifest = update_manifest(out, describe_set(recipe, source, plan))

    def begin(broken=(), **how):
        return ProgressRecorder(out, manifest, plan, plan.tasks(2), set(broken), RunLog(out, (0, 1)), None, **how)

    return out, begin


def put(whole, out, path):
    (out / path).parent.mkdir(exist_ok=True)
    (out / path).write_bytes((whole / path).read_bytes())


def refuse(*_):
    raise OSError(38, "Function not implemented")


def test_a_record_that_another_run_wrote_over_is_laid_in_again(whole, entries, new_run, monkeypatch):
    out, begin = new_run
    empty, write, overwritten = (out / MANIFEST).read_bytes(), manifest_file.write_atomically, []

    def write_and_lose(path, content):
        write(path, content)
        if content.count(b".h5") == len(entries) and not overwritten:
            overwritten.append(path)
            path.write_bytes(empty)  # by another run, which had read it before

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(manifest_file, "SETTLING_SECONDS", (0, 0))
    monkeypatch.setattr(manifest_file, "write_atomically", write_and_lose)
    run = begin()
    for task in run.pending_tasks():
        put(whole, out, task.path)
        run.listener.done(task, entries[task.path])
    run.finish()
    assert overwritten
    assert (out / MANIFEST).read_bytes() == (whole / MANIFEST).read_bytes()


def test_what_another_run_made_meanwhile_is_left_out_and_recorded_in_the_end(whole, entries, new_run):
    out, begin = new_run
    run, made = begin(), []
    for task in run.pending_tasks():
        if not made:
            for path in list(entries)[-5:]:
                put(whole, out, path)
        made.append(task.path)
        put(whole, out, task.path)
        run.listener.done(task, entries[task.path])
    assert sorted(made) == sorted(list(entries)[:-5])
    assert run.progress.tally.done == run.progress.inrs == 48 - sum(e.rows for e in list(entries.values())[-5:])
    assert run.finish() == 5
    assert files(out) == {name: content for name, content in files(whole).items() if name not in (README, CROISSANT)}


def test_a_file_that_was_broken_before_is_made_again(whole, entries, new_run):
    out, begin = new_run
    broken, other = list(entries)[:2]
    put(whole, out, broken)
    put(whole, out, other)
    assert {task.path for task in begin([broken]).pending_tasks()} == set(entries) - {other}


def test_a_second_run_begins_in_an_order_of_its_own_and_says_so(new_run):
    _, begin = new_run
    first = begin()
    second = begin()
    assert [task.path for task in first.pending_tasks()] != [task.path for task in second.pending_tasks()]
    assert set(first.tasks) == set(second.tasks)
    assert not first.progress.notes
    assert "also fits this set" in second.progress.notes[0]


def test_records_take_a_small_share_of_the_time(new_run, monkeypatch, entries):
    _, begin = new_run
    now, recorded = [0.0], []

    def slow(out, manifest, entries=()):
        recorded.append(now[0])
        now[0] += 3.0
        return manifest

    monkeypatch.setattr(module, "update_manifest", slow)
    run = begin(clock=lambda: now[0])
    task = run.tasks[0]
    for _ in range(2000):
        now[0] += 0.5
        run.listener.done(task, entries[task.path])
    assert len(recorded) > 2
    assert 3.0 * len(recorded) < 0.03 * now[0]


def test_the_log_of_a_run_tells_start_deaths_and_end(tmp_path):
    out = tmp_path / "set"
    fit_dataset(tiny(), out, **LOCAL)
    (log,) = (out / LOG_FOLDER).iterdir()
    start, end = [json.loads(line) for line in log.read_text().splitlines()]
    assert (start["event"], start["backend"], start["shards"], start["part"]) == ("start", "local", 10, [0, 1])
    assert (end["event"], end["ending"], end["made"]) == ("end", "complete", 10)
    assert log.stat().st_size < 2000


def test_the_log_of_a_run_that_failed_says_that_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "inr_factory.generation.execution.run_fit.run_local", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        fit_dataset(tiny(), tmp_path, **LOCAL)
    (log,) = (tmp_path / LOG_FOLDER).iterdir()
    assert json.loads(log.read_text().splitlines()[-1])["ending"] == "stopped"
