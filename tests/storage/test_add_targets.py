"""Adding targets: a table joined to a set by object name gives every object a value, or leaves the set as it is."""

import numpy as np
import pytest
from support.small_sets import make_set

from inr_factory import add_targets, dataset_targets
from inr_factory.errors import UsageError
from inr_factory.storage.add_targets import with_further_targets
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.targets import TargetColumn, TargetTable, read_targets

NAMES = [f"{split}-{number}" for split, count in (("train", 14), ("val", 5)) for number in range(count)]


@pytest.fixture
def root(tmp_path):
    make_set(tmp_path, views=2, quarantine=[("train-3", 0), ("val-1", 0), ("val-1", 1)])
    return tmp_path


def columns(**values):
    return {"object_id": NAMES, **values}


def table_of(root):
    return read_targets(root, load_manifest(root))


def test_a_table_is_joined_and_summarized(root):
    report = add_targets(root, columns(**{"mass [kg]": np.arange(19), "kind": ["u", "v"] * 9 + ["w"]}))

    assert (report.columns, report.objects, report.foreign) == (("mass", "kind"), 18, ("val-1",))
    table = table_of(root)
    assert set(table.object_ids) == set(NAMES) - {"val-1"}, "of an object without an INR there is nothing to say"
    assert table.column("mass").values[table.rows_of(["train-5", "val-4"])].tolist() == [5, 18]
    mass, kind = dataset_targets(root)
    assert (mass.kind, mass.unit, mass.objects, mass.low, mass.high) == ("number", "kg", 18, (0,), (18,))
    assert kind.counts == {"u": 9, "v": 8, "w": 1}


def test_a_set_without_targets_has_no_summaries(root):
    assert dataset_targets(root) == ()


def test_further_targets_are_added_and_present_ones_stay_unless_replaced(root):
    add_targets(root, columns(x=np.arange(19), y=np.arange(19)))
    before = (root / MANIFEST).read_bytes()
    with pytest.raises(UsageError, match="has the target y already; --replace replaces it"):
        add_targets(root, columns(y=["u"] * 19, z=np.arange(19)))
    assert (root / MANIFEST).read_bytes() == before

    add_targets(root, columns(y=["u"] * 19, z=np.arange(19)), replace=True)

    assert [(each.name, each.kind) for each in dataset_targets(root)] == [
        ("x", "number"), ("y", "class"), ("z", "number"),
    ]  # fmt: skip
    assert len(list(root.glob("targets-*.h5"))) == 1


def test_objects_without_a_row_and_names_of_no_object_are_named(root):
    with pytest.raises(
        UsageError, match=r"the table: 16 of 18 objects have no row in it: train-1, train-10, train-11, .*"
    ):
        add_targets(root, {"object_id": ["train-0", "val-0"], "x": [1, 2]})
    with pytest.raises(UsageError, match=r"its first names are p, q"):
        add_targets(root, {"object_id": ["p", "q"], "x": [1, 2]})
    report = add_targets(root, {"object_id": [*NAMES, "p", "q"], "x": np.arange(21)})

    assert report.foreign == ("val-1", "p", "q")
    assert report.notes == ("3 in the table of no object of the set: val-1, p, q",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.csv",), "cannot be read: "),
        ((7,), "the path of a table"),
        ((columns(x=np.arange(19)), ["x"]), "kinds must give kinds by names"),
        ((columns(x=np.arange(19)), {"y": "class"}), "no column 'y' to give a kind; did you mean|no column 'y'"),
        (({"object_id": "abc", "x": [1, 2, 3]},), "names no object"),
        (({"object_id": [1, 2], "x": [1, 2]},), "is of type int, expected text"),
        (({},), "no columns"),
        (({7: [1]},), "the header of column 1 is of type int"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(root, arguments, message):
    with pytest.raises(UsageError, match=message) as raised:
        add_targets(root, *arguments)
    assert "\n" not in str(raised.value)


def test_a_set_in_a_store_is_refused_and_can_be_summarized(root):
    with pytest.raises(UsageError, match="joined to a set in a folder"):
        add_targets("memory://somewhere/set", columns(x=np.arange(19)))


def number(*values, known=None):
    return TargetColumn("x", "number", np.array(values, float), known=known)


def test_a_source_adds_objects_and_columns_and_joined_ones_stay_unknown_for_new_objects():
    joined = TargetColumn("y", "class", np.array([0, 1]), ("u", "v"))
    before = TargetTable(("a", "b"), (number(1, 2), joined))

    merged = with_further_targets(before, TargetTable(("c", "b", "a"), (number(3, 2, 1),)), "set", "its source")

    assert merged.object_ids == ("a", "b", "c")
    assert merged.column("x").values.tolist() == [1, 2, 3]
    assert merged.rows_of(["c", "a"], "x").tolist() == [2, 0]
    assert merged.column("y").values.tolist() == [0, 1, -1]
    with pytest.raises(UsageError, match="no value of the target y: c"):
        merged.rows_of(["c"], "y")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (number(1, 9), "set has the target x = 2.0 of b, its source 9.0"),
        (TargetColumn("x", "number", np.array([1.0, 2.0]), unit="m"), "with the unit '', its source 'm'"),
        (TargetColumn("x", "class", np.array([0, 0]), ("u",)), "with the kind 'number', its source 'class'"),
    ],
)
def test_other_values_of_a_source_are_refused(column, message):
    before = TargetTable(("a", "b"), (number(1, 2),))

    with pytest.raises(UsageError, match=message):
        with_further_targets(before, TargetTable(("a", "b"), (column,)), "set", "its source")
