"""Two fits of one set at the same time, where files cannot be locked."""

import subprocess
import sys

import pytest
from support.tiny_recipes import LOCAL, files, tiny

from inr_factory.generation.execution.fit_dataset import fit_dataset


def many(**changes):
    """26 shards of two objects."""
    return tiny(shard_objects=2, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "set"
    fit_dataset(many(), out, **LOCAL)
    return out


DRIVER = """
import fcntl, pathlib, sys
import sklearn.datasets
from inr_factory.generation.execution import progress_recorder
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.recipe import check_recipe
def refuse(*_):
    raise OSError(38, "Function not implemented")
fcntl.flock = refuse
progress_recorder.RECORD_SECONDS, progress_recorder.RECORD_SHARE = 0, 1e9  # after each shard
recipe = check_recipe({recipe!r}, "test")
print("ready", flush=True)
sys.stdin.readline()
report = fit_dataset(recipe, pathlib.Path({out!r}), backend="local", workers=1)
print(report.made, report.missing, flush=True)
"""


def start_driver(out):
    script = DRIVER.format(recipe=many().model_dump(mode="json"), out=str(out))
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def run_together(drivers):
    """(made, missing) of each driver; they begin at the same moment."""
    for driver in drivers:
        assert driver.stdout.readline() == "ready\n", driver.stderr.read()
    for driver in drivers:
        driver.stdin.write("go\n")
        driver.stdin.flush()
    ended = [driver.communicate(timeout=120) for driver in drivers]
    assert all(driver.returncode == 0 for driver in drivers), ended
    return [tuple(map(int, said.split())) for said, _ in ended]


def test_two_drivers_on_one_output_make_one_whole_set_where_nothing_can_be_locked(whole, tmp_path):
    out = tmp_path / "set"
    found = run_together([start_driver(out) for _ in range(2)])
    assert files(out).items() >= files(whole).items()
    assert [missing for _, missing in found] == [0, 0]
    assert sum(made for made, _ in found) < 2 * 26, "each made all of it"
