"""LDraw: meshes with a table and a downloaded library are read with classes, splits and authors, and credited."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from support.ldraw import CUBE, FILES, PLATE, part, write_library
from support.paths import DATASETS
from support.shapes import FEW, box

from inr_factory.cli.main import run
from inr_factory.errors import UsageError
from inr_factory.generation.geometry.ply import ply_content
from inr_factory.generation.recipe import ShapeSource, load_recipe
from inr_factory.generation.signals import SignalError
from inr_factory.generation.sources.ldraw import CLASSES, DOWNLOAD
from inr_factory.generation.sources.shape_collections import open_shapes
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.targets import read_targets

pytestmark = pytest.mark.usefixtures("cache")
REAL = DATASETS / "ldraw"
needs_ldraw = pytest.mark.skipif(not REAL.is_dir(), reason=f"LDraw-40 is not at {REAL}")
ROWS = [("Brick", "train", "3001", "A. Author"), ("Brick", "test", "3002", "B. Author"), ("Arch", "train", "9", "Zoë")]
SMALL = [
    "spec.hidden_dim=4", "fit.steps=3", "fit.floor_psnr=-99", "source.num_points=200", "source.num_truth=100",
    "source.num_surface=50",
]  # fmt: skip


def open_ldraw(root, **settings):
    return open_shapes(ShapeSource(collection="ldraw40", **(FEW | settings)), root)


def write_table(root, rows=ROWS, columns=("class", "split", "part", "author")):
    root.mkdir(parents=True, exist_ok=True)
    with (root / "PARTS.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def write_meshes(root, rows=ROWS):
    write_table(root, rows)
    (root / "CAreadme.txt").write_text("terms")
    for label, split, name, _ in rows:
        (root / label / split).mkdir(parents=True, exist_ok=True)
        (root / label / split / f"{name}.ply").write_bytes(ply_content(box()))


# --- meshes with a table ---


@pytest.mark.parametrize("below", ["", "ldraw"])
def test_classes_splits_and_authors_are_those_of_the_table(tmp_path, below):
    write_meshes(tmp_path / below)

    source = open_ldraw(tmp_path)

    assert (source.name, source.classes, source.passed_over) == ("ldraw40", ("Arch", "Brick"), None)
    assert [(item.object_id, item.label, item.split, item.targets) for item in source.items] == [
        ("Arch/train/9.ply", 0, "train", {"author": "Zoë"}),
        ("Brick/test/3002.ply", 1, "test", {"author": "B. Author"}),
        ("Brick/train/3001.ply", 1, "train", {"author": "A. Author"}),
    ]
    assert source.signal(0).field == "udf"
    assert len(source.geometry(0).faces) == 12


def test_a_part_without_file_is_remarked_and_its_class_keeps_its_label(tmp_path):
    write_meshes(tmp_path)
    (tmp_path / "Arch/train/9.ply").unlink()
    (tmp_path / "notes.md").write_text("")

    source = open_ldraw(tmp_path)

    assert source.classes == ("Arch", "Brick")
    assert source.passed_over.remarks == ("parts of PARTS.csv without a file: 1 (Arch/train/9)",)
    assert source.passed_over.suffixes == {".md": 1}


@pytest.mark.parametrize("name", ["Brick/train/77.ply", "Brick/train/3002.ply", "Wing/train/3001.ply"])
def test_a_mesh_that_the_table_does_not_name_is_refused(tmp_path, name):
    write_meshes(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(tmp_path / "Brick/train/3001.ply", tmp_path / name)
    with pytest.raises(UsageError, match=f"has no row for 1 of 4 meshes: {name}; add rows with their authors"):
        open_ldraw(tmp_path)


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (
            [("Brick", "train", "1", "")],
            ("class", "split", "part", "author"),
            "row 1 of .* lacks class, part or author",
        ),
        ([("Brick", "later", "1", "A")], ("class", "split", "part", "author"), "its split is none of test, train, val"),
        (
            [("Brick", "train", "1", "A")],
            ("class", "split", "name", "author"),
            "expected the columns class, split, part",
        ),
        ([ROWS[0], ROWS[0]], ("class", "split", "part", "author"), "has the part 3001 twice"),
    ],
)
def test_a_table_that_lacks_something_is_refused(tmp_path, rows, columns, message):
    write_meshes(tmp_path)
    write_table(tmp_path, rows, columns)
    with pytest.raises(UsageError, match=message):
        open_ldraw(tmp_path)


def test_a_table_that_is_no_text_or_has_no_meshes_is_refused(tmp_path):
    write_table(tmp_path)
    with pytest.raises(UsageError, match=r"none of the 3 parts of .*PARTS\.csv is there"):
        open_ldraw(tmp_path)
    (tmp_path / "PARTS.csv").write_bytes(b"class\xff")
    with pytest.raises(UsageError, match=r"PARTS\.csv cannot be read"):
        open_ldraw(tmp_path)


def test_a_folder_with_neither_says_where_to_get_one(tmp_path):
    (tmp_path / "parts").mkdir()
    with pytest.raises(UsageError, match=f"no LDraw parts in .*{DOWNLOAD}"):
        open_ldraw(tmp_path)


# --- a library ---


@pytest.mark.parametrize("upper", [False, True])
def test_a_library_gives_the_parts_of_the_forty_classes(tmp_path, upper):
    files = {name.upper() if upper else name: text for name, text in FILES.items()}

    source = open_ldraw(write_library(tmp_path, files))

    assert source.classes == ("Brick", "Minifig_Headwear", "Plate")
    assert [(item.object_id, source.classes[item.label], item.targets["author"]) for item in source.items] == [
        ("parts/3005.dat", "Brick", "A. Author [aa]"),
        ("parts/3024.dat", "Plate", "A. Author [aa]"),
        ("parts/3024b.dat", "Plate", "Zoë Ünal"),
        ("parts/3626.dat", "Minifig_Headwear", "A. Author [aa]"),
        ("parts/u9001.dat", "Plate", "A. Author [aa]"),
    ]
    assert source.passed_over.suffixes == {
        "without a licence that allows copies, or without author": 2, "a pattern on a part": 1,
        "another name of a part": 1, "moved, or a piece of a part": 1, "of other categories": 1,
    }  # fmt: skip
    for index in range(len(source.items)):
        assert source.geometry(index).vertices.max(axis=0).tolist() == [10, 10, 4]
    assert source.signal(0).field == "udf"


def test_variants_of_a_design_share_their_split_and_a_fifth_of_the_designs_is_for_testing(tmp_path):
    numbers = [f"{number}{variant}" for number in range(4001, 4201) for variant in ("", "b", "c01")]
    write_library(tmp_path, {f"parts/{number}.dat": part("Brick 1 x 1", PLATE) for number in numbers})
    write_library(tmp_path)

    splits = {item.object_id: item.split for item in open_ldraw(tmp_path).items}

    designs = {number[:4]: {splits[f"parts/{number[:4]}{v}.dat"] for v in ("", "b", "c01")} for number in numbers}
    assert {len(names) for names in designs.values()} == {1}
    assert 20 < sum(names == {"test"} for names in designs.values()) < 60


def test_a_class_of_one_design_is_for_training(tmp_path):
    for number in range(4001, 4021):
        root = write_library(tmp_path / str(number), {"p/box.dat": "", f"parts/{number}.dat": part("Wing", PLATE)})
        assert [item.split for item in open_ldraw(root).items] == ["train"]


def test_a_table_in_a_library_chooses_parts_classes_and_splits(tmp_path):
    write_library(tmp_path)
    write_table(tmp_path, [("Wing", "train", "3008", "C"), ("Arch", "train", "3009", "D"), ("Arch", "test", "1", "E")])

    source = open_ldraw(tmp_path)

    assert source.classes == ("Arch", "Wing")
    assert [(i.object_id, i.label, i.split, i.targets) for i in source.items] == [
        ("parts/3008.dat", 1, "train", {"author": "C"})
    ]
    assert source.passed_over.remarks == ("parts of PARTS.csv without a file: 1 (1)",)
    assert source.passed_over.names == ("parts/3009.dat",)


def test_what_a_part_is_made_of_is_its_content(tmp_path):
    write_library(tmp_path)
    source = open_ldraw(tmp_path)
    before, signal = source.content(0), source.signal(0)
    assert signal.content == before

    (tmp_path / "p/box.dat").write_text(CUBE.replace("-1", "-1.5"))

    changed = open_ldraw(tmp_path)
    assert changed.content(0) != before
    assert not torch.equal(changed.signal(0).targets, signal.targets)


def test_a_part_whose_sub_file_is_gone_is_a_signal_error(tmp_path):
    write_library(tmp_path)
    (tmp_path / "p/stud.dat").unlink()
    source = open_ldraw(tmp_path)
    for ask in (source.signal, source.content, source.geometry):
        with pytest.raises(SignalError, match=r"its sub-file 'stud\.dat', of '3024\.dat', is missing"):
            ask(0)
    with pytest.raises(SignalError, match=r"source\.max_faces allows 9"):
        open_ldraw(write_library(tmp_path), max_faces=9).signal(0)


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ("Redistributable under CCAL version 2.0 : see CAreadme.txt", "CC BY 2.0 "),
        ("Licensed under CC BY 4.0 : see CAreadme.txt", "CC BY 4.0 "),
        ("Licensed under CC BY 2.0 and CC BY 4.0 : see CAreadme.txt", "CC BY 2.0 and CC BY 4.0 "),
    ],
)
def test_the_licence_is_that_of_the_parts(tmp_path, terms, said):
    write_library(tmp_path, FILES | {"parts/3024.dat": part("Plate", PLATE, licence=terms)})
    for name in ("3024b", "3005", "3626", "u9001"):
        (tmp_path / f"parts/{name}.dat").unlink()
    assert open_ldraw(tmp_path).licence.startswith(f"{said}(attribution: The LDraw Parts Library; https://creative")


def test_headers_of_older_files_are_read(tmp_path):
    write_library(tmp_path)
    (tmp_path / "parts/3024b.dat").write_bytes(part("Plate", PLATE, author="Jörg").encode("cp1252"))
    assert open_ldraw(tmp_path).items[2].targets == {"author": "Jörg"}


# --- the sets made of them ---


def test_a_set_of_a_library_credits_its_authors(tmp_path):
    write_library(tmp_path / "data")
    (tmp_path / "data/parts/3008.dat").unlink()
    assert fit(tmp_path / "data", tmp_path / "set") == 0
    check_credits(tmp_path / "set", {"A. Author [aa]", "Zoë Ünal"})


def fit(data, out):
    command = ["fit", "ldraw40", "--data-root", str(data), "--out", str(out), "--views", "1", "--limit", "6", "-q"]
    return run([*command, "--backend", "local", *(word for setting in SMALL for word in ("--set", setting))])


def check_credits(out, authors):
    manifest = load_manifest(out)
    assert set(read_targets(out, manifest).column("author").names) == authors
    readme, croissant = (out / "README.md").read_text(), json.loads((out / "croissant.json").read_text())
    terms = readme.split("## Licence and terms")[1]
    assert "license: cc-by-2.0\n" in readme
    assert "The LDraw Parts Library" in terms
    assert "https://creativecommons.org/licenses/by/2.0/" in terms
    for author in authors:
        assert author.replace("[", "\\[").replace("]", "\\]").replace("_", "\\_") in terms
    assert croissant["license"] == "https://creativecommons.org/licenses/by/2.0/"
    assert croissant["creditText"] == manifest.source.licence
    assert {each["name"] for each in croissant["creator"]} == authors


@needs_ldraw
def test_ldraw40_is_whole():
    with (REAL / "PARTS.csv").open(encoding="utf-8", newline="") as file:
        rows = {f"{row['class']}/{row['split']}/{row['part']}.ply": row for row in csv.DictReader(file)}

    source = open_ldraw(DATASETS)

    assert (len(source.items), source.classes, source.passed_over) == (2771, CLASSES, None)
    assert {item.object_id for item in source.items} == rows.keys()
    for item in source.items:
        row = rows[item.object_id]
        assert (source.classes[item.label], item.split) == (row["class"], row["split"])
        assert item.targets == {"author": row["author"]}
    assert source.fingerprint == open_ldraw(REAL).fingerprint


@needs_ldraw
def test_parts_are_upright():
    source = open_ldraw(DATASETS)
    index = next(i for i, item in enumerate(source.items) if item.object_id == "Plate/train/3024.ply")
    bounds = source.geometry(index).vertices
    assert np.ptp(bounds, axis=0).tolist() == [20, 20, 12]
    assert bounds[:, 2].max() == 4, "the stud"


@needs_ldraw
def test_a_set_of_ldraw40_credits_all_authors(tmp_path):
    with (REAL / "PARTS.csv").open(encoding="utf-8", newline="") as file:
        authors = {row["author"] for row in csv.DictReader(file)}
    assert fit(REAL, tmp_path / "set") == 0
    check_credits(tmp_path / "set", authors)


def test_the_recipe_fits_ten_views_of_unsigned_distances():
    recipe = load_recipe("ldraw40")
    assert (recipe.views, recipe.source.natural_field, recipe.fit.floor_psnr, recipe.limit) == (
        10,
        "root_udf",
        15,
        None,
    )
