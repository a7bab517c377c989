"""Signal stacks: the signals of many objects as arrays are those that the objects give one by one, bit for bit."""

import numpy as np
import pytest
import torch

from inr_factory.generation.recipe import ImageSource
from inr_factory.generation.signal_stack import (
    SignalStack,
    as_index,
    divided,
    fact_columns,
    inside_shares,
    select_signals,
    stack_signals,
    variances,
)
from inr_factory.generation.signals import Signal, SignalError
from inr_factory.generation.sources.image_collections import ArraySource
from inr_factory.generation.sources.memory import MemorySource, image_source, point_source


def bits(tensor):
    return tensor.contiguous().view(torch.int32)


def same(one, other):
    facts = (one.peak, dict(one.facts), one.field) == (other.peak, dict(other.facts), other.field)
    pairs = ((one.coords, other.coords), (one.targets, other.targets))
    return facts and all(a.shape == b.shape and torch.equal(bits(a), bits(b)) for a, b in pairs)


def source(shape=(12, 5, 7), white=255, **settings):
    images = np.random.default_rng(0).integers(0, white + 1, shape, dtype=np.uint8)
    config = ImageSource(collection="fashion_mnist", **settings)
    labels = np.zeros(len(images), dtype=np.int64)
    return ArraySource(config, "x", "1", "none", ("a",), images, labels, {None: len(images)}, white=white)


@pytest.mark.parametrize("white", [255, 16, 3])
def test_bytes_are_divided_as_numpy_divides_them(white):
    values = np.arange(white + 1, dtype=np.uint8)
    expected = values.astype(np.float32) / np.float32(white)
    assert torch.equal(bits(divided(torch.from_numpy(values), white)), bits(torch.from_numpy(expected)))


@pytest.mark.parametrize(
    ("shape", "settings"),
    [((12, 5, 7), {}), ((12, 5, 3), {"mode": "rgb"}), ((12, 5, 7, 3), {}), ((12, 5, 7), {"mode": "grey"})],
    ids=str,
)
def test_a_stack_has_the_signals_of_its_images(shape, settings):
    images = source(shape, **settings)
    stack = images.signal_stack([3, 4, 11])
    assert stack.values.dtype == torch.uint8
    white = np.float32(255)
    for at, index in enumerate([3, 4, 11]):
        assert same(stack[at], images.signal(index))
        pixels = images.images[index].astype(np.float32).reshape(shape[1] * shape[2], -1) / white
        assert torch.equal(stack[at].targets, torch.from_numpy(pixels).expand(-1, images.out_dim))
    assert stack[-1].coords is stack[0].coords


@pytest.mark.parametrize(("shape", "settings"), [((2, 5, 7), {"size": 4}), ((2, 5, 7, 3), {"mode": "grey"})], ids=str)
def test_images_that_pillow_changes_are_read_one_by_one(shape, settings):
    images = source(shape, **settings)
    assert images.signal_stack([0, 1]) is None
    assert isinstance(images.signal(0), Signal)


def test_images_that_are_too_large_have_no_signals():
    with pytest.raises(SignalError, match="max_points"):
        source(max_points=34).signal_stack([0])


@pytest.mark.parametrize("own_points", [False, True])
def test_objects_in_memory_have_one_stack(own_points):
    generator = torch.Generator().manual_seed(0)
    coords = torch.rand(*([4] if own_points else []), 6, 2, generator=generator)
    points, _ = point_source(coords, torch.rand(4, 6, 3, generator=generator))
    pixels, _ = image_source(np.random.default_rng(0).integers(0, 256, (4, 3, 3), dtype=np.uint8))
    for objects in (points, pixels):
        stack = objects.signal_stack([1, 2])
        assert all(same(stack[at], objects.signal(index)) for at, index in enumerate([1, 2]))
        assert isinstance(objects, MemorySource)
        assert stack.values.data_ptr() == objects.values[1].data_ptr(), "a block of objects is copied"


def test_a_stack_is_a_sequence_of_signals():
    stack = SignalStack(torch.zeros(3, 2), torch.arange(12.0).view(4, 3, 1), peak=2.0, facts={"height": 3})
    assert len(stack) == len(list(stack)) == 4
    assert [float(signal.targets[0]) for signal in stack[1:3]] == [3, 6]
    assert [float(signal.targets[0]) for signal in stack[np.array([2, 0])]] == [6, 0]
    with pytest.raises(IndexError):
        stack[4]


@pytest.mark.parametrize("rows", [slice(1, 3), np.array([2, 0])], ids=str)
def test_rows_of_a_list_and_of_a_stack_are_the_same(rows):
    stack = SignalStack(torch.zeros(3, 2), torch.arange(12.0).view(4, 3, 1), facts={"b": 3, "a": 0.5})
    listed = list(stack)
    chosen, others = select_signals(stack, rows), select_signals(listed, rows)
    assert all(same(one, other) for one, other in zip(chosen, others, strict=True))
    again = stack_signals(others, shared_coords=True)
    assert torch.equal(again.values, chosen.values)
    assert again.coords is stack.coords
    assert stack_signals(others, shared_coords=False).coords.shape == (2, 3, 2)
    for signals in (stack, listed):
        columns = fact_columns(signals, [1, 2])
        assert list(columns) == ["a", "b"]
        assert [column.dtype for column in columns.values()] == [np.float64, np.int64]
        assert columns["b"].tolist() == [3, 3]


@pytest.mark.parametrize(("rows", "index"), [([3, 4, 5], slice(3, 6)), ([3], slice(3, 4))], ids=str)
def test_rows_that_follow_each_other_are_a_slice(rows, index):
    assert as_index(np.array(rows)) == index


@pytest.mark.parametrize("rows", [[3, 5], [4, 3], [3, 3], []], ids=str)
def test_other_rows_stay_as_they_are(rows):
    assert as_index(np.array(rows, dtype=np.int64)).tolist() == rows


def test_variances_are_those_around_the_best_constant_and_exactly_0_for_constants():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    images[1] = (13, 200, 77)  # a colour is a constant, though its values differ
    stack = SignalStack(torch.zeros(24, 2), torch.from_numpy(images.reshape(5, 24, 3)), white=255)
    found = variances(stack)
    pixels = images.reshape(5, 24, 3) / 255
    np.testing.assert_allclose(found, pixels.var(axis=1).mean(axis=1), rtol=1e-6, atol=1e-12)
    assert found[1] == 0
    assert variances([Signal(torch.zeros(7, 2), torch.full((7, 1), 0.1))])[0] == 0
    np.testing.assert_array_equal(variances(list(stack)), found)


def test_the_share_inside_belongs_to_fields_that_have_an_inside():
    def one(field):
        return [Signal(torch.zeros(4, 3), torch.tensor([[-1.0], [0.2], [0.7], [1.0]]), field=field)]

    assert inside_shares(one("sdf"))["inside"].tolist() == [0.25]
    assert inside_shares(one("occupancy"))["inside"].tolist() == [0.5]
    assert inside_shares(one("udf")) == inside_shares(one("values")) == {}
