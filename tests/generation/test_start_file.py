"""Starts from a file: what fits start from, what a set keeps of it, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.small_sets import SPEC

import inr_factory as inr
from inr_factory.cli.main import run
from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.fitting.initial_values import seed_of, start_values
from inr_factory.generation.recipe import Recipe, load_recipe
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.interop.state_dicts import state_dicts
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.storage.manifest import ViewKey
from inr_factory.storage.manifest_file import load_manifest

TINY = ["spec.hidden_dim=6", "spec.omega_0=7", "limit=20", "fit.steps=3", "fit.target_psnr=null", "fit.floor_psnr=-99",
        "shard_objects=8"]  # fmt: skip
IMAGES = np.random.default_rng(0).random((3, 5, 5)).astype(np.float32)
QUICK: dict[str, Any] = {"hidden_dim": SPEC.hidden_dim, "num_hidden": SPEC.num_hidden, "omega_0": SPEC.omega_0,
                         "steps": 2, "target_psnr": None, "floor_psnr": -99.0}  # fmt: skip


@pytest.fixture
def starts(tmp_path: Path) -> Path:
    recipe = load_recipe("digits", TINY)
    inrs = initialize(recipe.spec.spec(2, 1), range(2))
    inrs.save(tmp_path / "start.npz")
    return tmp_path / "start.npz"


def weights_of(root: Path, **options: Any) -> torch.Tensor:
    return torch.stack([weights for weights, _ in INRDataset(root, **options)])


def fit(out: Path, settings: Sequence[str], **options: Any) -> Recipe:
    return fit_dataset("digits", out, settings=[*TINY, *settings], backend="local", workers=1, **options).recipe


def test_a_set_starts_from_its_file_and_needs_it_no_more(starts: Path, tmp_path: Path) -> None:
    given = INRBatch.load(starts).flatten()
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(whole, [f"fit.starts={starts}", "fit.engine=none"], views=2)
    fit(parts, [f"fit.starts={starts}", "fit.engine=none"], views=1)
    copy = starts.rename(tmp_path / "elsewhere.npz")

    fit_dataset(parts, views=2, backend="local", workers=1)

    for view in (0, 1):
        expected = given[view].expand(14, -1)
        assert torch.equal(weights_of(whole, views=[view]), expected)
        assert torch.equal(weights_of(parts, views=[view]), expected)
    recorded = load_manifest(whole).recipe["fit"]
    assert recorded["starts"] == "file"
    assert (
        load_recipe("digits", [*TINY, f"fit.starts={copy}", "fit.engine=none"]).fingerprint
        == load_recipe("digits", [*TINY, f"fit.starts={copy}", "fit.engine=none"], name="again").fingerprint
    )
    with pytest.raises(UsageError, match="start_inrs is"):
        fit(whole, ["fit.engine=none", f"fit.starts={_other(tmp_path)}"], views=2)


def _other(folder: Path) -> Path:
    initialize(load_recipe("digits", TINY).spec.spec(2, 1), [9]).save(folder / "other.npz")
    return folder / "other.npz"


def test_a_set_from_a_file_is_not_said_to_take_more_views(
    starts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "set", [f"fit.starts={starts}", "fit.engine=none"], views=1)
    capsys.readouterr()
    assert run(["status", str(tmp_path / "set")]) == 0
    said = capsys.readouterr().err
    assert "to extend it: inr-factory fit" in said
    assert said.rstrip().endswith("set with a larger --limit")
    assert "--views" not in said


def test_a_state_dict_of_a_peer_is_a_start(starts: Path, tmp_path: Path) -> None:
    inrs = INRBatch.load(starts)
    torch.save(state_dicts(inrs)[0], tmp_path / "peer.pt")
    a, b = (load_recipe("digits", [*TINY, f"fit.starts={path}"]) for path in (tmp_path / "peer.pt", starts))
    given = a.fit.starting_inrs(inrs.spec.num_parameters)
    assert given is not None
    shift = np.append(np.zeros(inrs.spec.num_parameters - 1), inrs.spec.output_bias)
    assert np.allclose(given, inrs[:1].flatten().numpy() - shift), "the module of a peer adds no output_bias"
    assert a.fingerprint != b.fingerprint


def test_a_next_attempt_starts_near_the_file_and_elsewhere(starts: Path) -> None:
    given = INRBatch.load(starts)
    config = load_recipe("digits", [*TINY, f"fit.starts={starts}"]).fit
    first, second, third = (_start(given, config, attempt) for attempt in range(3))
    assert torch.equal(first, given.flatten()[0])
    assert 0 < float((second - first).norm() / first.norm()) < 0.03
    assert not torch.equal(second, third)


def _start(given: INRBatch, config: Any, attempt: int) -> torch.Tensor:
    seed = seed_of(ViewKey("a", 2), config, 0, attempt)
    assert 0 <= seed < 2**63
    return start_values(given.spec, [seed], config)[0]


def test_arrays_start_from_inrs_in_memory() -> None:
    start = inr.fit(IMAGES[:1], **QUICK)
    again = inr.fit(IMAGES, starts=start.inrs, **QUICK)
    plain = inr.fit(IMAGES, **QUICK)
    assert not np.allclose(again.inrs.flatten(), plain.inrs.flatten())
    assert again.psnr[0] > start.psnr[0], "two steps more of one fit"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["fit.starts=share"], "got 'share'; did you mean 'shared'"),
        (["fit.starts=file"], "starts is the path of a file of INRs, or independent or shared"),
        (["fit.starts={starts}", "spec.hidden_dim=8"], "holds INRs 2-6-6-1, and the recipe fits hidden layers of 8, 8"),
        (["fit.starts={starts}", "spec.omega_0=9"], "whose omega_0 is 7.*set spec.omega_0=7"),
        (["fit.starts={damaged}"], "is no complete file of INRBatch.save"),
        (["fit.starts={text}"], "is no state dict of an MLP"),
        (["fit.starts={empty}"], "holds no INR"),
    ],
    ids=str,
)
def test_what_no_fit_can_start_from_is_refused(
    settings: list[str], message: str, starts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "damaged.npz").write_bytes(starts.read_bytes()[:200])
    (tmp_path / "text.pt").write_text("no")
    INRBatch.load(starts)[:0].save(tmp_path / "empty.npz")
    paths = {
        "starts": starts,
        "damaged": tmp_path / "damaged.npz",
        "text": tmp_path / "text.pt",
        "empty": tmp_path / "empty.npz",
    }
    settings = [*TINY, *[setting.format(**paths) for setting in settings]]

    with pytest.raises((UsageError, IntegrityError), match=message):
        fit_dataset("digits", tmp_path / "set", settings=settings, backend="local")

    words = [word for setting in settings for word in ("--set", setting)]
    assert run(["fit", "digits", *words, "--out", str(tmp_path / "set"), "-q"]) in (2, 4)
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "set").exists()


def test_views_that_would_be_one_inr_and_inrs_of_other_signals_are_refused(starts: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"view 2 would equal view 0: the file of fit.starts has 2 INRs, and 3 views"):
        fit(tmp_path / "set", [f"fit.starts={starts}"], views=3)
    assert fit(tmp_path / "set", [f"fit.starts={starts}", "fit.batch_points=20"], views=3).views == 3
    a, b = (weights_of(tmp_path / "set", views=[view]) for view in (0, 2))
    assert not torch.allclose(a, b)
    colour = replace(SPEC, out_dim=3)
    with pytest.raises(UsageError, match=r"not a multiple of the .* of an INR of this set; their inputs and outputs"):
        inr.fit(IMAGES, starts=initialize(colour, [0]), **QUICK)
