"""Recipes whose fits take seconds, and what lies in the sets that they make."""

import json
from pathlib import Path

import pytest

from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.fitting import fused_cpu
from inr_factory.generation.recipe import check_recipe
from inr_factory.storage.run_log import LOG_FOLDER

LOCAL = {"backend": "local", "workers": 1}


def tiny(**changes):
    """Digits, 24 objects in blocks of 7, 2-8-8-1 INRs of ten steps: a shard takes milliseconds."""
    fields = {
        "name": "tiny",
        "source": {"collection": "digits"},
        "limit": 24,
        "views": 2,
        "shard_objects": 7,
        "spec": {"hidden_dim": 8},
        "fit": {"steps": 10, "floor_psnr": 0, "lanes": 4},
    }
    return check_recipe(fields | changes, origin="test")


def long():
    """Enough shards, each of some 0.1 s, to be killed in the middle."""
    steps = 1500 if fused_cpu.available() else 60
    return tiny(limit=200, fit={"steps": steps, "target_psnr": None, "floor_psnr": -99, "lanes": 4})


def files(out):
    """Every file of a set with its bytes, but for the logs of its runs and what it remembers of its source."""
    paths = [path for path in sorted(out.rglob("*")) if path.is_file() and path.parent != out / LOG_FOLDER]
    paths = [path for path in paths if not path.name.startswith(".source")]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def shards(out):
    return {name: content for name, content in files(out).items() if name.endswith(".h5")}


@pytest.fixture(scope="session")
def long_whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "long"
    fit_dataset(long(), out, **LOCAL)
    return out


def processes_named(name):
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if (folder / "cmdline").read_bytes().startswith(name.encode()):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def strip_version(out):
    """Make the set in `out` one that was written before recipes had a version."""
    (out / "origin.json").unlink()
    fields = json.loads((out / "manifest.json").read_text())
    del fields["recipe"]["version"]
    (out / "manifest.json").write_text(json.dumps(fields))
