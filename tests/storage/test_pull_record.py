"""Pull record: what a folder was pulled from, and what opens it."""

import pytest

from inr_factory.errors import IntegrityError
from inr_factory.storage.locations import PinnedLocation, RemoteLocation, copy_folder
from inr_factory.storage.pull_record import PULLED, PullRecord, load_pull_record, pinned_location

COMMIT = "0123456789" * 4


def test_a_record_is_read_as_it_was_saved_and_none_where_nothing_was_pulled(tmp_path):
    assert load_pull_record(tmp_path) is None
    assert load_pull_record(tmp_path / "missing") is None
    record = PullRecord(repo="a/b", revision="main", commit=COMMIT, companions={"README.md": "x"})
    record.save(tmp_path)
    assert load_pull_record(tmp_path) == record


@pytest.mark.parametrize("content", ["", "[]", '{"repo": "a/b", "commit": "main"}', '{"repo": "a/b"}'])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / PULLED).write_text(content)
    with pytest.raises(IntegrityError, match=r"pulled.json is damaged: .*; remove it and pull again"):
        load_pull_record(tmp_path)


def test_a_set_that_was_pulled_is_opened_at_its_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path))
    remote = RemoteLocation("memory://a/b")
    assert pinned_location(remote) == remote
    folder = copy_folder(remote)
    folder.mkdir()
    PullRecord(repo="a/b", commit=COMMIT).save(folder)
    pinned = pinned_location(remote)
    assert pinned == PinnedLocation(f"memory://a/b@{COMMIT}", folder)
    assert copy_folder(pinned) == folder


def test_records_are_read_from_the_copy_and_shards_from_the_store(tmp_path):
    pinned = PinnedLocation("memory://nowhere/set", tmp_path)
    for name in ("manifest.json", "x.h5"):
        (tmp_path / name).write_bytes(b"copied")
    assert (pinned / "manifest.json").read_bytes() == b"copied"
    assert (pinned / "manifest.json").size() == 6
    assert (pinned / "x.h5").size() is None
    with pytest.raises(FileNotFoundError):
        (pinned / "x.h5").read_bytes()
    with pytest.raises(FileNotFoundError):
        (pinned / "origin.json").read_bytes()
