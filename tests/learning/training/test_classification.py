"""Training: it learns, it goes on exactly where it stopped, and it says what is wrong."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from inr_factory.errors import FactoryError, IntegrityError, PartialError, ResourceError, UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.checkpoint import load_checkpoint, load_classifier
from inr_factory.learning.models.classifier import Classifier, build_classifier
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.training.classification import ClassifierTrainer, evaluate_model
from inr_factory.learning.training.example_reweighting import losses_of
from inr_factory.learning.training.metrics import confusion_matrix
from inr_factory.learning.training.run_config import BEST, LAST, METRICS, PretrainConfig, TrainConfig, TrainReport

SPEC = SirenSpec(2, 1, hidden_dim=8, num_hidden=2, omega_0=7.0)
CONFIG = TrainConfig(epochs=3, warmup_steps=4, device="cpu", tensorboard=False)
META = {"classes": ["low", "mid", "high"], "dataset": {"name": "toy"}}


def toy(count: int, first_seed: int = 0) -> tuple[INRBatch, Tensor]:
    """INRs of three classes that differ in the mean of one layer's weights, and their targets (count, 3)."""
    inrs = initialize(SPEC, range(first_seed, first_seed + count))
    labels = torch.arange(count) % 3
    middle = inrs.weights[1] + 0.15 * (labels - 1)[:, None, None]
    return replace(inrs, weights=(inrs.weights[0], middle, inrs.weights[2])), torch.eye(3)[labels]


class ToyLoader:
    """Shuffled batches, each a function of epoch and position; `state_dict` is ahead, as if it read in advance."""

    def __init__(self, inrs: INRBatch, targets: Tensor, batch_size: int = 8) -> None:
        self.inrs, self.targets, self.batch_size = inrs, targets, batch_size
        self.epoch, self.position = 0, 0
        self.change: Callable[[int, int, INRBatch, Tensor], tuple[INRBatch, Tensor]] = lambda e, p, inrs, targets: (
            inrs,
            targets,
        )

    def __len__(self) -> int:
        return len(self.inrs) // self.batch_size

    def rows(self, epoch: int, position: int = 0) -> Iterator[NDArray[np.int64]]:
        order = torch.randperm(len(self.inrs), generator=torch.Generator().manual_seed(epoch))
        return (order[at * self.batch_size :][: self.batch_size].numpy() for at in range(position, len(self)))

    def __iter__(self) -> Iterator[tuple[INRBatch, Tensor]]:
        for position, rows in enumerate(self.rows(self.epoch, self.position), self.position):
            self.position = min(position + 3, len(self))
            yield self.change(self.epoch, position, self.inrs.select(rows), self.targets[rows])
        self.position = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position, "batch_size": self.batch_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state["batch_size"] == self.batch_size
        self.epoch, self.position = state["epoch"], state["position"]


def loader() -> ToyLoader:
    return ToyLoader(*toy(48))


def validation() -> list[tuple[INRBatch, Tensor]]:
    return [toy(30, 1000), toy(10, 2000)]


def model(name: str = "dws", **options: Any) -> Classifier:
    normalizer = Normalizer.fit(SPEC, [toy(48)[0]])
    return build_classifier(name, SPEC, 3, normalizer, hidden_dim=8, **{"dropout": 0.2, **options})


def train(
    model: Classifier,
    loader: ToyLoader,
    validation: list[tuple[INRBatch, Tensor]],
    config: TrainConfig,
    out: Path,
    meta: dict[str, Any],
    on_epoch: Any = None,
    stop: Callable[[], bool] | None = None,
    examples: Any = None,
) -> TrainReport:
    return ClassifierTrainer(model, loader, validation, config, out, meta, examples).fit(on_epoch, stop)


def lines(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def stop_after(steps: int) -> Callable[[], bool]:
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= steps


@pytest.mark.parametrize(
    ("name", "options"), [("mlp", {}), ("dws", {"num_heads": 2}), ("dws", {"set_layer": "deepsets"})]
)
def test_a_classifier_learns_a_toy_problem(name: str, options: dict, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 8, "learning_rate": 1e-2})

    result = train(model(name, dropout=0.0, **options), loader(), validation(), config, tmp_path, META)

    assert result.best["val_accuracy"] > 0.75
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


