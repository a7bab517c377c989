import time

import numpy as np
import pytest
import torch
from support.fitter_threads import FitterThreads
from support.small_sets import make_set
from support.tiny_recipes import LOCAL, tiny

from inr_factory.cli.main import run as run_command
from inr_factory.errors import FactoryError, UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.maintenance.verify import verify_dataset
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader
from inr_factory.learning.training.train_classifier import train
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.streaming import fresh_dataset
from inr_factory.streaming.stream import stream

RUN = {"model": "parity:hidden_dim=4", "batch_size": 4, "schedule": "constant", "device": "cpu", "epochs": 3}
SPLITS = {"limit": {"train": 16, "val": 5, "test": 3}}


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    monkeypatch.setattr(fresh_dataset, "Fitters", FitterThreads)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A set with one view of its 16 training objects, in blocks of 7, and one with four."""
    folder = tmp_path_factory.mktemp("stored")
    for views in (1, 4):
        fit_dataset(tiny(views=views, **SPLITS), folder / str(views), **LOCAL)
    return folder


def weights(data):
    return data.gather(np.arange(len(data)))[0]


def views_of(data, of_all, epochs):
    """What the rows of each epoch are, as views of the set with all of them."""
    found = []
    for epoch in range(epochs):
        data.begin_epoch(epoch)
        rows = weights(data)
        found.append([int(torch.nonzero((one == row).all(1))) for one, row in zip(of_all, rows, strict=True)])
    return found


@pytest.fixture(scope="module")
def of_all(stored):
    """(objects, views, D), the objects in the order of their names."""
    parts = []
    for view in range(4):
        data = INRDataset(stored / "4", "train", views=[view])
        parts.append(weights(data)[torch.from_numpy(np.argsort(data.object_ids))])
    return torch.stack(parts, 1)


def test_each_epoch_shows_the_next_view_as_fit_makes_it(stored, of_all):
    with stream(stored / "1", reuse=1, fitters=2) as data:
        assert len(data) == 16
        assert views_of(data, of_all, 4) == [[view] * 16 for view in range(4)]
        assert (
            data.labels.tolist()
            == INRDataset(stored / "1").labels[np.argsort(INRDataset(stored / "1").object_ids)].tolist()
        )


def test_with_reuse_blocks_take_turns_and_shown_views_are_given_up(stored, of_all):
    with stream(stored / "1", reuse=3, fitters=1) as data:
        for epoch, rows in enumerate(views_of(data, of_all, 6)):
            view_of = {block: view for view, block in data.schedule.shown(epoch)}
            assert rows == [view_of[block] for block in data.blocks.tolist()]
        assert len(set(rows)) > 1
        data.begin_epoch(30)
        data.begin_epoch(31)  # what was being made meanwhile is given up, too
        assert min(view for _, (view, _) in data._pool.fresh_shards()) > 5


def test_a_loader_gives_the_same_batches_after_a_resume(stored):
    def batches(loader):
        return [(inrs.flatten(), targets) for inrs, targets in loader]

    with stream(stored / "1", reuse=1, fitters=1) as data:
        loader = INRLoader(data, 4)
        whole = [batches(loader) for _ in range(3)]
    with stream(stored / "1", reuse=1, fitters=2) as data:
        loader = INRLoader(data, 4)
        loader.load_state_dict({"epoch": 2, "position": 1})
        for (inrs, targets), (others, same) in zip(batches(loader), whole[2][1:], strict=True):
            assert torch.equal(inrs, others)
            assert torch.equal(targets, same)
    assert not torch.equal(whole[0][0][0], whole[1][0][0])


def test_training_never_waits_for_auto_and_shows_what_has_come(stored, tmp_path, monkeypatch):
    monkeypatch.setattr(fresh_dataset.FreshDataset, "_look", lambda *_: pytest.fail("it waited for fits"))
    shards = tmp_path / "run" / "fresh" / "data"

    def wait_for_a_shard(_):
        while not any(shards.iterdir()):
            time.sleep(0.01)

    run = train(stream(stored / "1", fitters=1), out=tmp_path / "run", on_epoch=wait_for_a_shard, **RUN)
    assert run.history[0]["fresh"] == 0
    assert sum(record["fresh"] for record in run.history) > 0
    assert not (tmp_path / "run" / "fresh").exists()
    assert run.meta["train"]["fresh"] == {"reuse": "auto", "stored": 1}


def test_an_interrupted_run_ends_as_a_whole_one(stored, tmp_path):
    def trained(out, fitters, stop=None):
        seen = []

        def on_epoch(record):
            seen.append(record)
            if len(seen) == stop:
                raise KeyboardInterrupt

        return train(stream(stored / "1", reuse=2, fitters=fitters), out=out, on_epoch=on_epoch, **RUN | {"epochs": 5})

    whole = trained(tmp_path / "whole", 1)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts", 2, stop=2)
    assert (tmp_path / "parts" / "fresh").is_dir()
    resumed = trained(tmp_path / "parts", 2)
    states = [run.model("cpu").state_dict() for run in (whole, resumed)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    for name in ("train_loss", "fresh"):
        assert [record[name] for record in whole.history] == [record[name] for record in resumed.history]


def test_what_is_kept_is_a_set_that_fit_completes(stored, tmp_path):
    keep = tmp_path / "kept"
    with stream(stored / "1", reuse=1, fitters=2, keep=keep) as data:
        for epoch in range(4):
            data.begin_epoch(epoch)
    manifest = load_manifest(keep)
    assert manifest.views >= 4
    assert all((keep / entry.path).is_file() for entry in manifest.shards)
    fit_dataset(keep, backend="local", workers=1, views=4)
    for view in range(4):
        one, other = (INRDataset(root, "val", views=[view]) for root in (keep, stored / "4"))
        assert torch.equal(weights(one), weights(other))
    assert not verify_dataset(stored / "1").faults


def test_failed_fits_show_a_stored_view_and_are_counted(stored, tmp_path):
    out = tmp_path / "set"
    fit_dataset(tiny(views=1, **SPLITS), out, **LOCAL)
    with stream(out, reuse=1, fitters=1) as data:
        data.begin_epoch(0)
        before = weights(data)
        data.begin_epoch(1)
        objects = np.flatnonzero(data.blocks == 0)
        data._opened[1, 0][1][2] = -1  # as if the fit of this object had failed
        missing = objects[2]
        data._show(data._pool, data.schedule, 1)
        assert data.figures()["replaced"] == 1
        changed = (weights(data) != before).any(1)
        assert not changed[missing]
        assert changed.sum() == len(data) - 1


def test_a_fitter_that_fails_ends_training_with_its_line(stored, tmp_path, monkeypatch):
    def fail(*_):
        raise FactoryError("the source has gone")

    monkeypatch.setattr("inr_factory.generation.execution.worker.Worker.make", fail)
    with pytest.raises(FactoryError, match="fresh views cannot be fitted: the source has gone"):
        train(stream(stored / "1", reuse=1, fitters=1), out=tmp_path / "run", **RUN)


def test_a_second_rank_follows_the_first(stored, of_all, tmp_path):
    first, second = (stream(stored / "1", reuse=1, fitters=1) for _ in range(2))
    with first, second:
        first.prepare(tmp_path, True)
        second.prepare(tmp_path, False)
        for epoch in range(3):
            first.begin_epoch(epoch)
            second.begin_epoch(epoch)
            assert torch.equal(weights(first), weights(second))
        assert second._fitters is None


def test_signals_are_changed_for_each_view_as_the_recipe_says(tmp_path):
    source = {"collection": "digits", "augment": ["crop:padding=1"]}
    for views in (1, 2):
        fit_dataset(tiny(views=views, source=source, **SPLITS), tmp_path / str(views), **LOCAL)
    changed = INRDataset(tmp_path / "2", "train", views=[1])
    assert any(changed.changes["shift_x"])
    with stream(tmp_path / "1", reuse=1, fitters=1) as data:
        data.begin_epoch(1)
        order = torch.from_numpy(np.argsort(changed.object_ids))
        assert torch.equal(weights(data), weights(changed)[order])


def test_a_recipe_is_fitted_first(tmp_path):
    with stream(tiny(views=1, **SPLITS), reuse=1, fitters=1, out=tmp_path / "set") as data:
        data.begin_epoch(1)
        assert (tmp_path / "set" / "manifest.json").is_file()
        assert data.figures()["fresh"] == 16


def test_only_some_stored_views_can_be_used(stored, of_all):
    with stream(stored / "4", reuse=1, fitters=1, views=2) as data:
        assert views_of(data, of_all, 1) == [[1] * 16]  # view 3 of 4 is not among them
        assert data.schedule.stored == 4


@pytest.mark.parametrize(("epochs", "line"), [(1, "the run showed no fresh INR"), (3, "fresh INRs: 32")])
def test_the_command_line_says_how_many_fresh_inrs_a_run_showed(stored, tmp_path, capsys, epochs, line):
    options = ["--model=parity:hidden_dim=4", "--batch-size=4", f"--epochs={epochs}", "--device=cpu", "--fitters=1"]
    assert run_command(["train", str(stored / "1"), "--fresh=1", *options, "--out", str(tmp_path / "run")]) == 0
    assert line in capsys.readouterr().err


def test_wrong_settings_are_refused(stored, tmp_path):
    for reuse in (0, -1, 1.5, True, "often"):
        with pytest.raises(UsageError, match="reuse must be auto or a whole number"):
            stream(stored / "1", reuse=reuse)
    with pytest.raises(UsageError, match="fitters must be a whole number"):
        stream(stored / "1", fitters=0)
    with pytest.raises(UsageError, match="the set itself"):
        stream(stored / "1", keep=stored / "1")
    with pytest.raises(UsageError, match="another one for each view"):
        stream(stored / "1", target="psnr")
    with pytest.raises(UsageError):
        stream(tmp_path / "nothing")
    make_set(tmp_path / "made")
    with pytest.raises(UsageError):
        stream(tmp_path / "made")
