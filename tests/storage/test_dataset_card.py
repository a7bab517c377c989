"""Dataset card: README.md and croissant.json say what a set is, follow its record, and leave alone what a user wrote."""

import hashlib
import json
import os
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
import yaml
from support.small_sets import CLASSES, SPEC, make_set

from inr_factory.cli.main import run
from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.recipe import check_recipe
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage import dataset_card
from inr_factory.storage.card_croissant import COLUMNS
from inr_factory.storage.card_readme import licence_name
from inr_factory.storage.dataset_card import (
    ALTERNATE_NAMES,
    CROISSANT,
    README,
    update_card,
    update_card_if_complete,
    write_card,
)
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest, replace_manifest
from inr_factory.storage.targets_record import TargetColumnRecord, TargetsRecord

LOCAL = {"backend": "local", "workers": 1}


def tiny(**changes):
    fields = {
        "name": "tiny", "source": {"collection": "digits"}, "limit": 24, "views": 2, "shard_objects": 9,
        "spec": {"hidden_dim": 4}, "fit": {"steps": 4, "floor_psnr": -99, "lanes": 4},
    }  # fmt: skip
    return check_recipe(fields | changes, origin="test")


@pytest.fixture
def root(tmp_path):
    make_set(tmp_path / "set")
    return tmp_path / "set"


def head(root):
    """The YAML that a hub reads."""
    _, text, _ = (root / README).read_text().split("---\n", 2)
    return yaml.safe_load(text)


def card_of(root):
    return {name: (root / name).read_bytes() for name in (README, CROISSANT)}


# --- what it says ---


def test_the_head_says_licence_size_and_where_each_split_lies(root):
    update_card(root, load_manifest(root))
    fields = head(root)
    assert fields["license"] == "cc0-1.0"
    assert fields["size_categories"] == ["n<1K"]
    assert "implicit-neural-representations" in fields["tags"]
    configs = {config["config_name"]: config["data_files"] for config in fields["configs"]}
    assert set(configs) == {"default", "view000", "view001", "view002"}
    assert configs["default"] == [
        {"split": "train", "path": "data/train-*.h5"},
        {"split": "validation", "path": "data/val-*.h5"},
    ]


@pytest.mark.parametrize(
    ("licence", "name"),
    [
        ("MIT", "mit"), ("CC BY 4.0", "cc-by-4.0"), ("CC BY-SA 3.0 (as commonly stated)", "cc-by-sa-3.0"), ("CC0-1.0", "cc0-1.0"),
        ("unknown: your own files", "unknown"), ("no licence text; see its page", "unknown"), ("", "unknown"),
        ("academic research only, see its page", "other"), ("none: made by this program", "other"), ("MIT-like", "other"),
    ],
)  # fmt: skip
def test_a_licence_is_named_as_hubs_name_it_and_never_invented(licence, name):
    assert licence_name(licence) == name


@pytest.mark.parametrize("licence", ["academic research only, see its page", "unknown: your own files"])
def test_licence_and_terms_of_the_source_are_carried_through(root, licence):
    manifest = load_manifest(root)
    source = manifest.source.model_copy(update={"licence": licence})
    update_card(root, manifest.model_copy(update={"source": source}))
    body = (root / README).read_text()
    assert licence in body.split("## Licence and terms")[1]
    assert ("is not known" in body) == licence.startswith("unknown")
    fields = json.loads((root / CROISSANT).read_text())
    assert fields["license"] == licence
    assert not {"creator", "creditText"} & fields.keys()
    assert head(root).get("license_name") == (
        None if licence.startswith("unknown") else licence.replace(", ", "-").replace(" ", "-")
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["class", "number"])
def test_authors_are_credited_and_licences_have_their_addresses(root, kind):
    mlcroissant = pytest.importorskip("mlcroissant")
    licence = "CC BY 2.0 and CC BY 4.0 (attribution: X; https://terms.example/2.0/, https://terms.example/4.0/)"
    column = TargetColumnRecord(name="author", kind=kind, names=("A. Author [aa]", "Zoë") if kind == "class" else ())
    targets = TargetsRecord(path="targets-00000000.h5", bytes=1, sha256="0" * 64, objects=1, columns=(column,))
    manifest = load_manifest(root)
    source = manifest.source.model_copy(update={"licence": licence})
    update_card(root, manifest.model_copy(update={"source": source, "targets": targets}))

    read = mlcroissant.Dataset(str(root / CROISSANT))
    fields = json.loads((root / CROISSANT).read_text())
    terms = (root / README).read_text().split("## Licence and terms")[1]

    assert not read.metadata.ctx.issues.errors
    assert read.metadata.license == ["https://terms.example/2.0/", "https://terms.example/4.0/"]
    assert fields["creditText"] == licence
    assert [each["name"] for each in fields.get("creator", ())] == list(column.names)
    assert ("Authors of the source's objects (2): A. Author \\[aa\\], Zoë." in terms) == (kind == "class")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # mlcroissant's own
