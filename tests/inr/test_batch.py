"""INR batches: the flat layout, the forward pass against torch.nn, indexing, images and files."""

import numpy as np
import pytest
import torch
from torch import nn

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec


class Sine(nn.Module):
    def __init__(self, omega_0):
        super().__init__()
        self.omega_0 = omega_0

    def forward(self, z):
        return torch.sin(self.omega_0 * z)


def as_modules(inrs, row):
    """One INR of a batch as anyone would write it with torch.nn."""
    spec, layers = inrs.spec, []
    for layer, (outputs, inputs) in enumerate(spec.layer_shapes):
        linear = nn.Linear(inputs, outputs)
        linear.weight.data, linear.bias.data = inrs.weights[layer][row], inrs.biases[layer][row]
        layers.append(linear)
        if layer < spec.num_hidden:
            layers.append(Sine(spec.omega_0) if spec.activation == "sine" else nn.ReLU())
    return nn.Sequential(*layers)


def test_an_inr_computes_what_modules_with_the_same_numbers_compute(inrs, coords):
    values = inrs(coords)

    assert values.shape == (5, 64, inrs.spec.out_dim)
    for row in range(5):
        modules = as_modules(inrs, row)
        with torch.no_grad():
            torch.testing.assert_close(values[row], modules(coords) + inrs.spec.output_bias, atol=1e-5, rtol=0)
            assert not torch.allclose(values[row - 1], modules(coords) + inrs.spec.output_bias, atol=1e-3)


def test_a_relu_inr_computes_what_modules_with_the_same_numbers_compute(relu_inrs, generator):
    coords = 2 * torch.rand(64, 2, generator=generator) - 1

    with torch.no_grad():
        expected = torch.stack([as_modules(relu_inrs, row)(coords) for row in range(5)])

    torch.testing.assert_close(relu_inrs(coords), expected, atol=1e-6, rtol=0)


def test_shared_coords_and_one_set_for_each_inr_agree(inrs, coords):
    separate = torch.stack([coords.roll(row, dims=0) for row in range(5)])

    values = inrs(separate)

    torch.testing.assert_close(inrs(coords.expand(5, -1, -1)), inrs(coords))
    for row in range(5):
        torch.testing.assert_close(values[row], inrs(coords)[row].roll(row, dims=0), atol=1e-6, rtol=0)


def test_the_flat_layout_goes_there_and_back(inrs):
    flat = inrs.flatten()

    back = INRBatch.from_flat(inrs.spec, flat)

    assert flat.shape == (5, inrs.spec.num_parameters)
    assert torch.equal(back.flatten(), flat)
    for restored, expected in zip(back.weights + back.biases, inrs.weights + inrs.biases, strict=True):
        assert torch.equal(restored, expected)
    assert back.weights[0].data_ptr() == flat.data_ptr(), "from_flat copied"
    assert inrs.flatten().data_ptr() != flat.data_ptr(), "flatten gave a view"


def test_the_flat_layout_is_that_of_torch_modules(inrs):
    modules = as_modules(inrs, 2)

    expected = torch.cat([parameter.detach().flatten() for parameter in modules.parameters()])

    assert torch.equal(inrs.flatten()[2], expected)
    assert [shape for _, shape in inrs.spec.parameter_shapes] == [tuple(p.shape) for p in modules.parameters()]


def test_tensors_of_another_shape_are_no_batch(inrs):
    spec, weights, biases = inrs.spec, inrs.weights, inrs.biases

    with pytest.raises(UsageError, match="layers, got"):
        INRBatch(spec, weights[:-1], biases)
    with pytest.raises(UsageError, match="layers, got"):
        INRBatch(spec, weights, biases[:-1])
    with pytest.raises(UsageError, match="layer 1 of"):
        INRBatch(spec, (weights[0], weights[1].mT[:, :-1], *weights[2:]), biases)
    with pytest.raises(UsageError, match="layer 0 of"):
        INRBatch(spec, weights, (biases[0][:3], *biases[1:]))
    with pytest.raises(UsageError, match="needs flat weights"):
        INRBatch.from_flat(spec, inrs.flatten()[:, :-1])
    with pytest.raises(UsageError, match="needs flat weights"):
        INRBatch.from_flat(spec, inrs.flatten()[0])


