"""INRs: the flat layout, the forward pass against torch.nn, and start values that depend on their seed alone."""

import math

import pytest
import torch
from torch import nn

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch, start_bounds, start_values
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
    own = torch.stack([coords.roll(row, dims=0) for row in range(5)])

    values = inrs(own)

    torch.testing.assert_close(inrs(coords.expand(5, -1, -1)), inrs(coords))
    for row in range(5):
        torch.testing.assert_close(values[row], inrs(coords)[row].roll(row, dims=0), atol=1e-6, rtol=0)


def test_the_flat_layout_goes_there_and_back(inrs):
    flat = inrs.flatten()

    back = INRBatch.from_flat(inrs.spec, flat)

    assert flat.shape == (5, inrs.spec.num_parameters)
    assert torch.equal(back.flatten(), flat)
    for mine, theirs in zip(back.weights + back.biases, inrs.weights + inrs.biases, strict=True):
        assert torch.equal(mine, theirs)
    assert back.weights[0].data_ptr() == flat.data_ptr(), "from_flat copied"
    assert inrs.flatten().data_ptr() != flat.data_ptr(), "flatten gave a view"


def test_the_flat_layout_is_that_of_torch_modules(inrs):
    modules = as_modules(inrs, 2)

    expected = torch.cat([parameter.detach().flatten() for parameter in modules.parameters()])

    assert torch.equal(inrs.flatten()[2], expected)
    assert [shape for _, shape in inrs.spec.parameter_shapes] == [tuple(p.shape) for p in modules.parameters()]


def test_parameters_have_names_shapes_and_sizes_in_their_order():
    spec = SirenSpec(3, 2, hidden_dim=4, num_hidden=2)

    assert spec.layer_shapes == ((4, 3), (4, 4), (2, 4))
    assert spec.parameter_shapes == (
        ("layers.0.weight", (4, 3)),
        ("layers.0.bias", (4,)),
        ("layers.1.weight", (4, 4)),
        ("layers.1.bias", (4,)),
        ("layers.2.weight", (2, 4)),
        ("layers.2.bias", (2,)),
    )
    assert spec.parameter_sizes == (12, 4, 16, 4, 8, 2)
    assert spec.num_parameters == 46
    assert SirenSpec(2, 1).num_parameters == 1185, "the field's 2-32-32-1"


def test_the_spec_goes_through_a_dictionary(inrs):
    assert SirenSpec.from_dict(inrs.spec.to_dict()) == inrs.spec


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"in_dim": 2, "out_dim": 1, "omega": 3}, "no field 'omega'"),
        ({"in_dim": 2}, "needs the field 'out_dim'"),
        ({}, "needs the field 'in_dim', got none"),
    ],
)
def test_a_dictionary_with_other_fields_is_no_spec(fields, message):
    with pytest.raises(UsageError, match=message):
        SirenSpec.from_dict(fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(name, value) for name in ("in_dim", "out_dim", "hidden_dim", "num_hidden") for value in (0, -1, 2.0, True)],
        ("hidden_dim", 10**12),
        ("num_hidden", 10**12),
        ("in_dim", "2"),
        ("omega_0", 0.0),
        ("omega_0", -30.0),
        ("omega_0", math.nan),
        ("omega_0", math.inf),
        ("omega_0", "30"),
        ("output_bias", math.nan),
        ("output_bias", None),
        ("start", "sirn"),
        ("activation", "tanh"),
    ],
)
def test_a_bad_field_of_a_spec_is_told_in_one_line(field, value):
    with pytest.raises(UsageError, match=field) as caught:
        SirenSpec(**{"in_dim": 2, "out_dim": 1, field: value})

    assert "\n" not in str(caught.value)
    assert str(value) in str(caught.value)


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
    with pytest.raises(UsageError, match="coords must be"):
        inrs(torch.zeros(4, inrs.spec.in_dim + 1))
    with pytest.raises(UsageError, match="coords must be"):
        inrs(torch.zeros(inrs.spec.in_dim))


def test_a_batch_of_none_works(inrs, coords):
    none = INRBatch.from_flat(inrs.spec, torch.empty(0, inrs.spec.num_parameters))

    for batch in (none, inrs.select(slice(0, 0)), inrs.select(torch.empty(0, dtype=torch.long)), none.to("cpu")):
        assert len(batch) == 0
        assert batch.flatten().shape == (0, inrs.spec.num_parameters)
        assert batch(coords).shape == (0, 64, inrs.spec.out_dim)
    assert torch.equal(INRBatch.cat([none, inrs, none]).flatten(), inrs.flatten())
    assert len(start_values(inrs.spec, [])) == 0