def test_croissant_is_valid_and_names_every_shard_with_its_sha256(root):
    mlcroissant = pytest.importorskip("mlcroissant")
    manifest = load_manifest(root)
    update_card(root, manifest)

    read = mlcroissant.Dataset(str(root / CROISSANT))

    assert not read.metadata.ctx.issues.errors
    files = {each.id: each for each in read.metadata.distribution if isinstance(each, mlcroissant.FileObject)}
    assert set(files) == {entry.path for entry in manifest.shards}
    for path, file in files.items():
        assert file.sha256 == hashlib.sha256((root / path).read_bytes()).hexdigest()
        assert file.encoding_formats == ["application/x-hdf5"]
    assert [record["classes/name"] for record in read.records("classes")] == [name.encode() for name in CLASSES] or [
        record["classes/name"] for record in read.records("classes")
    ] == list(CLASSES)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_validator_sees_what_is_wrong(root):
    mlcroissant = pytest.importorskip("mlcroissant")
    update_card(root, load_manifest(root))
    fields = json.loads((root / CROISSANT).read_text())
    del fields["recordSet"][1]["field"][0]["dataType"]
    with pytest.raises(mlcroissant.ValidationError):
        mlcroissant.Dataset(jsonld=fields)


def test_the_record_sets_have_the_columns_that_the_shards_have(root):
    update_card(root, load_manifest(root))
    sets = {each["@id"]: each for each in json.loads((root / CROISSANT).read_text())["recordSet"]}
    with h5py.File(next((root / "data").glob("val-*.h5"))) as shard:
        assert {field["name"] for field in sets["val"]["field"]} == set(shard)
    (weights,) = (field for field in sets["train"]["field"] if field["name"] == "weights")
    assert weights["arrayShape"] == str(SPEC.num_parameters)


SHAPES = {"collection": "primitives", "per_class": 1, "num_points": 200, "num_truth": 100, "num_surface": 50}


@pytest.mark.parametrize("source", [{"collection": "digits"}, SHAPES], ids=["images", "shapes"])
def test_every_column_is_described(tmp_path, source):
    fit_dataset(tiny(source=source, limit=3, views=1), tmp_path / "set", **LOCAL)
    with h5py.File(next((tmp_path / "set/data").glob("*.h5"))) as shard:
        assert set(shard) <= set(COLUMNS)


@pytest.mark.parametrize("views", [1, 3])
def test_one_fit_of_each_object_is_not_independent_fits(views, tmp_path):
    make_set(tmp_path / "set", views=views)
    update_card(tmp_path / "set", load_manifest(tmp_path / "set"))
    text = (tmp_path / "set" / README).read_text()
    assert (", one fit of each." in text, ", 3 independent fits of each." in text) == (views == 1, views == 3)


@pytest.mark.parametrize(("licence", "none"), [("none: made by this program", True), ("MIT", False)])
def test_a_source_without_need_of_a_licence_has_no_terms(licence, none, root):
    manifest = load_manifest(root)
    source = manifest.source.model_copy(update={"licence": licence})
    update_card(root, manifest.model_copy(update={"source": source}))
    about, terms = (root / README).read_text().split("## Licence and terms")
    assert f"Licence of the source: {'none (made by this program)' if none else licence}." in about
    assert ("needs no licence: made by this program." in terms) == none
    assert ("its terms hold for them, too" in terms) != none


