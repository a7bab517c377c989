"""Cache contents: all copies are listed, and only what is asked for is removed."""

import json
import os
import time

import fsspec
import pytest
from support.small_sets import make_set

from inr_factory.cli.main import run
from inr_factory.errors import UsageError
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.storage.cache_contents import cache
from inr_factory.storage.pull_record import PullRecord

COMMIT = "0123456789" * 4


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache with a set that was pulled, the copy of another, samples, and files of somebody else."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("INR_FACTORY_CACHE", str(folder))
    make_set(tmp_path / "set", views=1, objects={"train": 4})
    fsspec.filesystem("memory").put(str(tmp_path / "set"), "/cached", recursive=True)
    INRDataset("memory://cached")
    make_set(folder / "small-0123456789abcdef")
    PullRecord(repo="a/small", commit=COMMIT).save(folder / "small-0123456789abcdef")
    (folder / "shapes/ab").mkdir(parents=True)
    (folder / "shapes/ab/x.samples").write_bytes(b"x" * 1000)
    (folder / "thesis").mkdir()
    (folder / "thesis/chapter.tex").write_text("x")
    yield folder
    fsspec.filesystem("memory").rm("/cached", recursive=True)


def test_every_copy_is_listed_with_what_it_is_and_its_size(folder):
    report = cache()
    assert report.folder == folder
    assert [(entry.what, entry.commit) for entry in report.entries] == [
        ("a/small", COMMIT),
        ("data set", None),
        ("samples of shapes", None),
    ]
    pulled, _, samples = report.entries
    assert (samples.files, samples.bytes) == (1, 1000)
    assert pulled.bytes == sum(path.stat().st_size for path in (folder / pulled.name).rglob("*") if path.is_file())
    assert not report.removed


@pytest.mark.parametrize("name", ["a/small", "hf://a/small", "small-0123456789abcdef"])
def test_one_entry_is_removed_by_its_name(folder, name):
    before = {path.name for path in folder.iterdir()}
    assert [entry.what for entry in cache(name, prune=True).entries] == ["a/small"]
    assert {path.name for path in folder.iterdir()} == before - {"small-0123456789abcdef"}


def test_what_was_used_lately_stays_and_so_do_files_of_others(folder):
    for path in (folder / "shapes").rglob("*"):
        os.utime(path, times=(time.time() - 5 * 86400,) * 2)
    os.utime(folder / "shapes", times=(time.time() - 5 * 86400,) * 2)
    assert cache(older_than=6, prune=True).entries == ()
    assert [entry.name for entry in cache(older_than=4, prune=True).entries] == ["shapes"]
    cache(prune=True)
    assert [path.name for path in folder.iterdir()] == ["thesis"]


def test_opening_a_set_counts_as_use(folder):
    (copy,) = folder.glob("cached-*")
    old = (time.time() - 9 * 86400,) * 2
    for path in [*copy.rglob("*"), copy]:
        os.utime(path, times=old)
    assert cache(copy.name).entries[0].days > 8
    INRDataset("memory://cached")
    assert cache(copy.name).entries[0].days < 1


def test_the_command_lists_and_removes(folder, capsys):
    assert run(["cache"]) == 0
    table = capsys.readouterr().out
    assert "a/small" in table
    assert COMMIT[:12] in table
    assert run(["cache", "a/small", "--prune", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["removed"], [entry["what"] for entry in done["entries"]]) == (True, ["a/small"])
    assert run(["cache", "a/small"]) == 2
    assert "has no 'a/small'; known: cached-" in capsys.readouterr().err
    assert run(["cache", "--prune"]) == 0
    assert run(["cache"]) == 0
    assert "nothing in" in capsys.readouterr().out


def test_a_cache_that_is_not_there_is_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "none"))
    assert cache(prune=True).entries == ()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("days", [-1, float("nan"), "3", True])
def test_a_wrong_number_of_days_is_refused(folder, days):
    with pytest.raises(UsageError, match="older_than must be a number of days from 0"):
        cache(older_than=days)
