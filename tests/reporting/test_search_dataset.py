"""Search: neighbours of objects, files and INRs, scores beside those of chance, and the page of both."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.command_line import failure, outcome
from support.small_runs import OPTIONS
from support.small_sets import make_set
from support.tiny_recipes import LOCAL, tiny

from inr_factory.errors import UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.fit_image import fit_image
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.metrics import psnr
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.training.search import RetrievalReport, SearchReport
from inr_factory.learning.training.train_classifier import train
from inr_factory.reporting.search_dataset import search
from inr_factory.storage.manifest_file import load_manifest


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of three views without sizes of images, a run on it, and fits of digits."""
    folder = tmp_path_factory.mktemp("search")
    make_set(folder / "set", objects={"train": 14, "val": 5, "test": 6})
    train(folder / "set", out=folder / "run", epochs=1, **OPTIONS)
    fit_dataset(tiny(fit={"steps": 100, "floor_psnr": 0, "learning_rate": 5e-3}), folder / "digits", **LOCAL)
    return folder


def names(report: SearchReport) -> list[tuple[str, int]]:
    return [(one.object_id, one.view) for one in report.neighbours]


def test_other_views_of_the_object_are_left_out_unless_asked_for_and_the_query_always(root: Path) -> None:
    report = search(root / "run", root / "set", "test-2@1", k=99, device="cpu")
    assert (report.query, report.view, report.class_name, report.searched) == ("test-2", 1, "high", 15)
    assert len(names(report)) == 15
    assert "test-2" not in {name for name, _ in names(report)}
    views = search(root / "run", root / "set", "test-2@1", k=99, same_object=True, device="cpu")
    assert len(names(views)) == 17
    assert {name for name in names(views) if name[0] == "test-2"} == {("test-2", 0), ("test-2", 2)}


def test_neighbours_are_in_the_order_of_their_similarity_with_the_inrs_themselves(root: Path) -> None:
    data = INRDataset(root / "set", "test")
    report = search("weights", root / "set", "train-3", k=4, device="cpu")
    similarity = [one.similarity for one in report.neighbours]
    assert similarity == sorted(similarity, reverse=True)
    for one, inr in zip(report.neighbours, report.inrs, strict=True):
        (row,) = np.flatnonzero((data.object_ids == one.object_id) & (data.views == one.view))
        assert one.class_name == data.classes[data.labels[row]]
        assert torch.equal(inr.flatten(), data.gather([row])[0])


def test_an_inr_finds_itself(root: Path) -> None:
    data = INRDataset(root / "set", "test")
    inr = INRBatch.from_flat(data.spec, data.gather([7])[0])
    report = search("aligned", root / "set", inr, k=1, device="cpu")
    assert names(report) == [(data.object_ids[7], data.views[7])]
    assert report.neighbours[0].similarity == pytest.approx(1, abs=1e-4)


def test_an_image_file_is_fitted_as_the_set_was_and_finds_its_object(root: Path, tmp_path: Path) -> None:
    data = INRDataset(root / "digits", "train", views=1)
    inr = INRBatch.from_flat(data.spec, data.gather([0])[0])
    pixels = inr.images(8, 8)[0, ..., 0].numpy().clip(0, 1)
    picture = Image.fromarray((255 * pixels).astype(np.uint8)).resize((24, 24), Image.Resampling.NEAREST)
    picture.convert("RGB").save(tmp_path / "query.png")

    fitted = fit_image(tmp_path / "query.png", load_manifest(root / "digits"), (8, 8), "cpu")
    report = search("renders", root / "digits", str(tmp_path / "query.png"), k=1, split="train", device="cpu")

    assert psnr(fitted.images(8, 8)[0, ..., 0], pixels) > 12
    assert torch.equal(report.inr.flatten(), fitted.flatten())
    assert names(report)[0][0] == data.object_ids[0]
    assert report.class_name == ""


def test_a_set_without_its_recipe_fits_no_image(root: Path, tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "query.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match="does not say the height and width"):
        search("weights", root / "set", tmp_path / "query.png")
    with pytest.raises(UsageError, match="does not record how its INRs were fitted"):
        fit_image(tmp_path / "query.png", load_manifest(root / "set"), (8, 8))
    with pytest.raises(UsageError, match=r"broken.png: not recognised as an image"):
        search("weights", root / "digits", tmp_path / "broken.png")
    make_set(tmp_path / "shapes", spec=SirenSpec(3, 1, hidden_dim=4), objects={"test": 2})
    with pytest.raises(UsageError, match="can be compared with INRs of images"):
        fit_image(tmp_path / "query.png", load_manifest(tmp_path / "shapes"), (8, 8))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"query": "test-99"}, "no image file test-99, and .* has no INR of object 'test-99', view 0"),
    ({"query": "test-1@7"}, "has no INR of view 7"),
    ({"query": 3}, "a query is the name of an object, an image file or an INR, got 3"),
    ({"query": INRBatch.from_flat(SirenSpec(2, 1, hidden_dim=3), torch.zeros(1, 25))}, "a query is one INR"),
    ({"same_object": True}, "same_object is for a query"),
    ({"query": "test-1", "k": 0}, "k must be a whole number of at least 1"),
    ({"gallery": "tests"}, "tests"),
    ({"query": Path("test-1")}, "no image file test-1"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG)
def test_wrong_queries_are_refused_in_one_line(arguments: dict[str, Any], words: str, root: Path) -> None:
    with pytest.raises(UsageError, match=words):
        search("weights", root / "set", **arguments)