def test_text_of_a_stranger_starts_no_markup(tmp_path):
    make_set(tmp_path / "set", classes=("<script>alert(1)</script>", "a|b\n# c", "[x](y)"))
    update_card(tmp_path / "set", load_manifest(tmp_path / "set"))
    body = (tmp_path / "set" / README).read_text()
    assert "<script>" not in body
    assert "\n# c" not in body
    assert "[x](y)" not in body


@pytest.mark.parametrize(("starts", "said"), [("independent", False), ("shared", True), ("file", True)])
def test_the_card_says_where_fits_started_alike(starts, said, tmp_path):
    make_set(tmp_path / "set")
    manifest = load_manifest(tmp_path / "set")
    fit = manifest.recipe.get("fit", {}) | {"starts": starts}
    changed = manifest.model_copy(update={"recipe": {**manifest.recipe, "fit": fit}})
    replace_manifest(tmp_path / "set", changed)
    update_card(tmp_path / "set", changed)
    assert ("started from the same" in (tmp_path / "set" / README).read_text()) == said


def test_a_set_without_inrs_has_a_card(tmp_path):
    everything = [(f"train-{n}", 0) for n in range(3)]
    make_set(tmp_path / "set", views=1, objects={"train": 3}, quarantine=everything)
    update_card(tmp_path / "set", load_manifest(tmp_path / "set"))
    assert "configs" not in head(tmp_path / "set")
    assert "There is no INR in it yet" in (tmp_path / "set" / README).read_text()


def test_an_unfinished_set_says_so(tmp_path):
    make_set(tmp_path / "set", unfitted=[("train", 1, 2)])
    assert run(["card", str(tmp_path / "set")]) == 0
    assert "Not complete:** 1 shards" in (tmp_path / "set" / README).read_text()


# --- what it says works ---


def test_load_dataset_finds_the_splits_and_views_of_the_folder(root, hugging_face_offline, tmp_path):
    datasets = pytest.importorskip("datasets")
    update_card(root, load_manifest(root))

    every = datasets.load_dataset(str(root), cache_dir=str(tmp_path / "cache"))
    one = datasets.load_dataset(str(root), "view001", cache_dir=str(tmp_path / "cache"))

    assert {split: table.num_rows for split, table in every.items()} == {"train": 42, "validation": 15}
    assert {split: table.num_rows for split, table in one.items()} == {"train": 14, "validation": 5}
    assert set(one["train"]["view"]) == {1}


def test_load_dataset_yields_names_of_classes_readable_ids_and_lengths(tmp_path, hugging_face_offline):
    datasets = pytest.importorskip("datasets")
    classes = ("Müller", "鞋", "a: 'b'\u2028\x85😀")
    make_set(tmp_path / "set", classes=classes)
    update_card(tmp_path / "set", load_manifest(tmp_path / "set"))

    for config in ("default", "view002"):
        rows = datasets.load_dataset(str(tmp_path / "set"), config, split="train", cache_dir=str(tmp_path / "cache"))
        assert rows.features["label"] == datasets.ClassLabel(names=list(classes))
        assert rows.features["weights"] == datasets.List(datasets.Value("float32"), length=SPEC.num_parameters)
        by_id = {row["object_id"]: rows.features["label"].int2str(row["label"]) for row in rows}
        assert by_id == {f"train-{number}": classes[number % 3] for number in range(14)}


def test_classes_of_one_name_stay_numbers(tmp_path, hugging_face_offline):
    datasets = pytest.importorskip("datasets")
    make_set(tmp_path / "set", classes=("same", "same", "other"))
    update_card(tmp_path / "set", load_manifest(tmp_path / "set"))

    rows = datasets.load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache"))

    assert rows.features["label"] == datasets.Value("int32")


