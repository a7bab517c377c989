"""Dataset source: a set finds its source where it was fitted from, and looking at it downloads nothing."""

import socket

import pytest
from support.images import put, tree

from inr_factory.errors import UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.maintenance.dataset_source import open_dataset_source
from inr_factory.generation.maintenance.merge import merge_datasets
from inr_factory.generation.maintenance.verify import verify_dataset
from inr_factory.generation.recipe import ImageSource
from inr_factory.generation.sources.registry import open_source
from inr_factory.storage.locations import RemoteLocation
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.source_place import SOURCE_PLACE, remember_source, remembered_source

QUICK = ["source.collection=image_folder", "fit.steps=1", "fit.floor_psnr=-999", "splits.val=0", "splits.test=0"]
QUICK += ["fit.attempts=1", "spec.hidden_dim=4"]
HERE = {"views": 1, "backend": "local", "workers": 1, "settings": QUICK}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A set whose source is where no default says."""
    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "pictures", "a/0.png", "b/1.png")
    fit_dataset("digits", tmp_path / "set", data_root="pictures", **HERE)
    return tmp_path / "set"


def test_verify_and_a_further_fit_need_no_data_root(made):
    assert verify_dataset(made, render=True).rendered.inrs == 2
    assert fit_dataset("digits", made, **HERE | {"views": 2}).made == 1


def test_a_set_that_moved_keeps_its_source_and_a_merged_one_has_no_record(made, tmp_path):
    moved = made.rename(tmp_path / "moved")
    merge_datasets([moved], tmp_path / "merged")
    assert verify_dataset(moved, render=True).rendered.inrs == 2
    assert remembered_source(tmp_path / "merged") is None


def test_a_source_that_moved_is_asked_for_and_remembered_again(made, tmp_path):
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="give --data-root"):
        verify_dataset(made, render=True)
    fit_dataset("digits", made, data_root=tmp_path / "elsewhere", **HERE | {"views": 2})
    assert remembered_source(made) == tmp_path / "elsewhere"


def test_a_source_in_a_store_is_not_copied_by_looking(made):
    remember_source(made, RemoteLocation("memory://bucket/pictures"))
    source, obstacle = open_dataset_source(load_manifest(made), made, None)
    assert source is None
    assert (
        obstacle
        == "the source is in memory://bucket/pictures; --data-root memory://bucket/pictures copies it to this machine"
    )


def test_collections_without_files_leave_no_record(tmp_path):
    fit_dataset("digits", tmp_path / "set", backend="local", workers=1, limit=2, settings=QUICK[1:])
    assert not (tmp_path / "set" / SOURCE_PLACE).exists()


def test_looking_downloads_no_official_set_and_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("it looked for a server"))
    put(tmp_path / "other", b"")
    with pytest.raises(
        UsageError, match=r"Fashion-MNIST: no .*inr-factory fit downloads it, or put .*-ubyte.gz"
    ) as error:
        open_source(ImageSource(collection="fashion_mnist"), tmp_path, download=False)
    assert "\n" not in str(error.value)
    assert capsys.readouterr().err == ""


def test_an_imported_set_without_a_source_says_so_and_no_key_of_a_recipe(made):
    imported = load_manifest(made).model_copy(update={"recipe": {}})
    source, obstacle = open_dataset_source(imported, made, None)
    assert source is None
    assert obstacle is not None
    assert obstacle.startswith(f"{made} does not say which collection its objects are from")
