"""Fetching a set: folders stay where they are, remote sets are copied, the Hub's short form is understood."""

from pathlib import Path

import fsspec
import pytest
from support.small_sets import make_set

from inr_factory.errors import UsageError
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.storage.fetch_dataset import dataset_location, fetch_dataset


def test_a_folder_is_its_own_location(tmp_path):
    for folder in (tmp_path, str(tmp_path), f"file://{tmp_path}"):
        assert dataset_location(folder) == fetch_dataset(folder) == tmp_path


def test_a_remote_set_is_copied(tmp_path, monkeypatch):
    monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "cache"))
    make_set(tmp_path / "small")
    fsspec.filesystem("memory").put(str(tmp_path / "small"), "/fetched", recursive=True)

    folder = fetch_dataset("memory://fetched")

    assert folder.is_relative_to(tmp_path / "cache")
    assert INRDataset(folder).fingerprint == INRDataset(tmp_path / "small").fingerprint
    assert INRDataset("memory://fetched", "val").fingerprint == INRDataset(tmp_path / "small", "val").fingerprint


@pytest.mark.parametrize("short", ["hf://owner/name", "hf://datasets/owner/name"])
def test_the_short_form_of_the_hub_names_a_data_set(short):
    pytest.importorskip("huggingface_hub")

    assert str(dataset_location(short)) == "hf://datasets/owner/name"


@pytest.mark.parametrize("wrong", [None, 3, [Path()], b"inrs", object()])
def test_what_is_no_location_is_refused_in_one_line(wrong):
    with pytest.raises(UsageError, match=r"^a data set is named by its folder or URL, got \w+$"):
        dataset_location(wrong)
