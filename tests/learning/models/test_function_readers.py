"""Readers of the function: probes and render see what INRs compute, and nothing else."""

from dataclasses import replace

import pytest
import torch

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.classifier import build_classifier
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.models.registry import build_encoder
from inr_factory.learning.transforms.symmetries import FlipSigns, ShiftPhases

SPEC = SirenSpec(2, 3, hidden_dim=6, num_hidden=2, omega_0=7.0, output_bias=0.5)
SMALL = {"probes": {"num_probes": 5, "hidden_dim": 8, "num_layers": 2}, "render": {"resolution": 4, "hidden_dim": 4}}


def wider(inrs: INRBatch) -> INRBatch:
    """The same functions by INRs of one more neuron a layer, whose outgoing weights are 0."""
    spec, last = replace(inrs.spec, hidden_dim=inrs.spec.hidden_dim + 1), len(inrs.weights) - 1
    sizes = [(int(layer > 0), int(layer < last)) for layer in range(last + 1)]
    weights = [
        torch.nn.functional.pad(W, (0, columns, 0, rows))
        for W, (columns, rows) in zip(inrs.weights, sizes, strict=True)
    ]
    biases = [torch.nn.functional.pad(b, (0, rows)) for b, (_, rows) in zip(inrs.biases, sizes, strict=True)]
    return INRBatch(spec, tuple(weights), tuple(biases))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("activation", ["sine", "relu"])
@pytest.mark.parametrize("in_dim", [1, 2, 3])
def test_other_weights_of_the_same_function_change_nothing_and_another_function_does(name, activation, in_dim):
    spec = replace(SPEC, in_dim=in_dim, activation=activation)
    inrs, encoder = initialize(spec, range(5)), build_encoder(name, spec, **SMALL[name]).eval()
    features = encoder(inrs)

    torch.testing.assert_close(encoder(wider(inrs)), features)
    if activation == "sine":
        for move in (FlipSigns(), ShiftPhases(max_k=1)):
            moved = move(inrs, torch.Generator().manual_seed(1))
            torch.testing.assert_close(encoder(moved), features, atol=1e-4, rtol=1e-4)
    assert features.shape == (5, encoder.features)
    assert not torch.allclose(features[0], features[1])


@pytest.mark.parametrize("name", SMALL)
def test_they_take_inrs_as_fitted_whatever_normalizer_and_canonical_form_say(name):
    inrs = initialize(SPEC, range(8))
    plain = build_classifier(name, SPEC, 3, **SMALL[name]).eval()
    other = build_classifier(name, SPEC, 3, Normalizer.fit(SPEC, [inrs]), canonical=True, **SMALL[name]).eval()

    assert torch.equal(other(inrs), plain(inrs))


@pytest.mark.parametrize("name", SMALL)
def test_they_refuse_to_train_on_one_inr(name):
    encoder = build_encoder(name, SPEC, **SMALL[name])
    with pytest.raises(UsageError, match="at least 2 INRs, got 1"):
        encoder(initialize(SPEC, range(1)))
    assert encoder.eval()(initialize(SPEC, range(1))).shape == (1, encoder.features)


@pytest.mark.parametrize("generator", [True, False])
def test_the_points_of_probes_start_over_the_square_and_learn(generator):
    encoder = build_encoder("probes", SPEC, num_probes=400, generator=generator)
    points = encoder.points()
    torch.testing.assert_close(points.square().mean(), torch.tensor(1 / 3), atol=0.05, rtol=0)

    encoder(initialize(SPEC, range(4))).square().sum().backward()

    assert all(parameter.grad is not None and parameter.grad.any() for parameter in encoder.points.parameters())


def test_the_values_that_the_mlp_of_probes_gets_are_those_of_the_inrs_at_its_points():
    encoder, inrs = build_encoder("probes", SPEC, **SMALL["probes"]), initialize(SPEC, range(3))
    given = []
    encoder.mlp.register_forward_pre_hook(lambda _, values: given.append(values[0]))

    encoder(inrs)

    torch.testing.assert_close(given[0].view(3, 5, 3), inrs(encoder.points()))


def test_render_sees_the_pictures_of_the_inrs(monkeypatch):
    monkeypatch.setattr("inr_factory.learning.models.render.POINTS_AT_ONCE", 50)  # three INRs at once
    encoder, inrs = build_encoder("render", SPEC, resolution=4), initialize(SPEC, range(8))
    given = []
    encoder.stages.register_forward_pre_hook(lambda _, pictures: given.append(pictures[0]))

    encoder(inrs)

    torch.testing.assert_close(given[0].permute(0, 2, 3, 1), inrs.images(4, 4))
    assert torch.equal(encoder.grid, pixel_grid(4, 4))


@pytest.mark.parametrize(("in_dim", "resolution"), [(1, 256), (2, 28), (3, 16)])
def test_the_default_resolution_is_that_of_the_kind_of_signal_and_is_recorded(in_dim, resolution):
    encoder = build_encoder("render", replace(SPEC, in_dim=in_dim))
    assert (encoder.options["resolution"], len(encoder.grid)) == (resolution, resolution**in_dim)


@pytest.mark.parametrize(
    ("name", "spec", "options", "message"),
    [
        ("render", replace(SPEC, in_dim=4), {}, "render takes INRs of 1 to 3 inputs, got 4-6-6-3.*probes takes any"),
        ("render", SPEC, {"resolution": 3}, "resolution of render must be a whole number of at least 4.*got 3"),
        ("render", SPEC, {"resolution": True}, "resolution of render must be a whole number"),
        ("render", SPEC, {"resolution": 10**5}, "at most 4,194,304 points in all, got 100000"),
        ("probes", SPEC, {"num_probes": 0}, "num_probes of probes must be at least 1, got 0"),
        ("probes", SPEC, {"generator": 1}, "generator of probes must be true or false, got 1"),
    ],
)
def test_what_they_cannot_read_is_refused(name, spec, options, message):
    with pytest.raises(UsageError, match=message):
        build_encoder(name, spec, **options)


@pytest.mark.parametrize(
    ("name", "options", "reads"),
    [
        ("probes", {}, "function"),
        ("render", {}, "pixels"),
        ("mlp", {}, "weights"),
        ("dws", {}, "weights"),
        ("ng_t", {}, "weights"),
        ("ng_t", {"num_probes": 2}, "weights and probes"),
        ("ng_gnn", {"num_probes": 2}, "weights and probes"),
        ("parity", {"sine_path": True}, "weights and probes"),
        ("parity", {"sine_path": False, "points": True}, "weights and probes"),
        ("parity", {"sine_path": False}, "weights"),
    ],
)
def test_an_encoder_says_what_it_reads(name, options, reads):
    assert build_encoder(name, SPEC, **options).reads == reads
