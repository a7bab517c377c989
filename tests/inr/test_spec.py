"""The spec of INRs: shapes, and one line for every wrong field."""

import math

import pytest

from inr_factory.errors import UsageError
from inr_factory.inr.spec import SirenSpec


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


def test_another_omega_0_of_the_first_layer_is_a_part_of_the_spec_only_where_there_is_one():
    plain, other = SirenSpec(1, 1, omega_0=30.0), SirenSpec(1, 1, omega_0=30.0, first_omega_0=3000.0)
    assert SirenSpec(1, 1, omega_0=30.0, first_omega_0=30.0) == plain != other
    assert "first_omega_0" not in plain.to_dict(), "versions of before could not read it"
    assert SirenSpec.from_dict(other.to_dict()) == other
    assert (plain.first_factor, other.first_factor) == (1, 100)
    assert "omega_0 30, first 3000" in str(other)
    with pytest.raises(UsageError, match="None for INRs of other activations"):
        SirenSpec(1, 1, activation="relu", start="linear", first_omega_0=3000.0)


def test_widths_are_those_of_each_hidden_layer():
    spec = SirenSpec(2, 1, widths=(16, 4, 8))
    assert spec.layer_shapes == ((16, 2), (4, 16), (8, 4), (1, 8))
    assert (spec.hidden_dim, spec.num_hidden, spec.hidden_dims) == (16, 3, (16, 4, 8))
    assert str(spec).startswith("2-16-4-8-1")
    assert SirenSpec.from_dict(spec.to_dict()) == spec != SirenSpec(2, 1, hidden_dim=16, num_hidden=3)
    assert spec.to_dict()["widths"] == [16, 4, 8], "as JSON has it"
    assert SirenSpec(2, 1, widths=[7, 7, 7]) == SirenSpec(2, 1, hidden_dim=7, num_hidden=3)


def test_a_positional_encoding_widens_the_first_layer():
    spec = SirenSpec(3, 1, frequencies=4, first_frequency=1.0, hidden_dim=128, num_hidden=3, activation="relu")
    assert spec.layer_shapes[0] == (128, 27)
    assert spec.num_parameters == 36_737, "the nets of HyperDiffusion"
    assert SirenSpec.from_dict(spec.to_dict()) == spec
    assert "4 frequencies" in str(spec)
    assert SirenSpec(3, 1, frequencies=4, coordinates=False).encoded_dim == 24


def test_versions_of_before_read_specs_that_have_nothing_newer():
    assert set(SirenSpec(2, 1).to_dict()) == {
        "in_dim", "out_dim", "hidden_dim", "num_hidden", "omega_0", "output_bias", "start", "activation",
    }  # fmt: skip


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
        ("first_omega_0", 0.0),
        ("first_omega_0", -3.0),
        ("first_omega_0", math.inf),
        ("first_omega_0", "30"),
        ("output_bias", math.nan),
        ("output_bias", None),
        ("start", "sirn"),
        ("activation", "selu"),
        *[("widths", value) for value in ((), 32, (0, 8), (8, -1), (8, 2.0), (True,), (8, 10**12), "32")],
        *[("frequencies", value) for value in (-1, 33, 2.0, True, None)],
        *[("first_frequency", value) for value in (0.0, -1.0, math.inf, "pi", None)],
        *[("coordinates", value) for value in (False, 1, None)],
    ],
)
def test_a_bad_field_of_a_spec_is_refused_in_one_line(field, value):
    with pytest.raises(UsageError, match=field) as caught:
        SirenSpec(**{"in_dim": 2, "out_dim": 1, field: value})

    assert "\n" not in str(caught.value)
    assert str(value) in str(caught.value)
