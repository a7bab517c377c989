"""Image collections by name: digits, and what all sources of images share."""

import pickle
from pathlib import Path

import numpy as np
import torch
from support.images import digits, folder, official, picture_of, tree

from inr_factory.generation.recipe import ImageSource
from inr_factory.generation.sources.image_collections import default_data_root, open_source


def test_digits_are_scikit_learns_scans_divided_by_16():
    from sklearn.datasets import load_digits

    source, scans = digits(), load_digits()

    assert len(source.items) == 1797
    assert source.classes == tuple("0123456789")
    assert (source.items[12].object_id, source.items[12].split) == ("00012", None)
    assert [item.label for item in source.items] == scans.target.tolist()
    assert (source.in_dim, source.out_dim, source.licence) == (2, 1, "CC BY 4.0")
    assert source.version.startswith("scikit-learn ")
    for number in (0, 12, 1796):
        assert np.array_equal(picture_of(source.signal(number))[:, :, 0], scans.images[number] / 16)


def test_grey_collections_repeat_their_channel_when_asked_for_rgb():
    grey, rgb = digits().signal(3), digits(mode="rgb").signal(3)

    assert torch.equal(rgb.targets, grey.targets.expand(-1, 3))


def test_sources_survive_pickling(tiny, tmp_path):
    pictures = tree(tmp_path / "pictures", "cat/1.png")
    for source in (official(*tiny), folder(pictures), digits()):
        again = pickle.loads(pickle.dumps(source))
        assert again.items == source.items
        assert again.fingerprint == source.fingerprint
        assert torch.equal(again.signal(0).targets, source.signal(0).targets)


def test_the_data_root_is_the_variables_or_data_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path, "data/cat/1.png", "other/dog/1.png"))
    monkeypatch.delenv("INR_FACTORY_DATA", raising=False)
    assert default_data_root() == Path("data")
    assert open_source(ImageSource(collection="image_folder"), None).classes == ("cat",)

    monkeypatch.setenv("INR_FACTORY_DATA", str(tmp_path / "other"))
    assert open_source(ImageSource(collection="image_folder"), None).classes == ("dog",)


def test_a_source_opened_by_a_relative_root_outlives_a_change_of_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path, "pictures/cat/1.png"))
    source = folder(Path("pictures"))
    monkeypatch.chdir("/")

    assert source.signal(0).facts.items() >= {"height": 4, "width": 6}.items()
