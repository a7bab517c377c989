"""The decoder: values at any coordinates from features, and a loss that is the share of variance it does not explain."""

from dataclasses import replace

import pytest
import torch
from support.small_sets import SPEC

from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.convolutions import regular_grid
from inr_factory.learning.models.decoder import Decoder, PictureDecoder, build_decoder, build_decoding, random_points

SHAPES = SirenSpec(3, 1, hidden_dim=4, num_hidden=2, omega_0=9.0)
COLOUR = SirenSpec(2, 3, hidden_dim=4, num_hidden=2, omega_0=9.0)
RELU = replace(SPEC, activation="relu", start="linear")


@pytest.mark.parametrize("spec", [SPEC, SHAPES, COLOUR, RELU], ids=str)
def test_a_value_depends_on_its_own_point_and_its_own_features_alone(
    spec: SirenSpec, generator: torch.Generator
) -> None:
    decoder = build_decoder(spec, 5, initialize(spec, range(20)))
    features, coords = torch.randn(6, 5, generator=generator), random_points(spec, 30, generator)

    values = decoder(features, coords)

    assert values.shape == (6, 30, spec.out_dim)
    torch.testing.assert_close(decoder(features[2:4], coords[7:9]), values[2:4, 7:9])
    assert not torch.allclose(values[0], values[1]), "features count for nothing: this test shows nothing"
    assert not torch.allclose(values[:, 0], values[:, 1]), "coordinates count for nothing"


@pytest.mark.parametrize("spec", [SPEC, SHAPES, COLOUR], ids=str)
def test_the_loss_is_the_share_of_the_variance_that_is_not_explained(
    spec: SirenSpec, generator: torch.Generator
) -> None:
    inrs, coords = initialize(spec, range(200)), random_points(spec, 500, generator)
    decoder = build_decoder(spec, 5, inrs)
    with torch.no_grad():
        for part in (decoder.coefficients[2].weight, decoder.coefficients[2].bias):
            part.zero_()
    decoder.requires_grad_(False)

    errors, unit = decoder.errors(torch.randn(200, 5), inrs, coords)
    loss = errors.square().mean()

    assert float(loss) == pytest.approx(1, abs=0.15), "what is constant explains nothing"
    torch.testing.assert_close(decoder(torch.zeros(1, 5), coords)[0, 0], decoder.mean)
    rendered = inrs(coords)
    assert torch.equal(unit, decoder.std)
    by_hand = ((decoder(torch.zeros(200, 5), coords) - rendered) / rendered.std((0, 1))).square().mean()
    assert float(loss) == pytest.approx(float(by_hand), rel=0.1)


@pytest.mark.parametrize("spec", [SPEC, SHAPES, COLOUR], ids=str)
def test_a_picture_is_compared_with_what_the_inr_shows_up_to_contrast_and_brightness(spec: SirenSpec) -> None:
    inrs, grid = initialize(spec, range(5)), regular_grid("grid", 5, spec.in_dim)
    shown = inrs(grid)
    others, decoder = torch.randn(5, 7), PictureDecoder(grid)

    def errors_of(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return decoder.errors(torch.cat([others, pictures.flatten(1)], dim=1), inrs, grid[:2])

    exact = (shown - shown.mean(1, keepdim=True)) / shown.std(1, keepdim=True)
    errors, unit = errors_of(exact)
    torch.testing.assert_close(errors, torch.zeros_like(shown), atol=1e-5, rtol=0)
    flat, _ = errors_of(torch.zeros_like(shown))
    torch.testing.assert_close(flat * unit, shown.mean(1, keepdim=True) - shown)
    assert float(flat.square().mean()) == pytest.approx(1, abs=0.05), "a blank picture explains nothing"


def test_equal_seeds_make_equal_decoders() -> None:
    inrs = initialize(SPEC, range(20))
    first, again, other = (build_decoder(SPEC, 5, inrs, seed) for seed in (1, 1, 2))
    assert all(map(torch.equal, first.state_dict().values(), again.state_dict().values()))
    assert not torch.equal(first.first.weight, other.first.weight)


def test_a_model_renders_from_its_own_features() -> None:
    model = build_decoding("mlp", SPEC, hidden_dim=4).eval()
    inrs, coords = initialize(SPEC, range(3)), random_points(SPEC, 9, torch.Generator().manual_seed(0))
    assert isinstance(model.decoder, Decoder)
    torch.testing.assert_close(model(inrs, coords), model.decoder(model.features(inrs), coords))