RESUMED = [{}, {"ema": 0.9, "bf16": True}, {"perturb": "damp:parts=2", "reweigh": "mr:eta=1"},
           {"perturb": "wat:evaluate=shadow"}, {"optimizer": "muon", "perturb": "wat"}]  # fmt: skip


@pytest.mark.parametrize(("steps", "options"), list(zip([7, 12, 7, 2, 7], RESUMED, strict=True)), ids=str)
def test_a_stopped_run_resumes_as_if_it_had_never_stopped(steps: int, options: dict, tmp_path: Path) -> None:
    """After 2, 7 or 12 of 18 steps: in the first epoch, within and at the end of a later one."""
    whole, config = model("mlp"), TrainConfig.model_validate(CONFIG.model_dump() | options)
    examples = [toy(48)]
    train(whole, loader(), validation(), config, tmp_path / "whole", META, examples=examples)

    with pytest.raises(PartialError, match="run the same command again"):
        train(model("mlp"), loader(), validation(), config, tmp_path / "parts", META, None, stop_after(steps), examples)
    resumed = model("mlp")
    torch.manual_seed(99)  # what the process did meanwhile must not matter
    result = train(resumed, loader(), validation(), config, tmp_path / "parts", META, examples=examples)

    for (name, expected), got in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(got, expected), name
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    assert [record["epoch"] for record in result.history] == [0, 1, 2]
    assert not torch.equal(model("mlp").head.weight, resumed.head.weight), "nothing was learned"


@pytest.mark.parametrize("save_steps", [None, 4])
def test_a_run_that_crashed_goes_on_from_what_was_saved(save_steps: int | None, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"save_steps": save_steps})
    whole = model()
    train(whole, loader(), validation(), CONFIG, tmp_path / "whole", META)
    crashing = loader()

    def crash(epoch: int, position: int, inrs: INRBatch, targets: Tensor) -> tuple[INRBatch, Tensor]:
        if (epoch, position) == (1, 4):  # the eleventh step: step 8 or the six of epoch 0 are saved
            raise KeyboardInterrupt
        return inrs, targets

    crashing.change = crash
    with pytest.raises(KeyboardInterrupt):
        train(model(), crashing, validation(), config, tmp_path / "parts", META)
    assert load_checkpoint(tmp_path / "parts" / LAST)["progress"]["step"] == (8 if save_steps else 6)
    (tmp_path / "parts" / METRICS).write_text("half a li")
    resumed = model()
    train(resumed, loader(), validation(), config, tmp_path / "parts", META)

    for expected, got in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(got, expected)
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")


def test_a_finished_run_is_not_trained_again_but_can_be_made_longer(tmp_path: Path) -> None:
    first = train(model(), loader(), validation(), CONFIG, tmp_path, META)
    before, observed = (tmp_path / LAST).read_bytes(), lines(tmp_path)
    (tmp_path / METRICS).unlink()

    again = train(model(), loader(), validation(), CONFIG, tmp_path, META)
    assert again.history == first.history
    assert lines(tmp_path) == observed
    assert (tmp_path / LAST).read_bytes() == before

    longer = train(model(), loader(), validation(), CONFIG.model_copy(update={"epochs": 4}), tmp_path, META)
    assert longer.history[:3] == first.history
    assert len(longer.history) == 4


def test_the_best_checkpoint_is_that_of_the_best_epoch(tmp_path: Path) -> None:
    def worse_later(epoch: int, position: int, inrs: INRBatch, targets: Tensor) -> tuple[INRBatch, Tensor]:
        return inrs, targets if epoch < 4 else targets.roll(1, dims=1)

    spoiled = loader()
    spoiled.change = worse_later
    config = CONFIG.model_copy(update={"epochs": 8, "learning_rate": 1e-2})
    trained = model("mlp", dropout=0.0)

    result = train(trained, spoiled, validation(), config, tmp_path, META)

    best = load_classifier(tmp_path / BEST)
    assert not best.training
    assert result.best["epoch"] < 7
    assert result.best["val_accuracy"] == max(record["val_accuracy"] for record in result.history)
    assert evaluate_model(best, validation()).accuracy == result.best["val_accuracy"]
    assert evaluate_model(trained, validation()).accuracy == result.history[-1]["val_accuracy"]
    assert result.history[-1]["val_accuracy"] < result.best["val_accuracy"]


