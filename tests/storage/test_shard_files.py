"""Shard files: shards reach a folder only with the bytes that are recorded, and a fault of one copy is survived."""

import shutil

import pytest
from support.small_sets import make_set

from inr_factory.errors import IntegrityError
from inr_factory.storage.shard_files import collect_shards


@pytest.fixture
def there(tmp_path):
    """A set of six shards, and the folder that it is in."""
    return make_set(tmp_path / "there", views=1), tmp_path / "there"


class Fetch:
    """Copies shards; each of the first copies of those in `wrong` has one byte more."""

    def __init__(self, root, **wrong):
        self.root, self.wrong, self.paths = root, wrong, []

    def __call__(self, entry, staging):
        self.paths.append(entry.path)
        (staging / entry.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.root / entry.path, staging / entry.path)
        if self.wrong.get(entry.split, 0) > self.paths.count(entry.path) - 1:
            with open(staging / entry.path, "ab") as file:
                file.write(b"x")


@pytest.mark.parametrize("workers", [1, 8])
def test_only_what_is_missing_or_differs_is_fetched(there, tmp_path, workers):
    manifest, root = there
    fetch, seen = Fetch(root), {}
    collect_shards(tmp_path / "here", manifest.shards, fetch, workers=workers, on_shard=seen.__setitem__)
    assert sorted(fetch.paths) == sorted(entry.path for entry in manifest.shards)
    assert seen == dict.fromkeys(manifest.shards, True)

    (tmp_path / "here" / manifest.shards[0].path).unlink()
    (tmp_path / "here" / manifest.shards[1].path).write_bytes(b"x" * manifest.shards[1].bytes)
    fetch.paths.clear()
    collect_shards(tmp_path / "here", manifest.shards, fetch, workers=workers, on_shard=seen.__setitem__)
    assert set(fetch.paths) == {entry.path for entry in manifest.shards[:2]}
    assert [seen[entry] for entry in manifest.shards] == [True, True, False, False, False, False]
    for entry in manifest.shards:
        assert (tmp_path / "here" / entry.path).read_bytes() == (root / entry.path).read_bytes()
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["data"]


def test_a_shard_with_wrong_bytes_is_fetched_again_once(there, tmp_path):
    manifest, root = there
    damaged = []
    collect_shards(tmp_path / "here", manifest.shards, Fetch(root, val=1), on_damaged=damaged.append)
    assert damaged == [entry for entry in manifest.shards if entry.split == "val"]

    with pytest.raises(IntegrityError, match=r"data/val-view000-00000.h5, fetched twice, is not what was recorded"):
        collect_shards(tmp_path / "again", manifest.shards, Fetch(root, val=2))
    assert {path.name[:3] for path in (tmp_path / "again/data").iterdir()} == {"tra"}


def test_nothing_is_written_through_a_link_out_of_the_folder(there, tmp_path):
    manifest, root = there
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here/data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="link out of"):
        collect_shards(tmp_path / "here", manifest.shards, Fetch(root))
    assert not list((tmp_path / "elsewhere").iterdir())
