"""Folder tables: flat folders work, and a table beside files gives classes, splits and targets, or one line."""

import pytest
from support.images import folder, put, tree

from inr_factory.errors import UsageError
from inr_factory.generation.recipe import ShapeSource, load_recipe
from inr_factory.generation.sources.registry import open_source

TRIANGLE = b"OFF\n4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"
TABLE = b"file_name,class,split,mass [kg],tags\n0.png,dog,train,1,a|b\n1.png,cat,Train,2,\n2,cat,validation,3,b\n"


def flat(root, table=TABLE, name="labels.csv"):
    tree(root, "0.png", "1.png", "2.png")
    put(root / name, table)
    return root


def facts(source):
    return {item.object_id: (source.classes[item.label], item.split, item.targets) for item in source.items}


def test_a_flat_folder_of_images_is_of_one_class(tmp_path):
    source = folder(tree(tmp_path, "b.png", "a.png"))

    assert facts(source) == {"a.png": ("object", None, {}), "b.png": ("object", None, {})}
    assert source.passed_over is None
    assert source.signal(0).targets.shape == (24, 3)


@pytest.mark.parametrize(
    ("collection", "suffix", "content"),
    [("mesh_folder", "off", TRIANGLE), ("point_folder", "xyz", b"0 0 0\n1 0 0\n0 1 0\n0 0 1\n")],
)
def test_flat_folders_of_meshes_and_clouds_are_read_with_the_table_beside_them(collection, suffix, content, tmp_path):
    for name in "ab":
        put(tmp_path / f"{name}.{suffix}", content)
    put(tmp_path / "README.txt", b"about")
    put(tmp_path / "t.tsv", b"name\tlabel\tvolume\na\t1\t0.5\nb\t0\t2\n")

    source = open_source(ShapeSource(collection=collection), tmp_path)

    assert facts(source) == {
        f"a.{suffix}": ("1", None, {"volume": 0.5}),
        f"b.{suffix}": ("0", None, {"volume": 2.0}),
    }


def test_the_only_table_in_a_flat_folder_gives_classes_splits_and_targets(tmp_path):
    source = folder(flat(tmp_path))

    assert facts(source) == {
        "0.png": ("dog", "train", {"mass": 1.0, "tags": ["a", "b"]}),
        "1.png": ("cat", "train", {"mass": 2.0, "tags": []}),
        "2.png": ("cat", "val", {"mass": 3.0, "tags": ["b"]}),
    }
    assert source.target_units == {"mass": "kg"}
    assert source.passed_over is None, "a table that is read is not passed over"


def test_of_several_tables_none_is_read_until_one_is_named(tmp_path):
    put(flat(tmp_path) / "other.csv", b"name,digit [class]\n0,7\n1,8\n2,9\n")

    assert folder(tmp_path).passed_over.remarks[0].startswith("of the tables labels.csv, other.csv none is read")
    assert facts(folder(tmp_path, table="other.csv"))["0.png"] == ("object", None, {"digit": "7"})


def test_a_table_of_another_format_beside_a_flat_folder_is_remarked_upon(tmp_path):
    (remark,) = folder(flat(tmp_path, b"{}", "labels.json")).passed_over.remarks

    assert remark.startswith("all objects are of the class object; tables such as labels.json are not read; make one a")


def test_a_named_table_labels_files_in_one_folder_and_leaves_the_classes_of_several(tmp_path):
    tree(tmp_path / "one", "images/0.png", "images/1.png")
    put(tmp_path / "one" / "t.csv", b"name,class,x\n0,u,1\nimages/1.png,v,2\n")
    tree(tmp_path / "two", "cat/0.png", "dog/1.png")
    put(tmp_path / "two" / "t.csv", b"name,class,x\n0,u,1\n1,v,2\n")

    assert facts(folder(tmp_path / "one", table="t.csv")) == {
        "images/0.png": ("u", None, {"x": 1.0}), "images/1.png": ("v", None, {"x": 2.0}),
    }  # fmt: skip
    assert facts(folder(tmp_path / "two", table="t.csv")) == {
        "cat/0.png": ("cat", None, {"class": "u", "x": 1.0}), "dog/1.png": ("dog", None, {"class": "v", "x": 2.0}),
    }  # fmt: skip


def test_names_of_no_file_are_remarked_upon(tmp_path):
    source = folder(flat(tmp_path, TABLE + b"9.png,owl,test,3,b\n"))

    assert source.classes == ("cat", "dog")
    assert source.passed_over.remarks == ("names in labels.csv that are of no file: 9.png",)


def test_labels_and_splits_of_a_table_are_in_the_fingerprint_and_other_sets_keep_theirs(tmp_path):
    plain = folder(tree(tmp_path, "0.png", "1.png", "2.png")).fingerprint
    prints = {
        folder(flat(tmp_path, table)).fingerprint
        for table in (TABLE, TABLE.replace(b"0.png,dog", b"0.png,owl"), TABLE.replace(b"validation", b"test"))
    }

    assert len({plain, *prints}) == 4
    assert folder(flat(tmp_path, b"name,x\n0,1\n1,2\n2,3\n")).fingerprint == plain, (
        "targets alone are compared by value"
    )
    put(tmp_path / "classes" / "cat" / "0.png", b"x" * 10)
    assert folder(tmp_path / "classes").fingerprint == "c9d10102e2e9212b", "as before there were tables"


def test_a_recipe_without_a_table_is_what_it_was():
    settings = ["source.collection=image_folder"]
    fields = load_recipe("digits", settings).model_dump()["source"]

    assert "table" not in fields
    assert load_recipe("digits", [*settings, "source.table=t.csv"]).model_dump()["source"]["table"] == "t.csv"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"name,x\n0,1\n", r"labels.csv: 2 of 3 images have no row in it: 1.png, 2.png \(it names 0\)"),
        (b"name,x\n0,1\n1,\n2,1\n", "labels.csv: row 2 of x is empty"),
        (b"name,x\n0,1\n0.png,1\n2,1\n", "'0' and '0.png' both fit the object 0.png"),
        (b"name,split\n0,train\n1,dev\n2,test\n", "the column split has 'dev', expected one of train"),
        (b"name,split\n0,1\n1,2\n2,3\n", "the column split has"),
        (b"name,class,split\n0,u,train\n1,v,test\n2,u,train\n", "have objects of v, of which train has none"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_in_one_line(table, message, tmp_path):
    with pytest.raises(UsageError, match=message) as raised:
        folder(flat(tmp_path, table))
    assert "\n" not in str(raised.value)


def test_a_table_that_cannot_be_is_refused_in_one_line(tmp_path):
    tree(tmp_path, "train/cat/0.png", "test/cat/1.png")
    put(tmp_path / "t.csv", b"name,split\n0,train\n1,test\n")

    for settings, message in (
        ({"table": "none.csv"}, "source.table: no table"),
        ({"table": "train"}, "source.table: no table"),
        ({"table": "t.csv"}, "folders give splits already"),
    ):
        with pytest.raises(UsageError, match=message):
            folder(tmp_path, **settings)
    for setting in ("source.table=t.csv", "source.measure=true"):
        with pytest.raises(UsageError, match=r"measure|table"):
            load_recipe("digits", [setting])
