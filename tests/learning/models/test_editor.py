"""Editors: their changes follow permutations, signs and phases of neurons, and checkpoints hold all of them."""

from pathlib import Path

import pytest
import torch

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.checkpoint import load_classifier, load_editor, save_checkpoint
from inr_factory.learning.models.classifier import build_classifier
from inr_factory.learning.models.editor import Editor, build_editor
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.transforms.canonical import canonicalize, neuron_signs
from inr_factory.learning.transforms.neuron_ops import change_layer, half_turns
from inr_factory.learning.transforms.symmetries import FlipSigns, PermuteNeurons, ScaleReLU, ShiftPhases

MODELS = {
    "parity": {"hidden_dim": 6, "points": True},
    "dws": {"hidden_dim": 4},
    "ng_gnn": {"hidden_dim": 6, "dropout": 0.0, "num_probes": 2},
}
SPECS = (
    SirenSpec(2, 1, hidden_dim=4),
    SirenSpec(3, 2, hidden_dim=4, num_hidden=3, omega_0=7.0),
    SirenSpec(2, 1, widths=(3, 5)),
)
TANH = SirenSpec(2, 1, hidden_dim=4, activation="tanh", start="linear")
RELU = SirenSpec(2, 1, hidden_dim=4, activation="relu", start="linear", frequencies=2)


def editor(name: str, spec: SirenSpec, **changed: object) -> Editor:
    """One that changes weights a lot, in evaluation mode, so that batch norms do not couple INRs; in double precision,
    since three steps of sines enlarge rounding."""
    model = build_editor(name, spec, Normalizer.fit(spec, [initialize(spec, range(20))]), **MODELS[name] | changed)
    torch.nn.init.constant_(model.log_scale, -2.0)
    return model.eval().double()


def fitted(spec: SirenSpec) -> INRBatch:
    """INRs whose last biases are not 0."""
    inrs = initialize(spec, range(5))
    return INRBatch(spec, inrs.weights, (*inrs.biases[:-1], inrs.biases[-1] + 0.1)).to(torch.float64)


def change(model: Editor, inrs: INRBatch) -> torch.Tensor:
    with torch.no_grad():
        return model(inrs).flatten() - inrs.flatten()


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_an_edit_of_permuted_inrs_is_the_permuted_edit(name: str, spec: SirenSpec) -> None:
    model, inrs = editor(name, spec), fitted(spec)
    permute = PermuteNeurons()
    here, there = (torch.Generator().manual_seed(3) for _ in range(2))
    with torch.no_grad():
        edited, moved = model(inrs), model(permute(inrs, here))
    assert float(change(model, inrs).abs().mean()) > 1e-3
    torch.testing.assert_close(moved.flatten(), permute(edited, there).flatten(), atol=1e-6, rtol=1e-5)

    wrong = permute(edited, torch.Generator().manual_seed(4))
    assert not torch.allclose(moved.flatten(), wrong.flatten(), atol=1e-3)


@pytest.mark.parametrize("spec", [*SPECS, TANH], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_the_change_of_a_negated_neuron_is_negated(name: str, spec: SirenSpec) -> None:
    model, inrs = editor(name, spec), fitted(spec)
    flip = FlipSigns()
    here, there, other = (torch.Generator().manual_seed(seed) for seed in (3, 3, 4))
    with torch.no_grad():
        edited, moved = model(inrs), model(flip(inrs, here))
    torch.testing.assert_close(moved.flatten(), flip(edited, there).flatten(), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(moved.flatten(), flip(edited, other).flatten(), atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_an_edit_follows_phases_and_without_a_canonical_form_it_does_not(name: str) -> None:
    spec = SPECS[0]
    model, inrs = editor(name, spec), fitted(spec)
    outgoing, shift = half_turns(inrs, torch.tensor([0.0, 1, -1, 2]).expand(len(inrs), -1))

    def shifted(batch: INRBatch) -> INRBatch:
        return change_layer(batch, 0, outgoing_NH=outgoing, shift_NH=shift)

    with torch.no_grad():
        edited, moved = model(inrs), model(shifted(inrs))
    torch.testing.assert_close(moved.flatten(), shifted(edited).flatten(), atol=1e-6, rtol=1e-5)
    if name != "parity":
        model.canonical = False
        with torch.no_grad():
            assert not torch.allclose(model(shifted(inrs)).flatten(), shifted(model(inrs)).flatten(), atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_relu_inrs_have_edits_that_follow_permutations_alone(name: str) -> None:
    model, inrs = editor(name, RELU, **({"points": False} if name == "parity" else {})), fitted(RELU)
    permute, scale = PermuteNeurons(), ScaleReLU()
    generators = [torch.Generator().manual_seed(3) for _ in range(4)]
    with torch.no_grad():
        edited = model(inrs)
        torch.testing.assert_close(
            model(permute(inrs, generators[0])).flatten(),
            permute(edited, generators[1]).flatten(),
            atol=2e-5,
            rtol=1e-4,
        )
        scaled = model(scale(inrs, generators[2]))
    assert not torch.allclose(scaled.flatten(), scale(edited, generators[3]).flatten(), atol=1e-3)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_signs_bring_neurons_to_canonical_form_and_back(spec: SirenSpec) -> None:
    generator = torch.Generator().manual_seed(0)
    inrs = ShiftPhases()(FlipSigns()(fitted(spec), generator), generator)
    signs = neuron_signs(inrs)
    torch.testing.assert_close(signs.apply(inrs).flatten(), canonicalize(inrs).flatten(), atol=1e-6, rtol=0)
    once = signs.turn(list(inrs.weights), list(inrs.biases))
    twice = signs.turn(*once)
    assert all(torch.equal(a, b) for a, b in zip(twice[0] + twice[1], (*inrs.weights, *inrs.biases), strict=True))
    assert not torch.equal(once[0][0], inrs.weights[0])


@pytest.mark.parametrize("name", MODELS)
def test_an_editor_begins_near_the_trivial_edit_and_its_seed_decides(name: str) -> None:
    spec = SPECS[0]
    inrs = fitted(spec)
    one, same, other = (build_editor(name, spec, None, seed, **MODELS[name]).eval() for seed in (0, 0, 1))
    first = change(one, inrs)
    assert 0 < float(first.abs().max()) < 0.2
    assert torch.equal(first, change(same, inrs))
    assert not torch.equal(first, change(other, inrs))
    assert len(one(inrs[:0])) == 0


def test_encoders_without_a_head_and_inrs_of_another_spec_are_refused() -> None:
    with pytest.raises(UsageError, match="parity, dws, ng_gnn, got 'mlp'"):
        build_editor("mlp", SPECS[0])
    with pytest.raises(UsageError, match="this editor was made for INRs of"):
        editor("dws", SPECS[0])(fitted(SPECS[2]))


def test_a_checkpoint_holds_the_editor_and_other_models_are_none(tmp_path: Path) -> None:
    model, inrs = editor("parity", SPECS[0]).float(), fitted(SPECS[0]).to(torch.float32)
    save_checkpoint(tmp_path / "best.pt", model, {})
    assert torch.equal(change(load_editor(tmp_path / "best.pt"), inrs), change(model, inrs))
    with pytest.raises(UsageError, match="is of an editor and has no classifier"):
        load_classifier(tmp_path / "best.pt")
    save_checkpoint(tmp_path / "other.pt", build_classifier("parity", SPECS[0], 3, hidden_dim=4), {})
    with pytest.raises(UsageError, match="is no editor"):
        load_editor(tmp_path / "other.pt")