def test_scores_stand_beside_those_of_what_needs_no_training(root: Path) -> None:
    report = search(root / "run", root / "set", k=3, device="cpu")
    assert [row.name for row in report.rows] == ["random", "weights", "aligned", "renders", str(root / "run")]
    assert (report.queries, report.searched, report.examples) == (18, 18, ())
    for row in report.rows:
        assert row.by_class is not None and row.by_object is not None  # noqa: PT018
        assert 0 < row.by_class.map_all < 1
    words = [row.name for row in search("weights", root / "set", k=3, device="cpu").rows]
    assert words == ["random", "aligned", "renders", "weights"]


def test_another_gallery_has_no_views_of_the_queries_and_one_view_has_none_either(root: Path) -> None:
    report = search("weights", root / "set", gallery="train", views=2, device="cpu")
    assert (report.gallery, report.queries, report.searched) == ("train", 12, 28)
    assert all(row.by_object is None and row.by_class is not None for row in report.rows)
    single = search("weights", root / "set", views=1, device="cpu")
    assert all(row.by_object is None for row in single.rows)


def test_a_set_of_one_class_is_scored_by_its_views_alone(tmp_path: Path) -> None:
    make_set(tmp_path / "set", classes=("thing",), objects={"train": 3, "test": 4}, views=2)
    report = search("renders", tmp_path / "set", device="cpu")
    assert all(row.by_class is None and row.by_object is not None for row in report.rows)


def marks(page: Path) -> list[str]:
    """The marks of the neighbours on a page, "" where there is none, in order."""
    return re.findall(r'<li(?: class="(right|wrong)")?><figure><img src="data:image/png;base64,', page.read_text())


def test_the_page_shows_the_query_and_marks_what_is_of_its_class(root: Path, tmp_path: Path) -> None:
    data, page = INRDataset(root / "digits", "train", views=1), tmp_path / "deeper" / "page.html"
    report = search("renders", root / "digits", data.object_ids[0], split="train", k=8, page=page, device="cpu")
    right = [one.class_name == report.class_name for one in report.neighbours]
    assert {*right} == {True, False}, "this test shows nothing"
    assert marks(page) == ["right" if one else "wrong" for one in right]
    assert page.read_text().count("data:image/png") == 9
    assert "://" not in page.read_text(), "the page asks another machine for something"
    search("renders", root / "digits", report.inr, split="train", k=3, page=page, device="cpu")
    assert marks(page) == ["", "", ""]


def test_the_page_of_a_retrieval_has_its_scores_and_a_query_of_each_class(root: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    report = search(root / "run", root / "set", k=2, page=page, device="cpu")
    assert [one.class_name for one in report.examples] == ["low"] * 4 + ["mid"] * 3 + ["high"] * 3
    assert len(marks(page)) == 20
    assert all(row.features in page.read_text() for row in report.rows)


def test_surfaces_have_a_page_and_what_has_none_is_refused(root: Path, tmp_path: Path) -> None:
    make_set(tmp_path / "shapes", spec=SirenSpec(3, 1, hidden_dim=4), objects={"test": 3}, views=1)
    search("weights", tmp_path / "shapes", "test-0", k=2, page=tmp_path / "shapes.html", device="cpu")
    assert len(marks(tmp_path / "shapes.html")) == 2
    make_set(tmp_path / "sound", spec=SirenSpec(1, 1, hidden_dim=4), objects={"test": 3}, views=1)
    with pytest.raises(UsageError, match="a page shows images and surfaces, got INRs"):
        search("weights", tmp_path / "sound", "test-0", page=tmp_path / "sound.html", device="cpu")
    assert not (tmp_path / "sound.html").exists()


def test_names_of_strangers_are_harmless_on_the_page(tmp_path: Path) -> None:
    make_set(tmp_path / "set", classes=("<script>alert(1)</script>", "b"), objects={"test": 4}, views=1)
    search("weights", tmp_path / "set", "test-0", page=tmp_path / "page.html", device="cpu")
    assert "<script>" not in (tmp_path / "page.html").read_text()
    assert "&lt;script&gt;" in (tmp_path / "page.html").read_text()


def test_the_command_prints_what_python_returns(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = search(root / "run", root / "set", "test-0", k=2, device="cpu")
    call = ["search", root / "run", root / "set", "test-0", "--k", "2", "--device", "cpu"]
    code, out, _ = outcome(capsys, *call)
    assert code == 0
    assert "test-0, low, view 0: nearest of 15 INRs of test by 4 features by parity" in out
    assert [line.split()[0] for line in out.splitlines()[2:]] == [name for name, _ in names(report)]
    assert json.loads(outcome(capsys, *call, "--json")[1]) == {
        "run": str(root / "run"),
        "page": None,
        **report.to_fields(),
    }


def test_the_command_prints_scores_and_names_the_page(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = search("aligned", root / "set", k=3, device="cpu")
    assert isinstance(report, RetrievalReport)
    page = tmp_path / "page.html"
    code, out, _ = outcome(capsys, "search", "aligned", root / "set", "--k", "3", "--device", "cpu", "--page", page)
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["random", "weights", "renders", "aligned"]
    assert lines[-1] == f"page: {page}"
    scores = json.loads(outcome(capsys, "search", "aligned", root / "set", "--k", "3", "--device", "cpu", "--json")[1])
    assert scores == {"run": "aligned", "page": None, **json.loads(json.dumps(report.to_fields()))}
    code, line = failure(capsys, "search", "./aligned", root / "set", "--device", "cpu")
    assert (code, "no checkpoint" in line) == (2, True)
