"""Filters: pixels as morphology has them, exact edits for those that INRs have, and one text for each."""

import pytest
import torch
from torch import Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.training.image_filters import FILTERS, Blur, Contrast, Dilate, Erode, Rotate, parse_filter
from inr_factory.learning.transforms.coordinate import rotate2d

SPEC = SirenSpec(2, 2, hidden_dim=4, output_bias=0.5)


def windows(images: Tensor, row: int, column: int) -> Tensor:
    """(N, O, pixels) of the window of 3 x 3 about a pixel."""
    return images[:, :, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].flatten(2)


@pytest.mark.parametrize("at", [(0, 0), (2, 3), (4, 5)])
def test_morphology_and_blur_are_those_of_windows(at: tuple[int, int]) -> None:
    images = torch.randn(3, 2, 5, 6, generator=torch.Generator().manual_seed(0))
    row, column = at
    window = windows(images, row, column)
    assert torch.equal(Dilate().pixels(images)[:, :, row, column], window.amax(2))
    assert torch.equal(Erode().pixels(images)[:, :, row, column], window.amin(2))
    torch.testing.assert_close(Blur().pixels(images)[:, :, row, column], window.mean(2))
    assert torch.equal(Dilate(1).pixels(images), images)


def test_a_filter_of_inrs_is_that_of_their_images() -> None:
    inrs = initialize(SPEC, range(3))
    images = inrs.images(5, 6)
    assert torch.equal(Dilate()(inrs, 5, 6).permute(0, 3, 1, 2), Dilate().pixels(images.permute(0, 3, 1, 2)))
    torch.testing.assert_close(Contrast(factor=2.0)(inrs, 5, 6), 2 * images - 0.5)
    torch.testing.assert_close(parse_filter("invert")(inrs, 5, 6), 1 - images)
    assert torch.equal(Rotate(20.0)(inrs, 5, 6), rotate2d(inrs, 20.0).images(5, 6))
    assert Dilate().exact(inrs) is None


@pytest.mark.parametrize("name", FILTERS)
def test_the_text_of_a_filter_is_read_back(name: str) -> None:
    assert parse_filter(str(parse_filter(name))) == FILTERS[name]()


@pytest.mark.parametrize(
    ("text", "words"),
    [("dilat", "did you mean 'dilate'"), ("dilate:size=4", "size must be odd"), ("blur:size=0", "from 1 to 99"),
     ("contrast:factor=x", "must be a number")],
)  # fmt: skip
def test_wrong_filters_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_filter(text)
