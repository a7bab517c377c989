"""Sample cache: gives back what was put in, and nothing that was cut, edited or meant for something else."""

import os

import numpy as np
import pytest

from inr_factory.generation.sources.sample_cache import SampleCache, cache_key
from inr_factory.storage import atomic_files

ARRAYS = {"coords": np.arange(12, dtype=np.float32).reshape(4, 3), "distances": np.ones(4, dtype=np.float32)}
FACTS = {"scale": 0.1 + 0.2, "vertices": 7}
KEY = cache_key(b"content", {"points": 4})


@pytest.fixture
def cache(tmp_path):
    cache = SampleCache(tmp_path / "cache")
    cache.save(KEY, ARRAYS, FACTS)
    return cache


def entry(cache):
    (path,) = [path for path in cache.folder.rglob("*") if path.is_file()]
    return path


def test_an_entry_comes_back_bit_by_bit(cache):
    arrays, facts = cache.load(KEY)

    assert arrays.keys() == ARRAYS.keys()
    assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)
    assert facts == FACTS


def test_a_missing_entry_is_none(cache, tmp_path):
    assert cache.load(cache_key(b"other content", {"points": 4})) is None
    assert cache.load(cache_key(b"content", {"points": 5})) is None
    assert SampleCache(tmp_path / "elsewhere").load(KEY) is None
    assert SampleCache(None).load(KEY) is None


def test_an_entry_that_was_cut_or_edited_anywhere_is_ignored(cache):
    path = entry(cache)
    intact = path.read_bytes()

    for size in range(0, len(intact), 7):
        path.write_bytes(intact[:size])
        assert cache.load(KEY) is None, size
    for place in range(len(intact)):
        path.write_bytes(intact[:place] + bytes([intact[place] ^ 1]) + intact[place + 1 :])
        assert cache.load(KEY) is None, place
    path.write_bytes(intact)
    assert cache.load(KEY) is not None


def test_an_entry_under_another_name_is_ignored(cache):
    other = cache_key(b"other", {})
    path = cache.folder / "shapes" / other[:2] / f"{other}.samples"
    path.parent.mkdir(exist_ok=True)
    entry(cache).rename(path)

    assert cache.load(other) is None


def test_a_folder_that_cannot_be_written_to_is_no_reason_to_fail(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = SampleCache(tmp_path / "file")

    cache.save(KEY, ARRAYS, FACTS)
    SampleCache(None).save(KEY, ARRAYS, FACTS)

    assert cache.load(KEY) is None
    assert (tmp_path / "file").read_text() == "in the way"


def test_the_variable_names_the_cache_folder_else_it_is_in_the_data_root(tmp_path, monkeypatch):
    monkeypatch.delenv("INR_FACTORY_CACHE", raising=False)
    assert SampleCache.near(tmp_path).folder == tmp_path / ".inr_factory_cache"
    assert SampleCache.near(tmp_path / "nowhere").folder is None, "nothing is made where no data are"

    monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "mine"))
    assert SampleCache.near(tmp_path).folder == SampleCache.near(tmp_path / "nowhere").folder == tmp_path / "mine"


def test_what_a_killed_writer_left_is_swept_and_nothing_else(cache, monkeypatch):
    path = entry(cache)
    left = path.with_name(f".{path.name}.{atomic_files._host()}-999999999.0123abcd.tmp")
    running = path.with_name(f".{path.name}.{atomic_files._host()}-{os.getpid()}.0123abcd.tmp")
    for file in (left, running):
        file.write_bytes(b"half")

    assert cache.sweep() == 1
    assert not left.exists()
    assert running.exists()
    assert cache.load(KEY) is not None
    assert SampleCache(None).sweep() == SampleCache(cache.folder / "nowhere").sweep() == 0
