"""Image gallery: as many classes as fit are shown, equally often, and the choice is the same each time."""

from collections import Counter

import numpy as np
import pytest
from support.small_sets import make_set

from inr_factory.reporting.image_gallery import choose_views
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.shards import ShardReader


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("gallery") / "set"
    make_set(root, objects={"train": 24, "val": 6, "test": 6}, views=2, classes=("a", "b", "c"))
    return root


def chosen(root, count, split=None, objects=()):
    """(label, view, object) of what is chosen."""
    rows = []
    for entry, row in choose_views(root, load_manifest(root), count, split, objects):
        shard = ShardReader(root, entry, check=False)
        rows.append((int(shard.column("label")[row]), int(shard.column("view")[row]), shard.object_ids[row]))
    return rows


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 12])
def test_every_class_comes_once_before_any_comes_twice(root, count):
    labels = Counter(label for label, *_ in chosen(root, count))

    assert sum(labels.values()) == count
    assert len(labels) == min(count, 3)
    assert max(labels.values()) - min(labels.values()) <= 1


def test_they_come_in_the_order_of_classes_and_no_object_twice(root):
    rows = chosen(root, 12)

    assert [label for label, *_ in rows] == sorted(label for label, *_ in rows)
    assert len({name for *_, name in rows}) == 12
    assert {view for _, view, _ in rows} == {0}
    assert rows == chosen(root, 12)


def test_a_split_is_kept_to(root):
    known = {entry.path for entry in load_manifest(root).shards if entry.split == "val"}
    entries = {entry.path for entry, _ in choose_views(root, load_manifest(root), 3, "val", ())}
    assert entries
    assert entries <= known


def test_no_more_are_shown_than_there_are(root):
    everything = chosen(root, 60)
    assert len(everything) == len({name for *_, name in everything}) == 36


def test_a_named_object_is_shown_in_all_views(root):
    name = chosen(root, 1)[0][2]
    assert [(view, shown) for _, view, shown in chosen(root, 5, objects=[name])] == [(0, name), (1, name)]


def test_few_shards_of_a_large_set_are_read(root, monkeypatch):
    read = []
    monkeypatch.setattr("inr_factory.reporting.image_gallery.MOST_SHARDS", 1)
    monkeypatch.setattr(
        "inr_factory.reporting.image_gallery.ShardReader", lambda *a, **k: read.append(a) or ShardReader(*a, **k)
    )
    manifest = load_manifest(root)

    assert 1 <= len(choose_views(root, manifest, 30, None, ())) <= max(entry.rows for entry in manifest.shards)
    assert len(read) == 1
    assert np.unique([entry.view for entry in manifest.shards]).tolist() == [0, 1]
