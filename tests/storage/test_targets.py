"""Targets: stored by object in one file, exact; refused where something would be cut; read only as recorded."""

import contextlib
import json

import numpy as np
import pytest
from support.manifests import manifest

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.storage.locations import RemoteLocation
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest, load_origin, update_manifest
from inr_factory.storage.targets import (
    MAX_NAMES,
    TargetColumn,
    TargetTable,
    read_targets,
    table_of_image,
    update_targets,
    write_targets,
)

FREQUENCY = TargetColumn("frequency", "number", np.array([0.1, 2.0**53, -1e-300]), unit="Hz")
TABLE = TargetTable(
    ("a/1.png", "ü", "c"),
    (
        TargetColumn("digit", "class", np.array([1, 0, 1]), ("null", "eins")),
        TargetColumn("marks", "labels", np.array([[True, False], [False, False], [True, True]]), ("red", "blue")),
        FREQUENCY,
        TargetColumn("centre [odd]", "vector", np.array([[0.1, 2], [3, 4], [5, 6]]), ("x", "y"), "mm"),
        TargetColumn("mass", "number", np.array([1, np.nan, 3]), known=np.array([True, False, True])),
        TargetColumn("kind", "class", np.array([0, -1, 1]), ("u", "v"), known=np.array([True, False, True])),
        TargetColumn("tags", "labels", np.array([[True], [False], [False]]), ("t",), known=np.array([1, 0, 1], bool)),
        TargetColumn("axis", "vector", np.array([[1.0], [np.nan], [2.0]]), known=np.array([True, False, True])),
    ),
)


def failure(kind, act, *arguments):
    """The line of the error that an action raises."""
    with pytest.raises(kind) as raised:
        act(*arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def same(one, other):
    return one.object_ids == other.object_ids and all(
        (a.name, a.kind, a.names, a.unit) == (b.name, b.kind, b.names, b.unit)
        and a.values.dtype == b.values.dtype
        and np.array_equal(a.values, b.values, equal_nan=a.values.dtype.kind == "f")
        and (a.known is None) == (b.known is None)
        and (a.known is None or np.array_equal(a.known, b.known))
        for a, b in zip(one.columns, other.columns, strict=True)
    )


@pytest.fixture
def root(tmp_path):
    update_manifest(tmp_path, manifest())
    update_targets(tmp_path, lambda _: TABLE)
    return tmp_path


def test_targets_of_every_kind_go_to_disk_and_back_exactly(root):
    assert same(read_targets(root, load_manifest(root)), TABLE)
    assert [str(column) for column in load_manifest(root).targets.columns][:4] == [
        "digit (2 classes)", "marks (2 labels)", "frequency (number, Hz)", "centre [odd] (vector, mm)",
    ]  # fmt: skip


def test_a_set_in_a_store_has_its_targets(root):
    store = RemoteLocation("memory://with-targets")
    for path in (*root.glob("*.json"), *root.glob("*.h5")):
        (store / path.name).write_bytes(path.read_bytes())

    assert same(read_targets(store, load_manifest(store)), TABLE)


def test_a_set_without_targets_has_the_bytes_that_it_had(tmp_path):
    assert "targets" not in manifest().to_json()
    update_manifest(tmp_path, manifest())

    assert read_targets(tmp_path, load_manifest(tmp_path)) is None


def test_the_same_table_gives_the_same_file_and_another_table_another_one(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")

    assert write_targets(other, TABLE) == load_manifest(root).targets
    assert write_targets(other, TargetTable(TABLE.object_ids, TABLE.columns[:1])) != load_manifest(root).targets


def test_another_table_replaces_the_file_and_what_fails_leaves_it(root):
    before = (root / MANIFEST).read_bytes()

    def fail(table):
        raise UsageError("no")

    with pytest.raises(UsageError):
        update_targets(root, fail)
    update_targets(root, lambda table: table)
    assert (root / MANIFEST).read_bytes() == before

    update_targets(root, lambda table: TargetTable(table.object_ids, table.columns[:1]))
    assert [path.name for path in root.glob("*.h5")] == [load_manifest(root).targets.path]
    update_targets(root, lambda table: None)
    assert list(root.glob("*.h5")) == []
    assert load_manifest(root).targets is None


def test_shards_are_recorded_and_views_grow_without_regard_to_targets(root):
    record = load_manifest(root).targets

    assert update_manifest(root, manifest(recipe={"views": 7})).targets == record
    assert load_origin(root).targets is None
    assert load_origin(root).views == 7
    assert load_manifest(root).difference(load_origin(root)) is None


@pytest.mark.parametrize("damage", ["removed", "cut", "flipped", "longer"])
def test_a_file_that_is_not_as_recorded_is_refused(root, damage):
    path = root / load_manifest(root).targets.path
    content = path.read_bytes()
    flipped = content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]
    path.unlink()
    if damage != "removed":
        path.write_bytes({"cut": content[:-1], "flipped": flipped, "longer": content + b"\0"}[damage])

    assert path.name in failure(IntegrityError, read_targets, root, load_manifest(root))


@pytest.mark.parametrize("name", ["../targets-00000000.h5", "targets-0.h5", "data/x.h5"])
def test_a_record_of_a_file_elsewhere_is_refused(root, name):
    fields = json.loads((root / MANIFEST).read_text())
    fields["targets"]["path"] = name
    (root / MANIFEST).write_text(json.dumps(fields))

    assert "targets-XXXXXXXX.h5" in failure(IntegrityError, load_manifest, root)


def test_a_record_of_other_columns_is_refused(root):
    fields = json.loads((root / MANIFEST).read_text())
    fields["targets"]["columns"][0]["names"].reverse()
    (root / MANIFEST).write_text(json.dumps(fields))

    assert "other columns" in failure(IntegrityError, read_targets, root, load_manifest(root))


def test_no_bytes_make_the_reader_fail_otherwise(root):
    image = (root / load_manifest(root).targets.path).read_bytes()
    for place in range(0, len(image), 97):
        changed = image[:place] + bytes([image[place] ^ 255]) + image[place + 1 :]
        with contextlib.suppress(IntegrityError):
            table_of_image(changed, "file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "colour"}, "did you mean|known:"),
        ({"name": " x"}, "1 to 100 printable"),
        ({"name": "a/b"}, "without /"),
        ({"name": "x" * 101}, "1 to 100"),
        ({"name": "object_id"}, "another name"),
        ({"values": np.array([1, 2, 3], np.float32)}, "float64 values of 1 dimensions, got float32"),
        ({"values": np.array([1.0, np.nan])}, "NaN"),
        ({"values": np.array([1.0, np.inf])}, "infinite"),
        ({"values": np.ones((2, 2))}, "1 dimensions"),
        ({"unit": "\ud800"}, "no Unicode"),
        ({"names": ("x",)}, "takes no names"),
        ({"kind": "class", "values": np.array([0, 2]), "names": ("a", "b")}, "class 2 of 2"),
        ({"kind": "class", "values": np.array([-1, 0]), "names": ("a", "b")}, "class -1 of 2"),
        ({"kind": "class", "values": np.array([1, 0]), "names": ("a", "a")}, "'a' twice"),
        ({"kind": "class", "values": np.array([1, 0]), "names": ("a", "b"), "unit": "m"}, "takes no unit"),
        ({"kind": "class", "values": np.array([1, 0]), "names": ("a", "b\0")}, "NUL"),
        ({"kind": "labels", "values": np.ones((2, 2), bool), "names": ("a",)}, "2 values an object and 1 names"),
        ({"kind": "vector", "values": np.ones((2, 2)), "names": ("a",)}, "2 values an object and 1 names"),
        ({"kind": "vector", "values": np.ones((2, 0))}, "0 values"),
    ],
)  # fmt: skip
def test_a_column_that_no_set_can_have_is_refused(change, message):
    fields = {"name": "t", "kind": "number", "values": np.array([1.0, 2.0])}
    TargetColumn(**fields)

    with pytest.raises(UsageError, match=message):
        TargetColumn(**(fields | change))