def test_a_checkpoint_rebuilds_the_model_with_its_normalizer(tmp_path: Path) -> None:
    trained = model()
    train(trained, loader(), validation(), CONFIG, tmp_path, META)
    inrs, _ = toy(5)

    again = load_classifier(tmp_path / LAST)

    assert torch.equal(again(inrs), trained.eval()(inrs))
    assert again.normalizer.weight_std.tolist() == trained.normalizer.weight_std.tolist() != [1.0, 1.0, 1.0]
    assert load_checkpoint(tmp_path / BEST)["meta"] == META
    assert TrainConfig.model_validate(load_checkpoint(tmp_path / BEST)["config"]) == CONFIG
    with pytest.raises(UsageError, match=r"omega_0 7\.0, got omega_0 30\.0"):
        again(replace(inrs, spec=replace(SPEC, omega_0=30.0)))


def test_a_folder_takes_no_other_run(tmp_path: Path) -> None:
    train(model(), loader(), validation(), CONFIG, tmp_path, META)
    before = (tmp_path / LAST).read_bytes()
    wide = replace(SPEC, hidden_dim=9)
    others: list[tuple[Classifier, TrainConfig, dict[str, Any], str]] = [
        (
            build_classifier("dws", wide, 3, hidden_dim=8, dropout=0.2),
            CONFIG,
            META,
            r"spec.hidden_dim \(8 there, 9 here",
        ),
        (model("mlp"), CONFIG, META, r"encoder \(dws there, mlp here"),
        (model(num_heads=2), CONFIG, META, r"options.num_heads \(1 there, 2 here"),
        (model(), CONFIG.model_copy(update={"learning_rate": 0.5}), META, r"learning_rate \(0.001 there, 0.5 here"),
        (model(), CONFIG, {**META, "dataset": {"name": "other"}}, r"dataset.name \(toy there, other here"),
    ]
    for other, config, meta, message in others:
        with pytest.raises(UsageError, match=message):
            train(other, loader(), validation(), config, tmp_path, meta)
    assert (tmp_path / LAST).read_bytes() == before


def test_early_stopping_waits_for_its_patience(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 30, "early_stopping": 2, "learning_rate": 1e-12})
    records: list[Any] = []

    result = train(model(dropout=0.0, batch_norm=False), loader(), validation(), config, tmp_path, META, records.append)

    assert result.stopped_early
    assert len(result.history) == int(result.best["epoch"]) + 1 + 2 < 30
    assert records == list(result.history)


