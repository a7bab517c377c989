"""Class folders: every usual layout is recognised, and other layouts are refused."""

import pytest

from inr_factory.errors import UsageError
from inr_factory.generation.sources.class_folders import find_class_files


def find(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return find_class_files(root, frozenset({".off"}), "meshes")


LAYOUTS = {
    "no splits": (["cat/1.off", "dog/2.OFF"], [("cat/1.off", 0, None), ("dog/2.OFF", 1, None)]),
    "splits above": (
        ["train/cat/1.off", "Testing/cat/2.off", "valid/cat/3.off", "train/dog/1.off"],
        [
            ("Testing/cat/2.off", 0, "test"),
            ("train/cat/1.off", 0, "train"),
            ("train/dog/1.off", 1, "train"),
            ("valid/cat/3.off", 0, "val"),
        ],
    ),
    "splits below": (
        ["cat/train/1.off", "cat/test/2.off", "cat/val/more/3.off"],
        [("cat/test/2.off", 0, "test"), ("cat/train/1.off", 0, "train"), ("cat/val/more/3.off", 0, "val")],
    ),
    "folders below": (["cat/old/1.off", "dog/2.off"], [("cat/old/1.off", 0, None), ("dog/2.off", 1, None)]),
    "a class called train": (["train/1.off", "bus/2.off"], [("bus/2.off", 0, None), ("train/1.off", 1, None)]),
    "a class called train, splits below": (
        ["Train/train/1.off", "bus/train/2.off", "bus/test/3.off"],
        [("Train/train/1.off", 0, "train"), ("bus/test/3.off", 1, "test"), ("bus/train/2.off", 1, "train")],
    ),
    "passed over": (["cat/1.off", "cat/.2.off", ".git/3.off", "4.off", "cat/5.mtl"], [("cat/1.off", 0, None)]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, tmp_path):
    names, expected = LAYOUTS[layout]

    classes, items, paths, *_ = find(tmp_path, *names)

    assert [(item.object_id, item.label, item.split) for item in items] == expected
    assert list(classes) == sorted(set(classes))
    assert list(paths) == [str(tmp_path / item.object_id) for item in items]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "no meshes in class folders"),
        (["train/cat/1.off", "cat/2.off"], "has the split train and the folder cat, which is no split"),
        (["train/cat/1.off", "train/2.off"], "in no class folder"),
        (["cat/train/1.off", "cat/2.off"], "cat/train/1.off is in a split and cat/2.off in none"),
    ],
)
def test_what_is_no_layout_is_a_usage_error_of_one_line(names, reason, tmp_path):
    with pytest.raises(UsageError, match=reason) as caught:
        find(tmp_path, *names)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no folder .*/gone; give --data-root the folder that holds the meshes"):
        find(tmp_path / "gone")


def test_linked_folders_count_but_loops_end(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "1.off").write_bytes(b"x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "there")
    (tmp_path / "there" / "loop").symlink_to(root)
    (tmp_path / "there" / "gone.off").symlink_to("nowhere")

    _, items, *_ = find_class_files(root, frozenset({".off"}), "meshes")

    assert {item.object_id for item in items} == {"cat/1.off", "cat/gone.off"}
