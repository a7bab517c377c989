"""Target tables: what a table says is read exactly, or refused in one line that names row and column."""

import numpy as np
import pytest
import torch

from inr_factory.errors import UsageError
from inr_factory.storage.target_names import match_names
from inr_factory.storage.target_tables import read_table, table_of_mapping


@pytest.fixture
def table(tmp_path):
    def write(text, name="table.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return write


def content(named):
    return {c.name: (c.kind, c.unit, [c.value(row) for row in range(len(named.names))]) for c in named.columns}


EVERY_KIND = """file_name,animal,tags,mass [kg],pose,at.0 [mm],at.1 [mm],digit [class],on
a.png,cat,red|old,1.5,1|2,0,1e-3,10,true
"b, 2.png", dog ,,-2,3|4.5,5,6,9,false
"""


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_a_csv_file_gives_every_kind_of_target(table, delimiter, encoding):
    text = EVERY_KIND if delimiter == "," else EVERY_KIND.replace(",", delimiter).replace(f"b{delimiter}", "b,")

    named = read_table(table(text, encoding=encoding))

    assert named.names == ("a.png", "b, 2.png")
    assert content(named) == {
        "animal": ("class", "", ["cat", "dog"]),
        "tags": ("labels", "", [["old", "red"], []]),
        "mass": ("number", "kg", [1.5, -2.0]),
        "pose": ("vector", "", [[1.0, 2.0], [3.0, 4.5]]),
        "at": ("vector", "mm", [[0.0, 0.001], [5.0, 6.0]]),
        "digit": ("class", "", ["10", "9"]),
        "on": ("class", "", ["true", "false"]),
    }
    assert next(c for c in named.columns if c.name == "digit").names == ("9", "10"), "whole numbers by value"


def test_a_kind_can_be_said(table):
    parts = table("name,x.0,x.1\na,1,2\nb,1,3\n")
    assert [c.name for c in read_table(parts, {"x.0": "class"}).columns] == ["x.0", "x.1"]
    assert [c.name for c in read_table(parts, {"x": "vector"}).columns] == ["x"]
    assert "are a vector, got the kind class" in refusal(parts, {"x": "class"})
    path = table("name,x,y,z,u\na,1,2,p,1|2\nb,3,2,q,1\n")
    assert [c.kind for c in read_table(path, {"x": "class", "z": "labels", "u": "labels"}).columns] == [
        "class", "number", "labels", "labels",
    ]  # fmt: skip


def test_the_name_column_is_the_first_of_the_usual_names_else_the_first(table):
    assert read_table(table("id,x\n7,1\n")).names == ("7",)
    assert read_table(table("x,object,name\n1,a,b\n")).names == ("b",)


def test_a_parquet_file_gives_every_kind_of_target(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "file_name": ["a", "b"], "word": pa.array(["x", "y"]).dictionary_encode(), "flag": [True, False],
        "whole": pa.array([1, 2**53], pa.int64()), "single": pa.array([0.1, 2], pa.float32()),
        "tags": [["r", "s"], []], "pose": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
    }  # fmt: skip
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")

    assert content(read_table(tmp_path / "t.parquet")) == {
        "word": ("class", "", ["x", "y"]),
        "flag": ("class", "", ["true", "false"]),
        "whole": ("number", "", [1.0, 2.0**53]),
        "single": ("number", "", [float(np.float32(0.1)), 2.0]),
        "tags": ("labels", "", [["r", "s"], []]),
        "pose": ("vector", "", [[1.0, 2.0], [3.0, 4.0]]),
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1, None]}, "row 2 of x is empty"),
        ({"x": [1.0, float("nan")]}, "row 2 of x is nan"),
        ({"x": [1, 2**53 + 1]}, "float64 would change it"),
        ({"x": [{"a": 1}, {"a": 2}]}, "the column x has the type struct"),
        ({"x": [b"1", b"2"]}, "the column x has the type binary"),
        ({"x": [[1.0], [1.0, 2.0]]}, "row 2 of x has 2 numbers, row 1 has 1"),
        ({"x": [["a"], None]}, "row 2 of x is empty"),
    ],
)
def test_a_parquet_file_is_refused_in_one_line(tmp_path, columns, message):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"name": ["a", "b"], **columns}), tmp_path / "t.parquet")

    assert message in refusal(tmp_path / "t.parquet")