def test_select_and_cat_keep_the_order_they_are_given(inrs):
    order = torch.tensor([3, 1, 4, 0, 2])

    assert torch.equal(inrs.select(order).flatten(), inrs.flatten()[order])
    assert torch.equal(
        INRBatch.cat([inrs.select(slice(3, 5)), inrs.select(slice(0, 3))]).flatten(), inrs.flatten().roll(2, 0)
    )


def test_inrs_that_differ_in_their_output_bias_alone_are_not_stacked():
    one, other = (start_values(SirenSpec(2, 1, 4, output_bias=bias), [0]) for bias in (0.0, 0.5))

    with pytest.raises(UsageError, match=r"output_bias=0\.0.* and .*output_bias=0\.5"):
        INRBatch.cat([one, other])


def test_to_another_type_keeps_the_numbers(inrs, coords):
    double = inrs.to(torch.float64)

    assert double.dtype == torch.float64
    assert double(coords.double()).dtype == torch.float64
    assert torch.equal(double.to(torch.float32).flatten(), inrs.flatten())


@pytest.mark.parametrize("start", ["siren", "dwsnets", "linear"])
def test_start_values_come_from_their_seed_alone(start):
    spec = SirenSpec(2, 1, hidden_dim=4, start=start)

    together = start_values(spec, [5, 0, 2**63 - 1, 77]).flatten()

    for row, seed in enumerate([5, 0, 2**63 - 1, 77]):
        assert torch.equal(start_values(spec, [seed]).flatten()[0], together[row])
    assert torch.equal(start_values(spec, [77, 2**63 - 1, 0, 5]).flatten(), together.flip(0))
    assert len(torch.unique(together, dim=0)) == 4
    for other in (6, 5 + 2**32, 5 + 2**62):
        assert not torch.equal(start_values(spec, [other]).flatten()[0], together[0])


def test_start_values_leave_the_global_generator_alone():
    state = torch.get_rng_state()

    start_values(SirenSpec(2, 1, hidden_dim=4), range(3))

    assert torch.equal(torch.get_rng_state(), state)


def test_start_values_are_the_same_in_every_version():
    """Data sets are made again from these: whoever changes them changes every set that was published."""
    spec = SirenSpec(1, 1, hidden_dim=2, num_hidden=1, start="linear")

    uniform = start_values(spec, [12345]).flatten()[0] / start_bounds(spec)

    known = [-0.8840746, 0.2927604, 0.0895201, 0.5485351, 0.9234657, 0.5728725, 0.6894431]
    torch.testing.assert_close(uniform, torch.tensor(known), atol=1e-6, rtol=0)


def sine(inputs, omega_0):
    return math.sqrt(6 / inputs) / omega_0


@pytest.mark.parametrize("omega_0", [30.0, 7.0])
@pytest.mark.parametrize(
    ("start", "weights", "biases"),
    [
        ("siren", (lambda w: 1 / 3, lambda w: sine(4, w), lambda w: sine(4, w)), (3**-0.5, 0.5, 0.5)),
        ("dwsnets", (lambda w: sine(3, w), lambda w: sine(4, w), lambda w: 0.5), (0.0, 0.0, 0.5)),
        ("linear", (lambda w: 3**-0.5, lambda w: 0.5, lambda w: 0.5), (3**-0.5, 0.5, 0.5)),
    ],
)
def test_start_values_are_uniform_within_the_bounds_of_their_convention(start, weights, biases, omega_0):
    spec = SirenSpec(3, 2, hidden_dim=4, num_hidden=2, omega_0=omega_0, start=start)

    inrs = start_values(spec, range(600))

    bounds = [bound(omega_0) for bound in weights] + list(biases)
    for values, bound in zip(inrs.weights + inrs.biases, bounds, strict=True):
        if bound == 0:
            assert not values.any()
            continue
        scaled = (values / bound).flatten()
        assert float(scaled.abs().max()) <= 1 + 1e-6
        assert float(scaled.min()) < -0.98, "the bound is not reached"
        assert float(scaled.max()) > 0.98, "the bound is not reached"
        counts = torch.histc(scaled, bins=4, min=-1, max=1) / len(scaled)
        torch.testing.assert_close(counts, torch.full((4,), 0.25), atol=0.05, rtol=0)


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
