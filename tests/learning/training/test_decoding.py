"""Decoding: features learn to render the INRs, alone or as a second loss of a classifier, and runs resume exactly."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_sets import SPEC, make_set

from inr_factory.errors import PartialError, UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.alignment.mixup import MixUp
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader
from inr_factory.learning.models.checkpoint import load_checkpoint, load_classifier, load_encoder
from inr_factory.learning.models.classifier import build_classifier
from inr_factory.learning.models.decoder import Decoder, Decoding, PictureDecoder, build_decoder, build_decoding
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.training.classification import ClassifierTrainer
from inr_factory.learning.training.decoding import DecodingTrainer, plane, reconstruct, reconstruction_psnr
from inr_factory.learning.training.pretrain_encoder import pretrain
from inr_factory.learning.training.run_config import BEST, LAST, PretrainConfig, TrainConfig
from inr_factory.learning.training.train_classifier import train
from inr_factory.learning.transforms.coordinate import Translate

QUICK: dict[str, Any] = {"epochs": 2, "warmup_steps": 2, "device": "cpu", "tensorboard": False}
CONFIG = PretrainConfig(objective="decode", **QUICK)
META = {"classes": ["low", "mid", "high"]}
OPTIONS: dict[str, Any] = {"model": "parity:hidden_dim=4", "batch_size": 4, "device": "cpu", "epochs": 2}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("decode") / "set"
    make_set(root, objects={"train": 14, "val": 5, "test": 6})
    return root


def in_order(root: Path, split: str) -> INRLoader:
    return INRLoader(INRDataset(root, split, views=1), 16, shuffle=False)


def decoding() -> Decoding:
    inrs = initialize(SPEC, range(20))
    model = build_decoding("parity", SPEC, Normalizer.fit(SPEC, [inrs]), hidden_dim=4, dropout=0.1)
    model.decoder.standardize(inrs)
    return model


def go(model: Decoding, root: Path, out: Path, config: PretrainConfig = CONFIG, **more: Any) -> Any:
    transform, loader = more.pop("transform", Translate()), INRLoader(INRDataset(root), 4)
    known, validation = in_order(root, "train"), in_order(root, "val")
    return DecodingTrainer(model, loader, known, validation, transform, config, out, META).fit(**more)


def stop_after(steps: int) -> Callable[[], bool]:
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= steps


def seen_by_the_decoder(monkeypatch: pytest.MonkeyPatch) -> list[tuple[INRBatch, torch.Tensor]]:
    """The INRs and points of every step from now on."""
    calls: list[tuple[INRBatch, torch.Tensor]] = []
    original = Decoder.errors

    def recorded(self: Decoder, features: torch.Tensor, inrs: INRBatch, coords: torch.Tensor) -> Any:
        if features.requires_grad:
            calls.append((inrs, coords))
        return original(self, features, inrs, coords)

    monkeypatch.setattr(Decoder, "errors", recorded)
    return calls


def test_an_encoder_learns_to_render_what_it_reads(small: Path, tmp_path: Path) -> None:
    model = decoding()
    before = reconstruction_psnr(model, model.decoder, in_order(small, "train"))
    config = CONFIG.model_copy(update={"epochs": 12, "learning_rate": 1e-2})

    result = go(model, small, tmp_path, config, transform=None)

    assert reconstruction_psnr(model, model.decoder, in_order(small, "train")) > before + 0.5
    losses = [record["train_loss"] for record in result.history]
    assert losses[-1] < 0.95 * losses[0]
    assert all("val_psnr" in record and "val_accuracy" in record for record in result.history)
    saved = load_encoder(tmp_path / LAST)
    assert all(map(torch.equal, saved.state_dict().values(), model.state_dict().values()))


@pytest.mark.parametrize("steps", [2, 9])
def test_a_stopped_run_resumes_as_if_it_had_never_stopped(steps: int, small: Path, tmp_path: Path) -> None:
    whole, resumed = decoding(), decoding()
    expected = go(whole, small, tmp_path / "whole").history

    with pytest.raises(PartialError):
        go(decoding(), small, tmp_path / "parts", stop=stop_after(steps))
    torch.manual_seed(99)
    result = go(resumed, small, tmp_path / "parts").history

    assert all(map(torch.equal, whole.state_dict().values(), resumed.state_dict().values()))
    assert [{**r, "seconds": 0} for r in result] == [{**r, "seconds": 0} for r in expected]


def test_a_warped_inr_renders_its_own_target(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = seen_by_the_decoder(monkeypatch)
    warped: list[INRBatch] = []

    def warp(inrs: INRBatch, generator: torch.Generator) -> INRBatch:
        warped.append(Translate()(inrs, generator))
        return warped[-1]

    go(decoding(), small, tmp_path, transform=warp)

    assert len(calls) == len(warped) > 4
    for (inrs, _), expected in zip(calls, warped, strict=True):
        assert torch.equal(inrs.flatten(), expected.flatten())
    assert not torch.equal(calls[0][1], calls[1][1]), "every step has points of its own"


def test_a_mixture_renders_its_own_target(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = seen_by_the_decoder(monkeypatch)
    mixtures: list[INRBatch] = []

    def mix(inrs: INRBatch, targets: torch.Tensor, generator: torch.Generator) -> Any:
        mixed = MixUp()(inrs, targets, generator)
        mixtures.append(mixed[0])
        return mixed

    train(small, mixup=mix, decode=1.0, out=tmp_path, augment="translate", **OPTIONS)

    assert len(calls) == len(mixtures) > 4
    assert all(torch.equal(inrs.flatten(), mixed.flatten()) for (inrs, _), mixed in zip(calls, mixtures, strict=True))


def classify(root: Path, out: Path, config: TrainConfig, **more: Any) -> Any:
    model = build_classifier("parity", SPEC, 3, seed=5, hidden_dim=4, dropout=0.1)
    decoder = build_decoder(SPEC, model.encoder.features, initialize(SPEC, range(20)))
    data = INRDataset(root)
    examples = INRLoader(data, 16, shuffle=False)
    trainer = ClassifierTrainer(
        model, INRLoader(data, 4), in_order(root, "val"), config, out, META, examples, decoder=decoder
    )
    return trainer, trainer.fit(**more)


@pytest.mark.parametrize(
    "options", [{}, {"ema": 0.9}, {"perturb": "wat", "ema": 0.9}, {"perturb": "wat:evaluate=shadow"},
                {"perturb": "damp:parts=2"}, {"perturb": "asam"}, {"reweigh": "mr"}], ids=str,
)  # fmt: skip
def test_a_classifier_that_also_decodes_resumes_as_if_it_had_never_stopped(
    options: dict[str, Any], small: Path, tmp_path: Path
) -> None:
    config = TrainConfig(decode=0.5, **QUICK, **options)
    whole, expected = classify(small, tmp_path / "whole", config)

    with pytest.raises(PartialError):
        classify(small, tmp_path / "parts", config, stop=stop_after(12))
    torch.manual_seed(99)
    resumed, result = classify(small, tmp_path / "parts", config)

    for part in ("model", "decoder"):
        states = [getattr(trainer, part).state_dict().values() for trainer in (whole, resumed)]
        assert all(map(torch.equal, *states)), part
    assert [{**r, "seconds": 0} for r in result.history] == [{**r, "seconds": 0} for r in expected.history]
    assert result.history[0]["val_psnr"] != result.history[1]["val_psnr"]
    start = build_decoder(SPEC, whole.model.encoder.features, initialize(SPEC, range(20)))
    assert not torch.equal(start.first.weight, whole.decoder.first.weight), "the decoder learned nothing"


def test_an_encoder_that_draws_learns_to_show_what_the_inrs_show(small: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "model": "parity:hidden_dim=4,grid=4", "epochs": 20, "learning_rate": 1e-2}

    run = train(small, out=tmp_path / "whole", decode=10.0, **options)

    first, *_, last = (record["val_psnr"] for record in run.history)
    assert last > first + 0.5
    model = load_classifier(run.checkpoint)
    assert model.encoder.picture is not None
    decoder = PictureDecoder(model.encoder.picture)
    assert reconstruction_psnr(model, decoder, in_order(small, "val")) == pytest.approx(run.best["val_psnr"], abs=0.01)
    shown = reconstruct(model.eval(), in_order(small, "val"))
    assert shown is not None
    assert shown.labels.tolist() == sorted(shown.labels.tolist())
    assert shown.rendered.shape == shown.decoded.shape == (5, 4, 4, 1)
    error = float((shown.decoded - shown.rendered).square().mean())
    assert -10 * math.log10(error) == pytest.approx(run.best["val_psnr"], abs=0.01)


def test_the_decoder_moves_the_encoder_and_is_no_part_of_the_classifier(small: Path, tmp_path: Path) -> None:
    runs = [train(small, out=tmp_path / str(decode), decode=decode, **OPTIONS) for decode in (None, 2.0)]

    plain, decoded = (load_classifier(run.checkpoint).state_dict() for run in runs)

    assert plain.keys() == decoded.keys()
    assert not torch.equal(plain["encoder.last.0.weight"], decoded["encoder.last.0.weight"])
    assert [("val_psnr" in run.best) for run in runs] == [False, True]
    assert runs[1].evaluate(small).count == len(runs[1].predict(small, views=1)) == 6
    assert not load_checkpoint(runs[0].folder / LAST)["own"]
    with pytest.raises(UsageError, match=r"another decode \(2.0 there, 1.0 here\)"):
        train(small, out=runs[1].folder, decode=1.0, **OPTIONS)


def test_a_frozen_encoder_has_nothing_to_decode_for(small: Path, tmp_path: Path) -> None:
    start = train(small, out=tmp_path / "start", **OPTIONS)
    with pytest.raises(UsageError, match="--freeze keeps an encoder as it is, --decode trains it"):
        train(small, out=tmp_path / "probe", init=start, freeze=True, decode=1.0, **OPTIONS)
    with pytest.raises(UsageError, match="--decode"):
        train(small, out=tmp_path / "negative", decode=-1.0, **OPTIONS)


def test_pretraining_by_decoding_needs_one_view_and_is_what_training_starts_from(small: Path, tmp_path: Path) -> None:
    report = pretrain(small, objective="decode", views=1, out=tmp_path / "pre", **OPTIONS)

    assert report.psnr is not None
    assert report.pretrained.keys() == report.untrained.keys() == {"neighbours", "linear"}
    assert report.reconstructions is not None
    assert report.reconstructions.rendered.shape == report.reconstructions.decoded.shape == (6, 64, 64, 1)
    assert report.reconstructions.labels.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(UsageError, match="no classifier yet"):
        load_classifier(tmp_path / "pre" / BEST)
    tuned = train(small, init=tmp_path / "pre", out=tmp_path / "tuned", **OPTIONS)
    assert tuned.meta["init"]
    with pytest.raises(UsageError, match="a run of another kind than contrastive"):
        pretrain(small, out=tmp_path / "pre", **OPTIONS)
    with pytest.raises(UsageError, match="--objective must be contrast or decode, got 'render'"):
        pretrain(small, objective="render", out=tmp_path / "other", **OPTIONS)


def test_shapes_are_decoded_and_shown_as_a_slice(tmp_path: Path) -> None:
    spec = SirenSpec(3, 1, hidden_dim=4, num_hidden=2, omega_0=9.0)
    make_set(tmp_path / "set", spec, objects={"train": 8, "val": 5})

    report = pretrain(tmp_path / "set", objective="decode", out=tmp_path / "run", **OPTIONS)

    assert report.reconstructions is not None
    shown = report.reconstructions.rendered
    assert (float(shown.min()), float(shown.max())) == (0, pytest.approx(1))
    coords = plane(spec)
    assert bool((coords[:, 2] == 0).all())
    assert coords[0].tolist() == [-1, 1, 0], "y points up"
    model = load_encoder(tmp_path / "run" / BEST)
    assert isinstance(model, Decoding)
    few = reconstruct(model, in_order(tmp_path / "set", "val"), 2)
    assert few is not None
    assert few.labels.tolist() == [0, 1]
