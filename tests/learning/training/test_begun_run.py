"""Begun runs: a command need not repeat what the run in its folder, or the one that it starts from, has."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_runs import rewrite
from support.small_sets import make_set

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.alignment.mixup import MixUp, parse_mixup
from inr_factory.learning.models.checkpoint import load_checkpoint, saved_encoder
from inr_factory.learning.training.begun_run import choose_match
from inr_factory.learning.training.pretrain_encoder import pretrain
from inr_factory.learning.training.run_config import LAST, RunConfig
from inr_factory.learning.training.train_classifier import train

SMALL: dict[str, Any] = {"epochs": 2, "batch_size": 4, "learning_rate": 2e-3, "schedule": "constant", "device": "cpu"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("begun") / "small"
    make_set(root, objects={"train": 14, "val": 5, "test": 6})
    return root


def begun_before(folder: Path, rules: int = 3) -> None:
    """Make a run one of the time before these rules."""
    rewrite(folder / LAST, lambda saved: saved["config"].update(rules=rules - 1))


def settings(folder: Path) -> tuple[Any, ...]:
    saved = load_checkpoint(folder / LAST)
    config = saved["config"]
    return saved["classifier"]["encoder"], config["epochs"], saved["meta"]["batch_size"], config["schedule"]


def test_a_new_run_takes_parity_and_its_schedule_and_says_so_in_one_line(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    notes: list[str] = []
    started: list[RunConfig] = []

    run = train(dataset, epochs=2, device="cpu", log=notes.append, on_start=started.append)

    assert run.folder == Path("runs/small-parity-0")
    assert settings(run.folder) == ("parity", 2, 42, "cosine")
    assert started[0].learning_rate == 5e-3
    (line,) = [note for note in notes if note.startswith("parity, ")]
    assert "; 2 epochs of 1 steps, batch 42, learning rate 0.005, cosine; run in runs/small-parity-0" in line


def test_a_run_that_began_under_the_former_defaults_is_resumed_by_the_command_of_then(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    former = Path("runs/small-dws-0")
    train(dataset, model="dws", **{**SMALL, "epochs": 1})
    begun_before(former)
    notes: list[str] = []

    run = train(dataset, epochs=2, device="cpu", log=notes.append)

    assert run.folder == former
    assert len(run.history) == 2
    assert settings(former) == ("dws", 2, 4, "constant")
    assert any("former default model" in note and "--model parity" in note for note in notes)
    assert train(dataset, model="parity", epochs=1, device="cpu").folder == Path("runs/small-parity-0")
    assert train(dataset, epochs=1, device="cpu").folder == Path("runs/small-parity-0"), (
        "the folder of today goes first"
    )


def test_a_run_of_another_model_that_began_under_todays_defaults_does_not_keep_the_default_from_beginning(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(dataset, model="dws", **{**SMALL, "epochs": 1})

    assert train(dataset, epochs=1, device="cpu").folder == Path("runs/small-parity-0")


def test_what_is_not_given_is_that_of_the_run_in_the_folder_and_what_is_given_counts(
    dataset: Path, tmp_path: Path
) -> None:
    model = "mlp:hidden_dim=8"
    train(dataset, model=model, out=tmp_path, **{**SMALL, "epochs": 1})
    begun_before(tmp_path)
    before = (tmp_path / LAST).read_bytes()

    assert len(train(dataset, out=tmp_path, device="cpu").history) == 1
    assert (tmp_path / LAST).read_bytes() == before, "a complete run was not left alone"
    assert len(train(dataset, model=model, out=tmp_path, epochs=2, device="cpu").history) == 2
    for given in ({"batch_size": 5}, {"learning_rate": 1e-3}, {"schedule": "cosine"}, {"model": "parity"}):
        with pytest.raises(UsageError, match="another"):
            train(dataset, out=tmp_path, device="cpu", **given)


def test_a_new_run_aligns_what_it_mixes_and_takes_more_epochs(dataset: Path, tmp_path: Path) -> None:
    started: list[RunConfig] = []
    for mixup in (None, "mixup"):
        options = {"model": "mlp:hidden_dim=8", "mixup": mixup, "early_stopping": 1, "device": "cpu"}
        run = train(dataset, out=tmp_path / str(mixup), on_start=started.append, **options)

    assert run.meta["mixup"] == "mixup:alpha=1.0,match=phase,probability=1.0,same_class=false"
    assert [config.epochs for config in started] == [100, 300]


def test_a_run_that_began_when_mixup_meant_no_match_resumes_so_and_refuses_another(
    dataset: Path, tmp_path: Path
) -> None:
    """The same command must neither align from some epoch on nor train for another number of epochs."""
    options = {"model": "mlp:hidden_dim=8", "out": tmp_path, **SMALL}
    train(dataset, mixup="mixup:match=none", **{**options, "epochs": 1})
    begun_before(tmp_path, rules=4)

    for mixup in ("mixup:match=phase", "mixup:alpha=0.5"):
        with pytest.raises(UsageError, match="another mixup"):
            train(dataset, mixup=mixup, **options)
    assert len(train(dataset, mixup="mixup", **options).history) == 2
    assert load_checkpoint(tmp_path / LAST)["meta"]["mixup"].startswith("mixup:alpha=1.0,match=none,")


def test_mixing_of_former_rules_aligns_until_nothing_improves() -> None:
    """Yesterday's runs mix the same INRs when they resume; new ones take the first pass alone."""
    spec = SirenSpec(2, 1, hidden_dim=16, num_hidden=3)
    for text in ("mixup:match=phase", "mixup:match=signed"):
        former, present = (choose_match(parse_mixup(text), spec, rules) for rules in (3, 4))
        assert isinstance(former, MixUp)
        assert isinstance(present, MixUp)
        assert (former.max_sweeps, present.max_sweeps) == (50, 0)
        assert str(former) == str(present)
        inrs, targets = initialize(spec, range(12)), torch.eye(12)
        mixed = [mixing(inrs, targets, torch.Generator().manual_seed(0))[0] for mixing in (former, present)]
        assert not torch.equal(mixed[0].flatten(), mixed[1].flatten())