def test_more_classes_than_a_set_can_have_are_refused():
    names = tuple(map(str, range(MAX_NAMES + 1)))

    assert "100,001 classes" in failure(UsageError, TargetColumn, "t", "class", np.array([0]), names)


def test_many_classes_go_to_disk_and_back(tmp_path):
    names = tuple(f"class number {number}" for number in range(20_000))
    update_manifest(tmp_path, manifest())
    table = TargetTable(("a",), (TargetColumn("t", "class", np.array([19_999]), names),))
    update_targets(tmp_path, lambda _: table)

    assert same(read_targets(tmp_path, load_manifest(tmp_path)), table)


@pytest.mark.parametrize(
    ("object_ids", "columns", "message"),
    [
        (("a", "a", "c"), (FREQUENCY,), "the object 'a' occurs twice"),
        (("a", "b", "c"), (FREQUENCY, FREQUENCY), "the target 'frequency' occurs twice"),
        (("a", "b"), (FREQUENCY,), "3 values, expected one for each of 2"),
        (("a", "b", "\udcff"), (FREQUENCY,), "no Unicode"),
        (("a", "b", "c\0"), (FREQUENCY,), "NUL"),
    ],
)
def test_a_table_that_no_set_can_have_is_refused(object_ids, columns, message):
    assert message in failure(UsageError, TargetTable, object_ids, columns)


def test_rows_are_found_by_name_and_objects_without_one_are_named():
    assert TABLE.rows_of(["c", "a/1.png", "c"]).tolist() == [2, 0, 2]
    assert TABLE.rows_of(["c", "ü", "c"], "digit").tolist() == [2, 1, 2]
    assert TABLE.rows_of(["c"], "mass").tolist() == [2]
    assert "1 object has no value of the target mass: ü" in failure(UsageError, TABLE.rows_of, ["ü", "c"], "mass")
    assert "2 objects have no targets: ü, x" in failure(UsageError, TABLE.rows_of, ["ü", "x", "c"])
    assert "did you mean 'frequency'" in failure(UsageError, TABLE.column, "frequenzy")


def test_a_row_says_its_values_in_plain_python():
    assert [column.value(0) for column in TABLE.columns[:4]] == ["eins", ["red"], 0.1, [0.1, 2.0]]
