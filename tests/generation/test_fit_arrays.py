"""Fits of arrays: which arrays images and values may be, and what is said of objects that an INR cannot show."""

import numpy as np
import pytest
import torch

import inr_factory as inr
from inr_factory.errors import UsageError
from inr_factory.generation.sources.memory import image_source, point_source

RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (2, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize(
    ("images", "value_range"),
    [
        (BYTES, None), (torch.from_numpy(BYTES), None), (list(BYTES), None), (BYTES[..., None], None),
        (BYTES / 255, None), ((BYTES / 255).tolist(), None), (torch.from_numpy(BYTES / 255), None),
        (BYTES.astype(np.uint16) * 257, (0, 65535)), (BYTES.astype(np.int64), (0, 255)), (BYTES.astype(float), [0, 255]),
        (BYTES / 127.5 - 1, (-1, 1)), (BYTES.astype(">f4"), (0, 255)), (BYTES[::-1].copy()[::-1], None),
        ((BYTES / 255).astype(">f4"), None),
    ],
)  # fmt: skip
def test_images_of_any_real_type_have_the_same_values(images, value_range):
    source, middle = image_source(images, value_range)

    np.testing.assert_allclose(source.values[..., 0].numpy(), BYTES.reshape(2, 64) / 255, atol=1e-6)
    assert (source.peak, middle) == (1.0, 0.5)


def test_truth_values_are_images_with_a_range():
    source, _ = image_source(BYTES > 100, (0, 1))

    assert set(source.values.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3, 8, 8), np.uint8), r"\(N, H, W, C\), got \(2, 3, 8, 8\); move the channels last"),
        (np.zeros((8, 8, 3), np.uint8), "looks like one image; give images.None."),
        (np.zeros((8, 8), np.uint8), "give one image as images.None."),
        (np.zeros((2, 8, 8, 64)), "at most 16 channels"),
        (255.0 * np.eye(8)[None], "float64 images must be from 0 to 1, got 0 to 255; value_range"),
        (np.eye(8)[None] - 0.5, "from 0 to 1, got -0.5 to 0.5"),
        (np.zeros((2, 8, 8), np.uint16), "uint8 from 0 to 255, or floats from 0 to 1, got uint16"),
        (np.zeros((2, 8, 8), bool), "got bool"),
        (np.zeros((2, 8, 8), complex), "array of numbers, got ndarray of complex128"),
        (np.zeros((2, 8, 8), object), "array of numbers, got ndarray of object"),
        (np.full((2, 8, 8), "1"), "array of numbers"),
        (np.ma.masked_less(BYTES, 9), "images has masked values"),
        (torch.zeros(2, 8, 8).to_sparse(), "must be a dense tensor"),
        (torch.empty(2, 8, 8, device="meta"), "must be a tensor of plain numbers"),
        (torch.nested.nested_tensor([torch.zeros(2, 2)], layout=torch.jagged), "must be a dense tensor"),
        ([np.zeros((8, 8)), np.zeros((8, 9))], "array of numbers, got list"),
        (np.full((2, 8, 8), np.nan), "NaN or infinite"),
    ],
)
def test_arrays_that_are_no_images_are_refused_in_one_line(images, message):
    with pytest.raises(UsageError, match=message) as caught:
        inr.fit(images)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value_range", [(1, 0), (0, np.inf), (0, 0), (0, 1, 2), "ab", 255])
def test_a_range_is_two_numbers(value_range):
    with pytest.raises(UsageError, match="value_range must"):
        inr.fit(BYTES, value_range=value_range)


def test_values_outside_of_their_range_are_refused_and_the_range_is_the_peak():
    coords, values = np.linspace(-1, 1, 8)[:, None], RANDOM.random((2, 8, 1))

    source, middle = point_source(coords, values, (-1, 3))

    assert (source.peak, middle) == (4.0, 1.0)
    with pytest.raises(UsageError, match=r"beyond value_range 0 to 0\.5"):
        inr.fit(coords=coords, values=values, value_range=(0, 0.5))
    with pytest.raises(UsageError, match="uint8 images must be from 0 to 100"):
        inr.fit(BYTES, value_range=(0, 100))


def test_floats_of_8_bits_are_images():
    source, _ = image_source(torch.eye(8)[None].to(torch.float8_e5m2))

    assert torch.equal(source.values[0, :, 0], torch.eye(8).flatten())


@pytest.mark.parametrize("offset", [1e6, -1e8])
def test_values_that_float32_cannot_tell_apart_are_refused(offset):
    coords, values = np.linspace(-1, 1, 8)[:, None], RANDOM.random((2, 8, 1))

    with pytest.raises(UsageError, match=r"values go from .* too close for float32; subtract the mean"):
        point_source(coords, offset + values)
    with pytest.raises(UsageError, match=r"value_range goes from .* too close for float32"):
        image_source(offset + values, (offset, offset + 1))
    assert point_source(coords, 1e4 + values)[0].peak == pytest.approx(np.ptp(values), abs=2e-3)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0, 2_000_000_000], None, "labels go up to 2,000,000,000, which asks for as many classes"),
        ([0, 1], {"a", "b"}, "list of names in the order of the labels"),
        ([0, 1], {"a": 1, "b": 0}, "list of names in the order of the labels"),
        ([0, 1], "ab", "list of names in the order of the labels"),
        ([0, 1], ["a", "b\nc"], r"classes\[1\] must be a line of text"),
        ([0, 1], ["a", "\ud800"], r"classes\[1\] must be a line of text"),
        ([0, 1], ["a", ""], r"classes\[1\] must be a line of text"),
    ],
)
def test_classes_that_no_set_can_hold_are_refused_before_it_is_written(labels, classes, message, tmp_path):
    fitted = inr.fit(BYTES, hidden_dim=4, steps=1, floor_psnr=-99, target_psnr=None)

    with pytest.raises(UsageError, match=message):
        fitted.save(tmp_path / "set", labels, classes)
    assert not (tmp_path / "set").exists()