def test_coords_of_another_dimension_are_refused(inrs):
    with pytest.raises(UsageError, match="coords must have the shape"):
        inrs(torch.zeros(4, inrs.spec.in_dim + 1))
    with pytest.raises(UsageError, match="coords must have the shape"):
        inrs(torch.zeros(inrs.spec.in_dim))


def test_a_batch_of_none_works(inrs, coords):
    none = INRBatch.from_flat(inrs.spec, torch.empty(0, inrs.spec.num_parameters))

    for batch in (none, inrs.select(slice(0, 0)), inrs.select(torch.empty(0, dtype=torch.long)), none.to("cpu")):
        assert len(batch) == 0
        assert batch.flatten().shape == (0, inrs.spec.num_parameters)
        assert batch(coords).shape == (0, 64, inrs.spec.out_dim)
    assert torch.equal(INRBatch.cat([none, inrs, none]).flatten(), inrs.flatten())
    assert len(initialize(inrs.spec, [])) == 0


def test_select_and_cat_keep_the_order_they_are_given(inrs):
    order = torch.tensor([3, 1, 4, 0, 2])

    assert torch.equal(inrs.select(order).flatten(), inrs.flatten()[order])
    assert torch.equal(
        INRBatch.cat([inrs.select(slice(3, 5)), inrs.select(slice(0, 3))]).flatten(), inrs.flatten().roll(2, 0)
    )


def test_inrs_that_differ_in_their_output_bias_alone_are_not_stacked():
    one, other = (initialize(SirenSpec(2, 1, 4, output_bias=bias), [0]) for bias in (0.0, 0.5))

    with pytest.raises(UsageError, match=r"output_bias=0\.0.* and .*output_bias=0\.5"):
        INRBatch.cat([one, other])


def test_to_another_type_keeps_the_numbers(inrs, coords):
    double = inrs.to(torch.float64)

    assert double.dtype == torch.float64
    assert double(coords.double()).dtype == torch.float64
    assert torch.equal(double.to(torch.float32).flatten(), inrs.flatten())


def test_the_last_activations_are_the_values_and_the_first_the_coords(inrs, coords):
    first, *hidden, last = inrs.activations(coords)

    assert torch.equal(first, coords.expand(len(inrs), *coords.shape))
    assert torch.equal(last, inrs(coords))
    assert [x.shape[-1] for x in hidden] == [inrs.spec.hidden_dim] * inrs.spec.num_hidden
    spec = inrs.spec
    torch.testing.assert_close(
        hidden[1],
        torch.sin(spec.omega_0 * (hidden[0] @ inrs.weights[1].mT + inrs.biases[1][:, None])),
        atol=1e-5,
        rtol=0,
    )


@pytest.fixture
def batch():
    return initialize(SirenSpec(2, 3, hidden_dim=4), range(5))


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (0, [0]),
        (-1, [4]),
        (np.int64(2), [2]),
        (torch.tensor(3), [3]),
        (np.array(3), [3]),
        (slice(1, None, 2), [1, 3]),
        (slice(7, 9), []),
        ([4, -5, 4], [4, 0, 4]),
        ([], []),
        (np.array([2, 1], np.uint16), [2, 1]),
        (torch.tensor([2, 1], dtype=torch.int32), [2, 1]),
        (torch.tensor([True, False, False, True, False]), [0, 3]),
        (np.array([False, False, False, False, True]), [4]),
    ],
    ids=repr,
)
def test_an_index_gives_a_batch_of_those_inrs(batch, index, rows):
    chosen = batch[index]

    assert isinstance(chosen, INRBatch)
    assert torch.equal(chosen.flatten(), batch.flatten()[rows])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (5, r"index 5 is out of range for a batch of 5 INRs; use -5 to 4$"),
        (-6, "index -6 is out of range"),
        ([0, 9, -7], "index -7 is out of range"),
        (True, "indexed by whole numbers, slices or masks, got bool 'True'"),
        (1.0, "got float '1.0'"),
        ((0, 1), "got tuple"),
        (None, "got NoneType"),
        ("first", "got str 'first'"),
        ([0.5], r"got torch.float64 \(1,\)"),
        ([[0], [1]], r"got torch.int64 \(2, 1\)"),
        ([True, False], r"a mask \(5,\), got torch.bool \(2,\)"),
    ],
    ids=str,
)
def test_a_wrong_index_is_refused_in_one_line(batch, index, message):
    with pytest.raises(UsageError, match=message) as caught:
        batch[index]

    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="it is empty"):
        batch[:0][0]