def test_the_rate_warms_up_and_falls_as_its_schedule_says() -> None:
    constant = TrainConfig(learning_rate=2.0, warmup_steps=4)
    cosine = TrainConfig(learning_rate=2.0, warmup_steps=4, schedule="cosine")

    assert [constant.rate(step, 100) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    falling = [cosine.rate(step, 100) for step in range(101)]
    assert falling[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert falling[4:] == sorted(falling[4:], reverse=True)
    assert falling[52] == pytest.approx(1.0)
    assert falling[100] == pytest.approx(0.0)
    assert TrainConfig(learning_rate=2.0, warmup_steps=0).rate(0, 10) == 2.0


@pytest.mark.parametrize("kind", [TrainConfig, PretrainConfig])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("num_steps", [1, 5, 50, 400, 5000])
def test_the_warm_up_takes_at_most_a_tenth_of_the_steps(kind: Any, schedule: Any, num_steps: int) -> None:
    """Faults, section 5: a run that was shorter than its warm-up never reached its rate."""
    config = kind(learning_rate=2.0, schedule=schedule)
    rates = [config.rate(step, num_steps) for step in range(num_steps)]

    assert max(rates) == 2.0
    assert rates.index(2.0) <= min(100, num_steps // 10)
    assert config.model_copy(update={"rules": 1}).rate(0, num_steps) == 0.02, "runs of before keep their warm-up"


def test_every_setting_of_the_steps_changes_the_weights(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 1})
    changes: list[dict[str, Any]] = [
        {},
        {"learning_rate": 2e-3},
        {"weight_decay": 0.1},
        {"optimizer": "adam"},
        {"optimizer": "muon"},
        {"rules": 1},
        {"schedule": "cosine"},
        {"gradient_clip": 0.1},
        {"label_smoothing": 0.1},
    ]
    ends = []
    for run, change in enumerate(changes):
        trained = model("mlp", dropout=0.0)
        train(trained, loader(), validation(), config.model_copy(update=change), tmp_path / str(run), META)
        ends.append(torch.cat([parameter.detach().flatten() for parameter in trained.parameters()]))
    for change, end in zip(changes[1:], ends[1:], strict=True):
        assert not torch.equal(end, ends[0]), change


def test_the_average_of_the_weights_is_what_is_judged_and_kept(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"ema": 0.9, "epochs": 1})
    trained = model()
    weights = []
    steps = len(loader())

    def note() -> bool:
        weights.append(trained.head.weight.detach().clone())
        return False

    train(trained, loader(), validation(), config, tmp_path, META, stop=note)

    best = load_classifier(tmp_path / BEST)
    average = weights[0]
    for later in [*weights[1:steps], trained.head.weight.detach()][: steps - 1]:
        average = 0.9 * average + 0.1 * later
    torch.testing.assert_close(best.head.weight.detach(), average, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(best.head.weight, trained.head.weight, atol=1e-6)


def test_the_average_holds_the_scales_of_wat_too(tmp_path: Path) -> None:
    """Faults, section 5: shadow weights were made of averaged weights and of scales that were not averaged."""
    config = CONFIG.model_copy(update={"ema": 0.5, "epochs": 1, "perturb": "wat:evaluate=shadow,sigma=0"})
    trained, seen = model(), []
    trainer = ClassifierTrainer(trained, loader(), validation(), config, tmp_path, META)
    trainer.fit(stop=lambda: bool(seen.append([p.detach().clone() for p in trainer.extra_parameters])))

    average = torch.stack(seen[0])
    for later in [*seen[1:], trainer.extra_parameters][: len(loader()) - 1]:
        average = 0.5 * average + 0.5 * torch.stack([p.detach() for p in later])
    scales = torch.stack([p.detach() for p in trainer.eval_extra_parameters])
    torch.testing.assert_close(scales, average)
    assert not torch.equal(scales, torch.stack([p.detach() for p in trainer.extra_parameters]))


def test_a_compiled_encoder_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(type(self).__name__))

    train(model(), loader(), validation(), CONFIG.model_copy(update={"compile": True, "epochs": 1}), tmp_path, META)

    assert compiled == ["DWSEncoder"]


def test_unknown_and_impossible_settings_are_refused() -> None:
    for settings in ({"epoch": 3}, {"epochs": 0}, {"learning_rate": float("nan")}, {"schedule": "linear"}):
        with pytest.raises(ValidationError):
            TrainConfig.model_validate(settings)


@pytest.mark.parametrize("factor", [1e30, 3e38])
def test_divergence_is_told_in_one_line_and_the_last_good_state_is_kept(factor: float, tmp_path: Path) -> None:
    def explode(epoch: int, position: int, inrs: INRBatch, targets: Tensor) -> tuple[INRBatch, Tensor]:
        spread = factor if (epoch, position) == (1, 2) else 1.0
        return INRBatch.from_flat(SPEC, (spread * inrs.flatten()).clamp(-3e38, 3e38)), targets

    exploding = loader()
    exploding.change = explode
    with pytest.raises(FactoryError, match="training diverged in epoch 1, step 8: loss") as caught:
        train(model(batch_norm=False), exploding, validation(), CONFIG, tmp_path, META)

    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, UsageError)
    assert load_checkpoint(tmp_path / LAST)["progress"]["epoch"] == 1
    assert all(bool(p.isfinite().all()) for p in load_classifier(tmp_path / LAST).parameters())
    assert len(lines(tmp_path)) == 1


def test_a_validation_loss_that_is_not_finite_is_divergence_too(tmp_path: Path) -> None:
    inrs, targets = toy(8)
    huge = INRBatch.from_flat(SPEC, (1e38 * inrs.flatten()).clamp(-3e38, 3e38))

    with pytest.raises(FactoryError, match="training diverged in epoch 0, step 6: validation loss"):
        train(model(batch_norm=False), loader(), [(huge, targets)], CONFIG, tmp_path, META)
    assert not (tmp_path / LAST).exists()


def test_a_gradient_that_is_not_finite_reaches_no_weight(tmp_path: Path) -> None:
    trained = model()
    trained.head.weight.register_hook(lambda gradient: gradient.fill_(torch.inf))

    with pytest.raises(FactoryError, match="gradient norm inf; nothing was saved yet"):
        train(trained, loader(), validation(), CONFIG, tmp_path, META)
    assert all(bool(parameter.isfinite().all()) for parameter in trained.parameters())


