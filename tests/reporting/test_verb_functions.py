"""The functions behind status, show, compare, export, import and benchmark: str paths are accepted, errors are one line."""

import pytest
from support.small_sets import make_set

from inr_factory.benchmarks.run_benchmark import benchmark
from inr_factory.errors import UsageError
from inr_factory.interop.export import export_dataset
from inr_factory.interop.import_dataset import import_dataset
from inr_factory.interop.import_options import parse_classes, parse_dims, parse_size
from inr_factory.reporting.comparison import compare_datasets
from inr_factory.reporting.dataset_status import dataset_status
from inr_factory.reporting.show_dataset import show_dataset


@pytest.fixture
def root(tmp_path):
    make_set(tmp_path / "set", views=2)
    return str(tmp_path / "set")


def test_status_summarizes_each_view_of_each_split_and_names_missing_shards(root, tmp_path):
    report = dataset_status(root)
    assert report.missing == ()
    assert sum(part.inrs for part in report.parts) == report.manifest.rows
    assert [(part.view, part.split) for part in report.parts][:2] == [(0, "train"), (0, "val")]

    lost = report.manifest.shards[0]
    (tmp_path / "set" / lost.path).unlink()

    after = dataset_status(root)
    assert after.missing == (lost.path,)
    assert after.parts[0].shards == report.parts[0].shards - 1 < after.parts[0].expected_shards


def test_nothing_is_printed(root, tmp_path, capsys):
    compare_datasets(root, "dwsnets_mnist", out=str(tmp_path / "c.png"))
    export_dataset(root, "nfn", str(tmp_path / "out"))
    import_dataset(str(tmp_path / "out"), "nfn", str(tmp_path / "back"))
    assert (tmp_path / "c.png").is_file()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda root: show_dataset(root, count=0), "--count must be from 1 to 60"),
        (lambda root: show_dataset(root, split="tran"), "unknown split 'tran'; did you mean 'train'"),
        (lambda root: export_dataset(root, "nfm", "out"), "unknown format 'nfm'; did you mean 'nfn'"),
        (lambda root: import_dataset(root, "nfn", "out", shard_objects=0), "--shard-objects must be from 1"),
        (lambda root: import_dataset(root, "nfn", "out", spec=(2, 1)), "one or more hidden layers"),
        (lambda root: benchmark("lode"), "did you mean 'load'"),
        (lambda root: benchmark("load", rows=3, batch_size=4), "--rows must be at least the 4"),
        (lambda root: show_dataset(root, "out.txt"), "pictures are PNG files, got out.txt"),
        (lambda root: compare_datasets(root, root, out="out.pdf"), "pictures are PNG files, got out.pdf"),
        (lambda root: benchmark("load", picture="out"), "pictures are PNG files, got out; give a name"),
        (lambda root: dataset_status(3), "named by its folder or URL, got int"),
    ],
)
def test_a_wrong_argument_is_one_line(call, words, root):
    with pytest.raises(UsageError, match=words) as caught:
        call(root)
    assert "\n" not in str(caught.value)


def test_options_are_text_or_values():
    assert parse_dims("2-8x2-1") == parse_dims((2, 8, 8, 1)) == (2, 8, 8, 1)
    assert parse_classes("a, b") == parse_classes(["a", "b"]) == ("a", "b")
    assert parse_classes("7") == parse_classes(7) == 7
    assert parse_size("28x32") == parse_size((28, 32)) == (28, 32)


def test_a_set_that_does_not_say_the_size_of_its_images_is_not_shown(tmp_path):
    make_set(tmp_path / "set")

    with pytest.raises(UsageError, match="does not say the height and width of its images"):
        show_dataset(tmp_path / "set", tmp_path / "out.png")