def refusal(path, kinds=None):
    with pytest.raises(UsageError) as raised:
        read_table(path, kinds)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("name,x\n", "names no object"),
        ("name\na\n", "'name' alone"),
        ("name,x\na,1\nb,\n", "row 2 of x is empty"),
        ("name,x\na,1\n,2\n", "row 2 of name, which names the objects, is empty"),
        ("name,x\na,1\nb,2\na,3\n", "rows 1 and 3 of name are both 'a'"),
        ("name,x,x\na,1,2\n", "two columns are called 'x'"),
        ("name,x,x [m]\na,1,2\n", "two columns are called 'x'"),
        ("name,,x\na,1,2\n", "column 2 has no name"),
        ("name,x\na,1\nb,2,3\n", "row 2 of"),
        ("name,x\na,nan\nb,1\n", "row 1 of x is 'nan'"),
        ("name,x\na,word\nb,NaN\n", "row 2 of x is 'NaN'"),
        ("name,x\na,1\nb,-inf\n", "row 2 of x is '-inf'"),
        ("name,x\na,1\nb,1e400\n", "float64 would change it"),
        ("name,x\na,1e-400\n", "float64 would change it"),
        ("name,x\na,9007199254740993\n", "float64 would change it"),
        ("name;x\na;1\nb;1,5\n", "write decimals with a point"),
        ("name,x\n" + "".join(f"{n},{n}\n" for n in range(6)) + "z,x\n", "row 7 of x is 'x', the 6 before are numbers"),
        ("name,x\na,cat\nb,7\n", "row 2 of x is 7.0, the 1 before are words"),
        ("name,x\na,1|2\nb,1|2|3\n", "row 2 of x has 3 numbers, row 1 has 2"),
        ("name,x\na,1|2\nb,\n", "row 2 of x is [], the 1 before are lists of numbers"),
        ("name,x\na,r|\nb,s\n", "row 1 of x is ['r', '']"),
        ("name,x.0 [m],x.1 [s]\na,1,2\n", "the units m, s"),
        ("name,x.0,x.1,x\na,1,2,3\n", "rename one"),
        ("name,x.0,x.1\na,1,b\n", "the target x.1 has words, expected numbers"),
        ("name,x [m]\na,word\n", "takes no unit"),
        ('name,x\na,"1\n', "is no CSV file"),
        (b"name,x\n\xff,1\n", "is not UTF-8"),
        ("name,x\na,1\n".encode("utf-16"), "is not UTF-8"),
        ("name,a/b\na,1\n", "without /"),
    ],
)
def test_a_csv_file_is_refused_in_one_line(table, text, message):
    assert message in refusal(table(text))


