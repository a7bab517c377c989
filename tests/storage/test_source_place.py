"""Source place: where the source was is remembered on this machine, and only believed where it still exists."""

import json
import os

import pytest

from inr_factory.storage.locations import RemoteLocation
from inr_factory.storage.source_place import SOURCE_PLACE, remember_source, remembered_source


def test_a_folder_is_remembered_by_its_whole_path(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path)

    remember_source(tmp_path / "set", tmp_path / "data")
    assert remembered_source(tmp_path / "set") == tmp_path / "data"

    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert remembered_source(tmp_path / "set") is None, "it is no longer there"


def test_a_store_is_remembered_but_no_password(tmp_path):
    remember_source(tmp_path, RemoteLocation("memory://bucket/pictures"))
    assert remembered_source(tmp_path) == RemoteLocation("memory://bucket/pictures")

    (tmp_path / SOURCE_PLACE).unlink()
    remember_source(tmp_path, RemoteLocation("ftp://me:secret@server/pictures"))
    assert not (tmp_path / SOURCE_PLACE).exists()


def test_a_set_in_a_store_remembers_nothing(tmp_path):
    store = RemoteLocation("memory://bucket/a-set")
    remember_source(store, tmp_path)
    assert remembered_source(store) is None


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", "null", '{"data_root": 3}', '{"data_root": "nowhere:///x"}', '{"data_root": "."}']
)
def test_a_record_that_says_nothing_usable_counts_as_none(content, tmp_path):
    (tmp_path / SOURCE_PLACE).write_text(content)
    assert remembered_source(tmp_path) is None


def test_a_record_that_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / SOURCE_PLACE)
    assert remembered_source(tmp_path) is None


def test_a_record_that_is_up_to_date_is_not_written_again(tmp_path):
    remember_source(tmp_path, tmp_path)
    before = (tmp_path / SOURCE_PLACE).stat().st_mtime_ns
    remember_source(tmp_path, tmp_path)
    assert (tmp_path / SOURCE_PLACE).stat().st_mtime_ns == before
    assert json.loads((tmp_path / SOURCE_PLACE).read_text()) == {"data_root": str(tmp_path)}