def test_a_batch_is_iterated_by_batches_of_one(batch):
    rows = list(batch)

    assert [len(row) for row in rows] == [1] * 5
    assert torch.equal(INRBatch.cat(rows).flatten(), batch.flatten())
    assert rows[2].weights[0].data_ptr() == batch.weights[0][2].data_ptr(), "a row was copied"
    assert repr(rows[0]) == "INRBatch(1 x 2-4-4-3, omega_0 30, siren start, torch.float32 on cpu)"


def test_images_are_the_values_on_the_pixel_grid(batch):
    images = batch.images(3, np.int64(4))

    assert images.shape == (5, 3, 4, 3)
    torch.testing.assert_close(images[:, 0, -1], batch(torch.tensor([[1.0, -1.0]]))[:, 0])
    torch.testing.assert_close(images[:, 2, 0], batch([[-1, 1]])[:, 0])
    assert batch.to(torch.float64).images(2, 2).dtype == torch.float64


def test_sizes_of_images_are_checked(batch):
    with pytest.raises(UsageError, match="height and width must be whole numbers of at least 1, got 0 and 3"):
        batch.images(0, 3)
    with pytest.raises(UsageError, match="INRs with 2 inputs, these have 3; call them with coords"):
        initialize(SirenSpec(3, 1, hidden_dim=4), [0]).images(2, 2)


def test_numpy_arrays_are_accepted(batch):
    weights, biases = ([part.numpy() for part in parts] for parts in (batch.weights, batch.biases))
    coords = np.linspace(-1, 1, 8).reshape(4, 2)

    again = INRBatch(batch.spec, weights, biases)

    assert torch.equal(again.flatten(), batch.flatten())
    assert torch.equal(INRBatch.from_flat(batch.spec, batch.flatten().numpy()).flatten(), batch.flatten())
    assert torch.equal(again(coords), batch(torch.from_numpy(coords).float()))
    assert again(coords.tolist()).dtype == torch.float32


def test_tensors_of_several_types_or_devices_are_no_batch(batch):
    with pytest.raises(UsageError, match=r"must be torch.float32 on cpu, layer 1 has torch.float64 on cpu and"):
        INRBatch(batch.spec, (batch.weights[0], batch.weights[1].double(), batch.weights[2]), batch.biases)
    with pytest.raises(
        UsageError, match=r"torch.float32 on cpu, layer 0 has torch.float32 on cpu and torch.float32 on meta"
    ):
        INRBatch(batch.spec, batch.weights, (batch.biases[0].to("meta"), *batch.biases[1:]))
    with pytest.raises(UsageError, match="weights of layer 2 must be an array of numbers, got str"):
        INRBatch(batch.spec, (*batch.weights[:2], "zeros"), batch.biases)
    with pytest.raises(UsageError, match=r"layer 0 of .* needs weights"):
        INRBatch(batch.spec, (torch.tensor(0.0), *batch.weights[1:]), batch.biases)
    with pytest.raises(UsageError, match="at least one batch"):
        INRBatch.cat([])
    with pytest.raises(UsageError, match="coords must be on cpu, got a tensor on meta"):
        batch(torch.zeros(1, 2, device="meta"))