def test_wrong_kinds_and_files_are_refused_in_one_line(table, tmp_path):
    path = table("name,digit,word\na,1,u\nb,2,v\n")

    assert "did you mean 'digit'?" in refusal(path, {"digits": "class"})
    assert "did you mean 'class'?" in refusal(path, {"digit": "clas"})
    assert "has words, expected numbers" in refusal(path, {"word": "number"})
    assert "No such file" in refusal(tmp_path / "none.csv")
    assert "a folder" in refusal(tmp_path)
    assert "cannot be read as Parquet" in refusal(table("no parquet", "x.parquet"))


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (np.array([0.5, 2.5], np.float32), None, ("number", [0.5, 2.5])),
        (torch.tensor([1, 2]), None, ("number", [1.0, 2.0])),
        (torch.tensor([1, 2]), "class", ("class", ["1", "2"])),
        (np.eye(2), None, ("vector", [[1.0, 0.0], [0.0, 1.0]])),
        ([True, False], None, ("class", ["true", "false"])),
        (np.array(["u", "v"]), None, ("class", ["u", "v"])),
        ([["x"], []], None, ("labels", [["x"], []])),
        ([[], ["x"]], None, ("labels", [[], ["x"]])),
        ([{"x", "y"}, {"y"}], None, ("labels", [["x", "y"], ["y"]])),
        ([(1, 2), (3, 4)], None, ("vector", [[1.0, 2.0], [3.0, 4.0]])),
        (["u", 7], "class", ("class", ["u", "7"])),
        ([2**60, 1], "class", ("class", [str(2**60), "1"])),
    ],
)
def test_columns_in_memory_are_of_the_kind_that_they_look_like(values, kind, expected):
    named = table_of_mapping({"object_id": ["a", "b"], "t": values}, kind and {"t": kind})

    assert content(named)["t"] == (expected[0], "", expected[1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1, np.inf]), "targets are finite"),
        (np.array([1, 2**60]), "float64 would change it"),
        (np.array([1j, 2]), "expected a number"),
        (np.array([1, 2], "datetime64[D]"), "expected a number"),
        (np.ones((2, 2, 2)), "expected a number"),
        ([1, "x"], "row 2 of t is 'x'"),
        (["x", True], "row 2 of t is True"),
        ([1], "1 values for 2 objects"),
        ("ab", "must be a list"),
        (7, "must be a list"),
        ([object(), 1], "expected a number"),
        ([b"x", b"y"], "expected a number"),
        ([["a", 1], ["b", 2]], "expected a number"),
        (["a", "\ud800"], "no Unicode"),
        ([[], []], "no label at all"),
    ],
)  # fmt: skip
def test_columns_in_memory_are_refused_in_one_line(values, message):
    with pytest.raises(UsageError) as raised:
        table_of_mapping({"object_id": ["a", "b"], "t": values})
    assert message in str(raised.value)


def test_more_classes_than_a_set_can_have_are_refused():
    names = [str(number) for number in range(100_001)]
    with pytest.raises(UsageError, match="100,001 classes"):
        table_of_mapping({"object_id": names, "t": [f"c{name}" for name in names]})


@pytest.mark.parametrize(
    ("name", "object_id"),
    [
        ("7.png", "7.png"), ("train/7.png", "7.png"), ("7", "7.png"), ("train/7", "7.png"), ("a\\9.png", "a/9.png"),
        ("./a/8.png", "a/8.png"), ("9.png", "a/9.png"), ("9", "a/9.png"), ("data/a/8.png", "a/8.png"), ("5.png", "5"),
        ("a/8", "a/8.png"), ("x.tar", "x.tar.gz"),
    ],
)  # fmt: skip
def test_a_name_finds_its_object(name, object_id):
    objects = ["7.png", "a/8.png", "b/8.png", "a/9.png", "5", "x.tar.gz"]

    assert match_names([name], objects, "table").rows == {object_id: 0}


@pytest.mark.parametrize("name", ["c/9.png", "7.jpg", "17.png", "x", ".png", ""])
def test_a_name_of_no_object_is_foreign(name):
    match = match_names([name], ["7.png", "a/9.png", "x.tar.gz"], "table")

    assert match == ({}, (name,))


def test_a_name_that_fits_two_objects_and_two_names_of_one_object_are_refused():
    with pytest.raises(UsageError, match=r"'8.png' fits 2 objects, a/8.png and b/8.png"):
        match_names(["8.png"], ["a/8.png", "b/8.png"], "table")
    with pytest.raises(UsageError, match=r"'7' and '7.png' both fit the object 7.png"):
        match_names(["7", "7.png"], ["7.png"], "table")
