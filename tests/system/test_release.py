"""Release: one command makes, checks and cards its sets, resumes, and names what fails."""

import json

import pytest
from support.paths import DATASETS, ROOT

import inr_factory as inr
from inr_factory.cli.main import program
from inr_factory.generation.execution.fit_plan import plan_from_arguments
from inr_factory.storage.card_notes import load_card_notes
from inr_factory.storage.yaml_files import load_yaml

TINY = """
publisher: the INR Factory authors
year: 2026
licences:
  CC-BY-4.0: {name: CC BY 4.0, url: "https://creativecommons.org/licenses/by/4.0/"}
  MIT: {name: MIT, url: "https://opensource.org/license/mit"}
sets:
  files:
    {recipe: fashion_mnist, objects: 70000, title: Clothes, licence: MIT, attribution: A. Author}
  tiny:
    recipe: digits
    settings: [spec.hidden_dim=4, fit.steps=5, fit.floor_psnr=0]
    objects: 1797
    title: "Tiny: a set"
    licence: CC-BY-4.0
    source: {title: Scans, authors: ["Author, Ann", A Project], year: 1998, doi: 10.1/x}
    attribution: Ann Author, Scans.
    baselines: [{model: "mlp:hidden_dim=8", epochs: 1}]
  own:
    recipe: digits
    settings: [spec.hidden_dim=4, fit.steps=5, fit.floor_psnr=0]
    objects: 1797
    title: Of our own
    licence: MIT
    attribution: INR Factory.
    copyright: [Copyright (c) 2026 X]
"""