def broken_weights(inrs: INRBatch, targets: Tensor) -> tuple[INRBatch, Tensor]:
    flat = inrs.flatten()
    flat[1, 5], flat[3, 0] = torch.nan, torch.inf
    return INRBatch.from_flat(SPEC, flat), targets


BROKEN: list[tuple[Callable[[INRBatch, Tensor], tuple[INRBatch, Tensor]], str]] = [
    (broken_weights, "2 of 8 INRs of a batch have NaN or infinite weights"),
    (lambda inrs, targets: (inrs, targets.argmax(1)), r"must be \(8, 3\) floats, got \(8,\) torch.int64"),
    (lambda inrs, targets: (inrs, torch.eye(5)[:3].repeat(3, 1)[:8]), r"must be \(8, 3\) floats, got \(8, 5\)"),
    (
        lambda inrs, targets: (inrs, targets * (torch.arange(8) != 2)[:, None]),
        r"sum to 0\.\.1; is a label outside 0\.\.2",
    ),
    (lambda inrs, targets: (inrs, 2 * targets - 1 / 3), "shares of 3 classes"),
    (lambda inrs, targets: (inrs, targets * torch.nan), "shares of 3 classes"),
]


@pytest.mark.parametrize(("spoil", "message"), BROKEN)
def test_broken_batches_are_refused_in_one_line(spoil: Any, message: str, tmp_path: Path) -> None:
    broken = loader()
    broken.change = lambda epoch, position, inrs, targets: spoil(inrs, targets)

    for attempt in (
        lambda: train(model(), broken, validation(), CONFIG, tmp_path, META),
        lambda: evaluate_model(model(), broken),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_one_class_and_no_batches_are_refused(tmp_path: Path) -> None:
    inrs, targets = toy(48)
    one_class = targets[1:2].expand(48, 3)
    with pytest.raises(UsageError, match="every training target is of class 1"):
        train(model(), ToyLoader(inrs, one_class), validation(), CONFIG, tmp_path, META)
    assert not (tmp_path / LAST).exists()
    with pytest.raises(UsageError, match="no training batch"):
        train(model(), ToyLoader(inrs, targets, batch_size=64), validation(), CONFIG, tmp_path, META)
    with pytest.raises(UsageError, match="nothing to evaluate"):
        train(model(), loader(), [], CONFIG, tmp_path, META)
    with pytest.raises(UsageError, match="device must be auto"):
        train(model(), loader(), validation(), CONFIG.model_copy(update={"device": "tpux"}), tmp_path, META)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="torch sees no GPU"):
        train(model(), loader(), validation(), CONFIG.model_copy(update={"device": "cuda"}), tmp_path, META)