def test_a_run_under_former_rules_has_the_mixing_and_the_epochs_of_then(dataset: Path, tmp_path: Path) -> None:
    """What a sweep that began with an earlier version asks for."""
    started: list[RunConfig] = []
    options = {"model": "mlp:hidden_dim=8", "mixup": "mixup", "early_stopping": 1, "device": "cpu"}
    run = train(dataset, out=tmp_path, rules=3, on_start=started.append, **options)

    assert run.meta["mixup"].startswith("mixup:alpha=1.0,match=none,")
    assert (started[0].epochs, started[0].rules) == (100, 3)


def test_a_command_without_a_model_takes_the_encoder_of_its_start_with_all_options(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"epochs": 1, "batch_size": 4, "device": "cpu"}
    begun = pretrain(dataset, model="dws:hidden_dim=4,set_layer=deepsets", **options).train.out

    run = train(dataset, init=begun, epochs=1, device="cpu")

    assert run.folder == Path("runs/small-dws-0")
    saved = load_checkpoint(run.checkpoint)
    assert saved["classifier"]["options"] == load_checkpoint(begun / LAST)["contrastive"]["options"]
    assert len(train(dataset, init=begun, epochs=2, device="cpu").history) == 2
    with pytest.raises(UsageError, match="another encoder"):
        train(dataset, model="parity", init=begun, epochs=1, device="cpu")


def test_a_description_that_is_not_of_the_saved_weights_is_damage_and_takes_no_memory(
    dataset: Path, tmp_path: Path
) -> None:
    train(dataset, model="mlp:hidden_dim=8", out=tmp_path, **{**SMALL, "epochs": 1})
    state = torch.random.get_rng_state()
    assert saved_encoder(tmp_path / LAST)[0] == "mlp"
    assert torch.equal(torch.random.get_rng_state(), state)

    rewrite(tmp_path / LAST, lambda saved: saved["classifier"]["options"].update(hidden_dim=1_000))
    with pytest.raises(IntegrityError, match="more than the"):
        train(dataset, out=tmp_path, device="cpu")
    rewrite(tmp_path / LAST, lambda saved: saved["classifier"].update(options=None))
    with pytest.raises(IntegrityError, match="is damaged"):
        train(dataset, out=tmp_path, device="cpu")


def test_a_run_on_another_set_is_refused_as_such(dataset: Path, tmp_path: Path) -> None:
    train(dataset, out=tmp_path / "run", **SMALL)
    make_set(tmp_path / "other", objects={"train": 12, "val": 5, "test": 6}, classes=("a", "b", "c", "d"))
    with pytest.raises(UsageError, match="holds a run on another data set; give this one another folder"):
        train(tmp_path / "other", out=tmp_path / "run", **SMALL)
