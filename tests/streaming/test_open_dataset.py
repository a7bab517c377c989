"""Open: a set by its name is fitted once, into the cache; a folder of that name goes first."""

import inspect
import os
from pathlib import Path

import pytest
from support.small_sets import make_set

import inr_factory as inr
from inr_factory.cli.main import run
from inr_factory.generation.execution import fit_dataset as fitting
from inr_factory.generation.recipe import load_recipe


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache and an empty working directory."""
    monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "cache"


@pytest.fixture
def quick(monkeypatch):
    """Fits of the recipe take 12 objects and two steps; how many fits there were."""
    settings = ["limit=12", "spec.hidden_dim=4", "fit.steps=2", "fit.floor_psnr=0", "shard_objects=6"]
    calls = []

    def fit(recipe, out, **options):
        calls.append(options)
        return whole(load_recipe(recipe, settings), out, **options)

    whole = fitting.fit_dataset
    monkeypatch.setattr(fitting, "fit_dataset", fit)
    return calls


def test_a_set_by_name_is_fitted_once_and_listed_in_the_cache(cache, quick):
    data = inr.open("digits", "test")
    again = inr.open("digits", split="test")

    assert len(quick) == 1
    assert (data.manifest.name, data.manifest.views) == ("digits", 2)
    assert again.fingerprint == data.fingerprint
    assert os.listdir() == []
    (entry,) = inr.cache().entries
    assert entry.what == "data set"
    assert entry.name.startswith("digits-")
    assert inr.cache(entry.name, prune=True).removed
    assert len(inr.open("digits", "test")) == len(data)
    assert len(quick) == 2


def test_a_set_that_is_not_complete_is_completed(cache, quick):
    data = inr.open("digits")
    lost = data.root / data.manifest.shards[0].path
    lost.unlink()
    assert inr.open("digits").fingerprint == data.fingerprint
    assert lost.exists()


def test_a_folder_of_the_name_goes_first(cache, quick):
    make_set(Path("digits"))
    assert inr.open("digits").manifest.name == "small"
    assert quick == []


@pytest.mark.parametrize("name", ["digit", "fashion_mnist", "./digits"])
def test_other_names_are_folders(cache, quick, name):
    with pytest.raises(inr.UsageError, match="no data set in"):
        inr.open(name)
    assert quick == []
    assert not cache.exists()


def test_it_takes_what_the_data_set_takes():
    taken, wanted = (inspect.signature(each).parameters for each in (inr.open, inr.INRDataset.__init__))
    assert list(taken.values()) == list(wanted.values())[1:]


def test_the_command_line_says_how_a_recipe_becomes_a_set(cache, capsys):
    assert run(["train", "digits"]) == 2
    assert "no data set in digits, which is a recipe; inr-factory fit digits makes its set" in capsys.readouterr().err
    make_set(Path("inrs/digits"))
    assert run(["status", "digits"]) == 2
    assert f"its set is {Path('inrs/digits')}" in capsys.readouterr().err
    make_set(Path("digits"))
    assert run(["status", "digits"]) == 0