def test_files_that_are_no_whole_checkpoint_are_refused(tmp_path: Path) -> None:
    train(model(), loader(), validation(), CONFIG, tmp_path, META)
    content = (tmp_path / LAST).read_bytes()
    saved = load_checkpoint(tmp_path / LAST)

    with pytest.raises(UsageError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    with pytest.raises(
        UsageError, match=rf"is a folder, expected the file of a checkpoint; name {tmp_path / 'best.pt'}"
    ):
        load_classifier(tmp_path)
    for broken in (content[: len(content) // 2], b"", b"not a pickle"):
        (tmp_path / "broken.pt").write_bytes(broken)
        with pytest.raises(IntegrityError, match=r"damaged or is not a checkpoint.*; train again into another folder"):
            load_checkpoint(tmp_path / "broken.pt")
    torch.save({"state": 1}, tmp_path / "foreign.pt")
    with pytest.raises(IntegrityError, match="not a checkpoint of inr-factory"):
        load_checkpoint(tmp_path / "foreign.pt")
    torch.save(saved | {"version": 99}, tmp_path / "newer.pt")
    with pytest.raises(UsageError, match="version 99, this program reads 1"):
        load_checkpoint(tmp_path / "newer.pt")
    torch.save(saved | {"model": {}}, tmp_path / "empty.pt")
    with pytest.raises(IntegrityError, match="is damaged"):
        load_classifier(tmp_path / "empty.pt")


class Trap:
    """Code that a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("the trap ran",))


def test_a_strangers_checkpoint_runs_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"kind": "inr-factory checkpoint", "trap": Trap()}, tmp_path / "trap.pt")

    with pytest.raises(IntegrityError):
        load_checkpoint(tmp_path / "trap.pt")
    assert "trap" not in capsys.readouterr().out


def test_evaluation_counts_right_and_leaves_the_model_as_it_was() -> None:
    classifier = model().train()
    inrs, targets = toy(12)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}

    figures = evaluate_model(
        classifier, [(inrs.select(slice(0, 7)), targets[:7]), (inrs.select(slice(7, 12)), targets[7:])]
    )

    assert classifier.training
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    predicted = classifier.eval()(inrs).argmax(1)
    right = predicted == targets.argmax(1)
    assert figures.count == 12
    assert figures.accuracy == pytest.approx(float(right.float().mean()))
    assert figures.per_class_accuracy == pytest.approx([float(right[c::3].float().mean()) for c in range(3)])
    assert torch.tensor(figures.confusion).sum(0).tolist() == torch.bincount(predicted, minlength=3).tolist()
    assert evaluate_model(classifier, [toy(1)]).per_class_accuracy[1:] == [None, None]
    json.dumps(figures.metrics())


def test_the_confusion_matrix_has_true_classes_as_rows() -> None:
    counts = confusion_matrix(torch.tensor([0, 2, 2, 1]), torch.tensor([0, 1, 1, 2]), 3)

    assert counts.tolist() == [[1, 0, 0], [0, 0, 2], [0, 1, 0]]


def test_training_draws_from_its_own_seed_and_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    ends = []
    for run, seed in enumerate((0, 0, 1)):
        torch.manual_seed(run)
        state = torch.get_rng_state()
        trained = model()
        train(trained, loader(), validation(), CONFIG.model_copy(update={"seed": seed}), tmp_path / str(run), META)
        assert torch.equal(torch.get_rng_state(), state)
        ends.append(trained.head.weight)
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2]), "dropout does not depend on the seed"


def test_tensorboard_gets_every_epoch_once(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = CONFIG.model_copy(update={"tensorboard": True})
    with pytest.raises(PartialError):
        train(model(), loader(), validation(), config, tmp_path, META, stop=stop_after(8))
    result = train(model(), loader(), validation(), config, tmp_path, META)

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    drawn = [(event.step, event.value) for event in events.Scalars("val_accuracy")]
    assert drawn == [(r["epoch"], pytest.approx(r["val_accuracy"])) for r in result.history]


def test_examples_count_by_their_losses_after_each_epoch(tmp_path: Path) -> None:
    def run(name: str, epochs: int, reweigh: str | None) -> Classifier:
        trained = model()
        config = CONFIG.model_copy(update={"epochs": epochs, "reweigh": reweigh})
        train(trained, loader(), validation(), config, tmp_path / name, META, examples=[toy(48)])
        return trained

    one, two = run("one", 1, None), run("two", 2, None)
    weighed, level = run("weighed", 2, "mr:eta=3"), run("level", 2, "mr:eta=0")

    first = losses_of(one, [toy(48)], one.device)
    observed = load_checkpoint(tmp_path / "weighed" / LAST)["example_losses"]
    torch.testing.assert_close(
        observed - losses_of(weighed, [toy(48)], one.device), first.double(), atol=1e-6, rtol=1e-6
    )
    torch.testing.assert_close(level.head.weight, two.head.weight, atol=1e-5, rtol=0)
    assert not torch.allclose(weighed.head.weight, two.head.weight, atol=1e-4)
    with pytest.raises(UsageError, match="pass them to the trainer"):
        train(model(), loader(), validation(), CONFIG.model_copy(update={"reweigh": "mr"}), tmp_path / "else", META)


def test_shadow_weights_are_what_is_judged_and_kept(tmp_path: Path) -> None:
    whole = model()
    config = CONFIG.model_copy(update={"perturb": "wat:evaluate=shadow"})

    train(whole, loader(), validation(), config, tmp_path, META)

    kept, last = load_checkpoint(tmp_path / BEST)["model"], load_checkpoint(tmp_path / LAST)
    matrices = [name for name, value in kept.items() if name.startswith("head") and value.dim() > 1]
    assert all(not torch.equal(kept[name], last["model"][name]) for name in matrices)
    assert any(float((scale - 1).abs()) > 1e-4 for scale in last["own"]), "the scales were not learned"
