"""Faults: a run that is killed, filled up, cut short or has a wrong clock makes the set of an undisturbed one.

A short version; fault_figures.py does the same at length.
"""

import os
import random
import signal
import time

import pytest
from support import faults, mutations
from support.faults import ALONE, Tally, arguments, fill_disk, kill_program, kill_runs, make_whole, small

from inr_factory.generation.execution import fit_plan
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.storage import atomic_files

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "set"
    return out, make_whole(small(), out)


@pytest.fixture
def tally():
    tally = Tally()
    yield tally
    assert tally.wrong == []


def test_the_suites_two_ways_of_asking_are_one_recipe():
    from inr_factory.generation.recipe import load_recipe

    words = arguments(None)
    overrides = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
    assert load_recipe("digits", [*overrides, "limit=32"]).difference(small()) == "nothing"


def test_runs_that_are_killed_make_the_same_set(whole, tmp_path, tally):
    kill_runs(tally, tmp_path, small(), whole[1], kills=8)
    assert tally.counts["runs killed"] == 8


def test_the_suite_sees_a_shard_that_is_not_the_undisturbed_runs(whole, tmp_path):
    tally = Tally()
    fit_dataset(small(seed=1), tmp_path / "set", **ALONE)
    faults.check_parts(tally, tmp_path / "set", whole[1], "another seed")
    faults.check_whole(tally, tmp_path / "set", whole[1], "another seed")
    assert len(tally.wrong) == 37


@pytest.mark.parametrize(("ways", "room"), [("write", 0), ("write", 200_000), ("write", 612_345), ("limit", 15_000)])
def test_a_full_disk_ends_a_run_with_5_and_the_next_completes_it(whole, tmp_path, tally, ways, room):
    fill_disk(tally, tmp_path / "set", small(), whole[1], room, ways)
    assert tally.counts["sets that came out identical"] == 1


def test_a_program_that_is_killed_with_its_workers_at_work_leaves_no_process_and_no_half_shard(whole, tmp_path, tally):
    kill_program(tally, tmp_path / "set", whole[1], signal.SIGKILL, wait=0.05)
    assert tally.counts["programs killed by SIGKILL"] == 1


def test_damaged_shards_are_named(whole, tmp_path, tally):
    mutations.mutate_shards(tally, whole[0], tmp_path, count=60)


def test_damaged_manifests_are_named_and_give_no_wrong_row(whole, tmp_path, tally):
    mutations.mutate_manifests(tally, whole[0], tmp_path, count=10)


def test_damaged_caches_are_passed_over(tmp_path, tally):
    mutations.mutate_caches(tally, tmp_path, count=30)


def test_ten_restarts_in_any_order_make_the_same_set(whole, tmp_path, tally, monkeypatch):
    order, out = random.Random(0), tmp_path / "set"
    in_order = fit_plan._tasks_of_part
    monkeypatch.setattr(fit_plan, "_tasks_of_part", lambda *given: order.sample(tasks := in_order(*given), len(tasks)))

    for _ in range(10):
        began = []

        def stop(state, began=began):
            began.append(state.tally.done)
            if state.tally.done - began[0] >= 12:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit_dataset(small(), out, **ALONE, on_progress=stop)
    fit_dataset(small(), out, **ALONE)

    faults.check_whole(tally, out, whole[1], "after ten restarts")


@pytest.mark.parametrize("years", [-20, 20])
def test_a_clock_that_jumps_changes_nothing(whole, tmp_path, tally, monkeypatch, years):
    out = tmp_path / "set"
    fit_dataset(small(views=1), out, **ALONE)
    orphans = [out / "data/.x.h5.elsewhere-12.0123abcd.tmp", out / ".manifest.json.elsewhere-12.0123abcd.tmp"]
    for path in orphans:
        path.touch()
    now = time.time() + years * 365 * 86400
    monkeypatch.setattr(atomic_files.time, "time", lambda: now)

    fit_dataset(small(), out, **ALONE)

    faults.check_whole(tally, out, whole[1], f"the clock {years} years off")


def test_a_temporary_file_that_another_machine_sweeps_away_is_written_again(tmp_path, monkeypatch):
    path, replace, taken = tmp_path / "file", os.replace, []

    def snatched(temporary, target):
        if len(taken) < 2:
            taken.append(temporary)
            temporary.unlink()
        replace(temporary, target)

    monkeypatch.setattr(atomic_files.os, "replace", snatched)
    atomic_files.write_atomically(path, b"content")
    assert path.read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["file"]
    taken.clear()
    monkeypatch.setattr(atomic_files, "WRITE_ATTEMPTS", 2)
    with pytest.raises(FileNotFoundError):
        atomic_files.write_atomically(path, b"other")
