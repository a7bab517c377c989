"""Learned starts: few steps suffice, engines agree, and objects of val and test are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import inr_factory as inr
from inr_factory.cli.main import run
from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.learned_start import learn_start, take_steps
from inr_factory.generation.recipe import load_recipe
from inr_factory.generation.signals import Signal
from inr_factory.generation.start_file import encode_starts
from inr_factory.inr.batch_files import write_batch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey, median_psnr

SMALL = ["spec.hidden_dim=8", "limit=200"]
STEPS = ["fit.steps=4", "fit.target_psnr=null", "fit.floor_psnr=-99"]
LOCAL: dict[str, Any] = {"backend": "local", "workers": 1, "views": 1}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("learned") / "start.npz"
    learn_start("digits", path, steps=4, iterations=80, batch_size=8, settings=SMALL, device="cpu")
    return path


def test_few_steps_from_a_learned_start_reach_what_many_plain_ones_do_not(start: Path, tmp_path: Path) -> None:
    learned = inr.fit_dataset("digits", tmp_path / "a", settings=[*SMALL, *STEPS, f"fit.starts={start}"], **LOCAL)
    plain = inr.fit_dataset("digits", tmp_path / "b", settings=[*SMALL, *STEPS], **LOCAL)

    a, b = (median_psnr(report.manifest.shards) for report in (learned, plain))
    assert a is not None
    assert b is not None
    assert a > b + 3


@pytest.mark.parametrize("activation", ["sine", "relu"])
def test_every_engine_makes_the_steps_that_were_learned_and_goes_on_by_adam(activation: str) -> None:
    spec = SirenSpec(2, 2, hidden_dim=5, activation=activation, start="siren" if activation == "sine" else "linear")  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    coords, targets = pixel_grid(4, 4), torch.rand(3, 16, 2, generator=generator)
    weights = initialize(spec, [0]).flatten()[0]
    rates = 0.05 * torch.rand(3, spec.num_parameters, generator=generator)
    base = load_recipe("digits", ["fit.target_psnr=null", "fit.floor_psnr=-99"]).fit
    starts = {
        "starts": "file",
        "start_inrs": encode_starts(weights[None].numpy()),
        "start_rates": encode_starts(rates.numpy()),
    }
    signals = [Signal(coords, one) for one in targets]
    keys = [ViewKey(str(row), 0) for row in range(3)]

    def ended(engine: str, steps: int) -> torch.Tensor:
        config = base.model_copy(update={**starts, "engine": engine, "steps": steps})
        return fit_views(spec, keys, signals, config, 0).flat

    expected = take_steps(spec, weights, rates, coords.expand(3, -1, -1), targets).detach()
    engines = ["auto", "reference"] if activation == "sine" else ["auto"]
    for engine in engines:
        torch.testing.assert_close(ended(engine, 3), expected, atol=1e-5, rtol=1e-4)
        assert 1e-5 < float((ended(engine, 5) - expected).abs().max()) < 0.2
    torch.testing.assert_close(ended("auto", 5), ended("reference", 5), atol=1e-4, rtol=1e-3)
    with pytest.raises(UsageError, match="rates of a learned start are not built into it"):
        ended("batched", 3)


def test_a_start_is_not_for_sets_that_measure_on_what_it_was_learned_on(start: Path, tmp_path: Path) -> None:
    others = [*STEPS, "spec.hidden_dim=8", "splits.test=0.6", f"fit.starts={start}"]
    with pytest.raises(UsageError, match=r"was learned on \d+ objects of (val|test), such as .*learn-start"):
        inr.fit_dataset("digits", tmp_path / "set", settings=others, **LOCAL)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "must be at least 1, got 0"),
        ({"batch_size": 1000}, "at least 1000 training objects"),
        ({"settings": ["limit=5"]}, "at least 16 training objects"),
        ({"out": "missing/start.npz"}, "is no folder"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"out": "start.npz", "iterations": 1, "device": "cpu", "settings": SMALL, **options}
    with pytest.raises(UsageError, match=message):
        learn_start("digits", tmp_path / arguments.pop("out"), **arguments)


def test_a_file_with_other_rates_is_damaged(tmp_path: Path) -> None:
    spec = load_recipe("digits", SMALL).spec.spec(2, 1)
    rates = np.ones((2, 3), dtype=np.float32)
    write_batch(tmp_path / "bad.npz", spec, initialize(spec, [0]).flatten().numpy(), rates=rates)
    with pytest.raises(IntegrityError, match=r"has rates float32 \(2, 3\), expected"):
        load_recipe("digits", [*SMALL, f"fit.starts={tmp_path / 'bad.npz'}"])


def test_the_verb_says_how_good_a_start_is_and_how_it_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for setting in SMALL for word in ("--set", setting)]
    out = tmp_path / "start.npz"
    assert run(["learn-start", "digits", *words, "--steps", "2", "--iterations", "3", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "training objects; others reach a median of" in said.out
    assert f"--set fit.starts={out} --set fit.steps=2" in said.err
    assert len(inr.INRBatch.load(out)) == 1
    before = out.read_bytes()
    assert run(["learn-start", "digits", *words, "--steps", "2", "--iterations", "3", "--out", str(out)]) == 2
    assert "is there already; choose another --out" in capsys.readouterr().err
    assert out.read_bytes() == before