def test_constant_and_faint_objects_are_named_d04():
    images = np.stack([np.full((8, 8), 77, np.uint8), 77 + BYTES[0] // 200, BYTES[1]])

    with pytest.warns(UserWarning, match="constant signal|variance explained") as caught:
        fitted = inr.fit(images, hidden_dim=8, steps=200, floor_psnr=-99, target_psnr=30)

    said = [str(warning.message) for warning in caught]
    assert any(line.startswith("constant signal: 1 INR (000000)") for line in said)
    assert any(line.startswith("less than half of the signal's variance explained: 1 INR (000001)") for line in said)
    assert np.isnan(fitted.explained[0])
    error = (fitted.images(8, 8)[2, ..., 0] - torch.from_numpy(BYTES[1] / 255)).square().mean()
    assert fitted.explained[2] == pytest.approx(1 - float(error) / (BYTES[1] / 255).var(), abs=1e-4)


def test_masks_as_bytes_of_0_and_1_are_named_since_they_lie_far_below_white():
    with pytest.warns(UserWarning, match="less than half of the signal's variance explained: 2 INRs"):
        inr.fit((BYTES > 100).astype(np.uint8), output_bias=0.0, hidden_dim=8)


def test_a_second_of_sound_is_fitted_by_a_first_layer_of_its_own_frequency(tmp_path):
    """A chirp at 8 kHz; without it the fit ends near 10 dB."""
    time = np.linspace(-1, 1, 8000, dtype=np.float32)[:, None]
    seconds = (time + 1) / 2
    chirp = np.sin(2 * np.pi * (100 * seconds + 450 * seconds**2))[None]
    options = {
        "hidden_dim": 128,
        "num_hidden": 3,
        "target_psnr": 35,
        "learning_rate": 1e-3,
        "steps": 400,
        "floor_psnr": -9,
    }

    fitted = inr.fit(coords=time, values=chirp, first_omega_0=3000, omega_0=30, **options)

    assert fitted.psnr[0] >= 35
    np.testing.assert_allclose(fitted(time)[0], chirp[0], atol=0.3)
    fitted.inrs.save(tmp_path / "sound.npz")
    assert inr.INRBatch.load(tmp_path / "sound.npz").spec.first_omega_0 == 3000


def test_start_and_omega_0_follow_the_activation():
    quick = {"hidden_dim": 4, "steps": 1, "floor_psnr": -99, "target_psnr": None}
    specs = {
        name: inr.fit(BYTES, activation=name, **quick).inrs.spec for name in ("sine", "relu", "tanh", "gauss", "finer")
    }

    assert {name: spec.start for name, spec in specs.items()} == {
        "sine": "siren", "relu": "siren", "tanh": "linear", "gauss": "linear", "finer": "finer",
    }  # fmt: skip
    assert {name: spec.omega_0 for name, spec in specs.items() if spec.omega_0 != 30} == {"gauss": 10.0}
    own = inr.fit(BYTES, activation="gauss", omega_0=5, start="siren", **quick).inrs.spec
    assert (own.omega_0, own.start) == (5.0, "siren")


def test_widths_and_a_positional_encoding_are_fitted_and_saved(tmp_path):
    fitted = inr.fit(
        BYTES, widths=[24, 12], activation="relu", frequencies=3, first_frequency=2.0, coordinates=False,
        steps=300, learning_rate=5e-3, floor_psnr=-99,
    )  # fmt: skip

    spec = fitted.inrs.spec
    assert (spec.hidden_dims, spec.encoded_dim, spec.first_frequency, spec.start) == ((24, 12), 12, 2.0, "linear")
    plain = inr.fit(BYTES, widths=[24, 12], activation="relu", steps=300, learning_rate=5e-3, floor_psnr=-99)
    assert fitted.psnr.min() > plain.psnr.max() + 3
    fitted.save(tmp_path / "set", val=0, test=0)
    assert inr.open(tmp_path / "set", split="train").spec == spec


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": []}, "spec.widths: list should have at least 1 item"),
        ({"widths": 8}, "spec.widths: input should be a valid list, got 8"),
        ({"activation": "selu"}, "spec.activation: unknown value 'selu'; did you mean 'relu'"),
        ({"coordinates": False}, "coordinates must be true, or false for INRs with frequencies"),
        ({"frequencies": 99}, "spec.frequencies: input should be less than or equal to 32"),
        ({"activation": "tanh", "first_omega_0": 9}, "first_omega_0 must be positive, and None for"),
    ],
)
def test_wrong_specs_are_refused_in_one_line(options, message):
    with pytest.raises(UsageError, match=message) as caught:
        inr.fit(BYTES, **options)
    assert "\n" not in str(caught.value)