@pytest.fixture
def release(monkeypatch, tmp_path, hugging_face_offline):
    """The command, on a short list of tiny sets, and what its modules are."""
    monkeypatch.syspath_prepend(str(ROOT / "pipelines" / "release"))
    import make_sets
    import release_sets

    (tmp_path / "sets.yaml").write_text(TINY)
    monkeypatch.setattr(release_sets, "LIST", tmp_path / "sets.yaml")
    monkeypatch.delenv("INR_FACTORY_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        monkeypatch.setattr("sys.argv", ["make_sets.py", "--out", "out", "--workers", "1", *arguments])
        with pytest.raises(SystemExit) as caught:
            make_sets.main()
        return caught.value.code

    command.sets, command.module = release_sets, make_sets
    return command


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of mlcroissant
def test_a_set_is_made_carded_and_not_made_twice(release, tmp_path, capsys, monkeypatch):
    assert release("--share", "0.01", "tiny") == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| tiny | 60 | 120 |")
    assert "mlp:hidden_dim=8 (2)" in row
    for library, said in (("mlcroissant", "valid"), ("datasets", "10 classes")):
        assert said in row or pytest.importorskip(library) is None
    folder = tmp_path / "out/tiny"
    card = (folder / "README.md").read_text()
    command = "inr-factory train DATASET --model mlp:hidden_dim=8 --epochs 1 --device cpu"
    assert command in card
    assert "Attribution: Ann Author, Scans." in card
    assert "Fitting took at most " in card
    assert inr.verify_dataset(folder).faults == ()

    monkeypatch.setattr(inr, "train", lambda *_, **__: pytest.fail("a baseline was measured again"))
    times = {path: path.stat().st_mtime_ns for path in (folder / "data").iterdir()} | {
        folder / "README.md": (folder / "README.md").stat().st_mtime_ns
    }
    assert release("--share", "0.01", "tiny") == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_baselines_of_fewer_inrs_are_measured_again(release, tmp_path):
    assert release("--share", "0.01", "tiny") == 0
    (few,) = load_card_notes(tmp_path / "out/tiny").baselines
    assert release("--share", "0.05", "tiny") == 0
    (more,) = load_card_notes(tmp_path / "out/tiny").baselines
    assert (few.inrs, few.command) == (84, more.command)
    assert more.inrs > few.inrs


def test_files_for_citation_have_what_a_doi_needs(release, tmp_path):
    assert release("--share", "0.01", "tiny", "own") == 0
    cited = json.loads((tmp_path / "out/tiny/datacite.json").read_text())
    needed = {"titles", "creators", "publisher", "publicationYear", "types", "rightsList", "descriptions"}
    assert needed <= cited.keys()
    assert cited["rightsList"][0]["rightsIdentifier"] == "CC-BY-4.0"
    assert cited["relatedIdentifiers"][0]["relatedIdentifier"] == "10.1/x"
    cff = load_yaml(tmp_path / "out/tiny/CITATION.cff", "it")
    assert (cff["type"], cff["license"], cff["title"]) == ("dataset", "CC-BY-4.0", "Tiny: a set")
    assert cff["references"][1]["authors"] == [{"family-names": "Author", "given-names": "Ann"}, {"name": "A Project"}]
    assert "Permission is hereby granted" not in (tmp_path / "out/tiny/LICENSE").read_text()
    licence = (tmp_path / "out/own/LICENSE").read_text()
    assert "Copyright (c) 2026 X\n\nPermission is hereby granted" in licence
    assert (tmp_path / "out/own/README.md").read_text().startswith("---\nlicense: mit\n"), "its source leaves it open"


def test_a_set_that_fails_is_named_and_the_others_are_made(release, tmp_path, capsys):
    assert release("--share", "0.01") == 2
    out, err = capsys.readouterr()
    assert "files: " in err
    assert [line.split(" | ")[0] for line in out.splitlines()[2:]] == ["| tiny", "| own"]


@pytest.mark.parametrize("arguments", [["nothing"], ["--share", "0"], ["--share", "1.5"]])
def test_wrong_arguments_are_refused(release, arguments, tmp_path):
    assert release(*arguments) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_card_that_is_not_valid_and_rows_that_are_missing_are_errors(release, tmp_path):
    pytest.importorskip("mlcroissant")
    pytest.importorskip("datasets")
    assert release("--share", "0.01", "own") == 0
    folder = tmp_path / "out/own"
    manifest = inr.verify_dataset(folder).manifest
    with pytest.raises(inr.IntegrityError, match="not as recorded"):
        release.module.check_datasets(folder, manifest.model_copy(update={"classes": ("a", "b")}))
    fields = json.loads((folder / "croissant.json").read_text())
    del fields["recordSet"][1]["field"][0]["dataType"]
    (folder / "croissant.json").write_text(json.dumps(fields))
    with pytest.raises(inr.IntegrityError, match=r"croissant\.json is not valid"):
        release.module.check_croissant(folder)


def test_the_list_has_sets_that_may_be_published_and_commands_that_run(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "pipelines" / "release"))
    import make_sets
    import release_sets

    known = release_sets.release_sets()
    assert set(known) == {"digits", "primitives", "fashion_mnist", "fashion_mnist_shared", "ldraw40"}
    options = {name for option in program().commands["train"].params for name in option.opts}
    for entry in known.values():
        recipe = inr.load_recipe(entry.recipe, entry.settings)
        assert entry.baselines
        assert (entry.licence.spdx == "MIT") == bool(entry.copyright)
        for baseline in entry.baselines:
            words = make_sets.command_of(baseline).split()
            assert {word for word in words if word.startswith("--")} <= options
            assert baseline.get("views", 1) <= (entry.views or recipe.views)


@pytest.mark.skipif(not (DATASETS / "ldraw").is_dir(), reason="no LDraw-40")
def test_the_objects_of_the_list_are_those_of_the_sources(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "pipelines" / "release"))
    import release_sets

    for entry in release_sets.release_sets().values():
        recipe = inr.load_recipe(entry.recipe, entry.settings)
        plan = plan_from_arguments(recipe, None, 1, None, None, (), None, dry=True, data_root=DATASETS)
        assert sum(split.objects for split in plan.manifest.splits.values()) == entry.objects