def test_programs_read_the_spec_from_the_card(root):
    update_card(root, load_manifest(root))
    assert SirenSpec.from_dict(head(root)["siren_spec"]) == SPEC
    assert "| omega_0 | 7.0 |" in (root / README).read_text()
    properties = json.loads((root / CROISSANT).read_text())["additionalProperty"]
    assert SirenSpec.from_dict({each["name"]: each["value"] for each in properties}) == SPEC


@pytest.mark.parametrize("spec", [SPEC, SirenSpec(3, 1, hidden_dim=4, activation="relu", start="linear")], ids=str)
def test_the_snippets_of_the_card_run(tmp_path, hugging_face_offline, spec):
    pytest.importorskip("datasets")
    root = tmp_path / "set"
    make_set(root, spec=spec)
    update_card(root, load_manifest(root))
    blocks = re.findall(r"```python\n(.*?)```", (root / README).read_text(), re.DOTALL)
    assert len(blocks) == 3
    check = "from inr_factory.inr.batch import INRBatch; from inr_factory.inr.spec import SirenSpec\nimport torch\n"
    check += "inr = INRBatch.from_flat(SirenSpec.from_dict(spec), torch.tensor(flat)[None])\n"
    check += "assert np.abs(inr(torch.tensor(x0).float())[0].numpy() - values).max() < 1e-5\n"
    code = "\n".join(blocks).replace("# any points of [-1, 1]\n", "\nx0 = x\n") + check
    environment = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- when it is written ---


def test_a_whole_fit_leaves_a_card_and_a_second_one_writes_nothing(tmp_path):
    out = tmp_path / "set"
    fit_dataset(tiny(), out, **LOCAL)
    times = {name: (out / name).stat().st_mtime_ns for name in (README, CROISSANT)}
    report = fit_dataset(tiny(), out, **LOCAL)
    assert report.card.written == ()
    assert {name: (out / name).stat().st_mtime_ns for name in times} == times


def test_more_views_make_a_new_card_which_is_that_of_a_set_made_at_once(tmp_path):
    fit_dataset(tiny(), tmp_path / "once", **LOCAL)
    fit_dataset(tiny(views=1), tmp_path / "twice", **LOCAL)
    first = card_of(tmp_path / "twice")
    fit_dataset(tiny(), tmp_path / "twice", **LOCAL)
    assert card_of(tmp_path / "twice") == card_of(tmp_path / "once") != first


def test_a_part_of_a_set_has_no_card_until_the_last_part_is_there(tmp_path):
    out = tmp_path / "set"
    fit_dataset(tiny(), out, backend="local", workers=1, shard="0/2")
    assert not (out / README).exists()
    fit_dataset(tiny(), out, backend="local", workers=1, shard="1/2")
    assert (out / README).exists()


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_run_that_dies_while_it_writes_the_card_is_made_good(tmp_path, monkeypatch, deaths):
    fit_dataset(tiny(), tmp_path / "whole", **LOCAL)
    out, write, left = tmp_path / "set", dataset_card.write_atomically, [deaths - 1]

    def dies(path, content):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        write(path, content)

    monkeypatch.setattr(dataset_card, "write_atomically", dies)
    with pytest.raises(KeyboardInterrupt):
        fit_dataset(tiny(), out, **LOCAL)
    monkeypatch.setattr(dataset_card, "write_atomically", write)
    fit_dataset(tiny(), out, **LOCAL)
    assert card_of(out) == card_of(tmp_path / "whole")


def test_a_card_that_is_there_is_seen_by_its_record_alone(root, monkeypatch):
    update_card(root, load_manifest(root))
    monkeypatch.setattr(dataset_card, "shard_columns", lambda *_: pytest.fail("a shard was opened"))
    assert update_card(root, load_manifest(root)).written == ()


@pytest.mark.parametrize("name", [README, CROISSANT])
def test_a_file_of_the_card_that_is_gone_is_written_again(root, name):
    update_card(root, load_manifest(root))
    before = card_of(root)
    (root / name).unlink()
    assert update_card(root, load_manifest(root)).written == (name,)
    assert card_of(root) == before


