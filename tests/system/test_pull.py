"""Pull in processes of its own that are interrupted: the bytes at the end are those that were pushed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from support.small_sets import make_set
from support.stand_in_hub import StandInHub, hub_environment

from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.pull_record import PULLED

pytest.importorskip("huggingface_hub", reason="huggingface_hub (the extra hub) is not installed")

REPO, VIEWS, INTERRUPTIONS = "someone/small", 10, 10
DAMAGED = "data/train-view009-00019.h5"  # of the last view, which no interrupted pull comes to


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A set of 200 shards."""
    folder = tmp_path_factory.mktemp("pull") / "set"
    assert len(make_set(folder, views=VIEWS, objects={"train": 80}).shards) == 200
    return folder


@pytest.fixture
def start(root, tmp_path):
    """Starts a command in a process with a hub that has the set; `start.hub` is the hub."""
    program = [sys.executable, "-c", "from inr_factory.cli.main import main; main()"]
    with StandInHub() as hub:
        names = hub_environment(hub, tmp_path / "home")

        def start(*arguments):
            return subprocess.Popen(
                [*program, *map(str, arguments)], env=os.environ | names, text=True, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )  # fmt: skip

        start.hub = hub
        succeed(start("push", root, REPO))
        yield start


def succeed(process):
    """What a process wrote to stdout and stderr, after it ended well."""
    output, error = process.communicate()
    assert process.returncode == 0, error
    return output, error


def files(root):
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name != PULLED}


def test_two_hundred_shards_arrive_over_ten_interruptions_and_a_damaged_one_is_named(start, root, tmp_path):
    hub, out = start.hub, tmp_path / "out"
    hub.seconds, hub.wrong[DAMAGED] = 0.1, 1
    whole = sum(entry.bytes for entry in load_manifest(root).shards)
    for number in range(INTERRUPTIONS):
        process, before = start("pull", REPO, "--out", out), hub.shard_bytes()
        while hub.shard_bytes() < before + whole / 20:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL if number % 2 else signal.SIGINT)
        error = process.communicate()[1]
        assert process.returncode == (-signal.SIGKILL if number % 2 else 130), error
        here = {entry.path: entry for entry in load_manifest(root).shards}
        for path in (out / "data").glob("*.h5"):
            assert path.stat().st_size == here[f"data/{path.name}"].bytes, "a part of a file appeared"
    hub.seconds = 0.0

    output, error = succeed(start("pull", REPO, "--out", out, "--json"))

    done = json.loads(output)
    assert done["fetched_again"] == [DAMAGED]
    assert f"{DAMAGED} came with other bytes than recorded" in error
    assert done["fetched_shards"] + done["there_before"] == 200
    assert done["there_before"] >= 3 * INTERRUPTIONS, "interrupted pulls left their shards"
    assert files(out) == files(root)
    largest = max(entry.bytes for entry in load_manifest(root).shards)
    assert hub.shard_bytes() <= whole + (INTERRUPTIONS * 8 * 2 + 1) * largest, "only what was on its way came twice"
    succeed(start("verify", out))


def test_of_one_view_of_ten_only_the_bytes_travel(start, root, tmp_path):
    succeed(start("pull", REPO, "--views", 1, "--out", tmp_path / "out"))
    assert start.hub.shard_bytes() == sum(entry.bytes for entry in load_manifest(root).shards if entry.view == 0)
    assert 9 * start.hub.shard_bytes() <= sum(entry.bytes for entry in load_manifest(root).shards)