def test_merge_and_align_leave_a_card(root, tmp_path):
    make_set(tmp_path / "part", unfitted=[("train", 1, 2)])
    assert run(["merge", str(tmp_path / "part"), str(root), "--out", str(tmp_path / "merged")]) == 0
    update_card(root, load_manifest(root))
    assert card_of(tmp_path / "merged") == card_of(root)
    assert run(["align", str(root), "--out", str(tmp_path / "aligned")]) == 0
    assert "align:match=signed" in (tmp_path / "aligned" / README).read_text()


def test_a_set_where_nobody_may_write_is_still_finished(root, monkeypatch):
    def refuse(path, content):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(dataset_card, "write_atomically", refuse)
    assert update_card_if_complete(root, load_manifest(root)).written == ()


# --- what a user wrote stays ---


@pytest.mark.parametrize("name", [README, CROISSANT])
def test_an_edited_file_stays_and_the_new_version_has_another_name(root, name, capsys):
    update_card(root, load_manifest(root))
    edited = (root / name).read_bytes().replace(b"small", b"SMALL")
    (root / name).write_bytes(edited)
    newer = load_manifest(root).model_copy(update={"software": {"inr-factory": "9"}})
    replace_manifest(root, newer)

    assert run(["card", str(root)]) == 0

    assert (root / name).read_bytes() == edited
    assert f"{name} was edited and stays as it is" in capsys.readouterr().err
    assert (root / ALTERNATE_NAMES[name]).is_file()
    assert update_card(root, newer).written == (), "and once is enough"


def test_a_readme_of_a_users_own_stays(root):
    (root / README).write_text("mine")
    assert update_card(root, load_manifest(root)).edited == (README,)
    assert (root / README).read_text() == "mine"


def test_a_card_that_is_a_link_out_of_the_set_is_not_followed(root, tmp_path):
    (tmp_path / "secret").write_text("a secret")
    (root / README).symlink_to(tmp_path / "secret")
    with pytest.raises(IntegrityError, match="link out"):
        update_card(root, load_manifest(root))


def test_the_verb_says_what_it_did(root, capsys):
    assert run(["card", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == [str(root / CROISSANT), str(root / README)]
    assert run(["card", str(root)]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run(["card", str(root / "data")]) == 2


def test_write_card_takes_paths_and_urls(root):
    assert write_card(str(root)).written == (CROISSANT, README)
    assert write_card(root).written == write_card(f"file://{root}").written == ()
    with pytest.raises(UsageError, match="no data set in"):
        write_card(root / "data")


def test_an_unedited_card_without_features_is_renewed_by_card_and_push(root, monkeypatch):
    monkeypatch.setattr(dataset_card, "CARD_VERSION", 1)
    update_card(root, load_manifest(root))
    monkeypatch.undo()
    assert update_card(root, load_manifest(root)).written == (CROISSANT, README)


OLD_CARD = "# A set\n<!-- inr-factory card: record=0123456789abcdef seal={} -->\n"


def test_a_card_of_an_older_version_is_recognised_and_replaced(root):
    """Its marker calls the self-checksum a seal; sets on disk and on hubs have such cards."""
    seal = hashlib.sha256(OLD_CARD.format("0" * 16).encode()).hexdigest()[:16]
    (root / README).write_text(OLD_CARD.format(seal))

    report = write_card(root)

    assert (report.written, report.edited) == ((CROISSANT, README), ())


def test_a_damaged_manifest_gets_no_card(root):
    (root / MANIFEST).write_text("{")
    assert run(["card", str(root)]) == 4
    assert not (root / README).exists()


def test_numbers_of_the_card_are_those_of_the_set(root):
    update_card(root, load_manifest(root))
    rows = re.findall(
        r"^\| (train|val) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", (root / README).read_text(), re.MULTILINE
    )
    assert [(split, *map(int, numbers)) for split, *numbers in rows] == [("train", 14, 3, 42, 0), ("val", 5, 3, 15, 0)]
    assert np.sum([entry.rows for entry in load_manifest(root).shards]) == 57
