"""Encoders, normalizer and classifier, by their symmetries."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import torch
from support.specs import KINDS, names
from torch import Tensor, nn
from torch.nn import functional as F

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.classifier import Classifier, build_classifier
from inr_factory.learning.models.dws import DWSEncoder, DWSLayer, spaces_of
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.models.parity import ParityEncoder
from inr_factory.learning.models.registry import ENCODERS, build_encoder
from inr_factory.learning.models.set_layers import AttentionStack, DeepSetsStack, add_entries
from inr_factory.learning.transforms.symmetries import FlipSigns, ScaleReLU, ShiftPhases

SPECS = [
    SirenSpec(in_dim, out_dim, hidden_dim=6, num_hidden=num_hidden, omega_0=omega_0)
    for (in_dim, out_dim), num_hidden, omega_0 in [
        ((2, 1), 1, 30.0),
        ((2, 3), 1, 7.0),
        ((2, 1), 2, 7.0),
        ((3, 1), 2, 30.0),
        ((2, 3), 2, 30.0),
        ((2, 3), 3, 7.0),
        ((3, 1), 3, 30.0),
    ]
]
SYMMETRIC = [
    ("parity", {}),
    ("parity", {"points": True}),
    ("parity", {"frequencies": 2, "sine_path": False, "grid": 4}),
    ("dws", {"set_layer": "attention"}),
    ("dws", {"set_layer": "attention", "num_heads": 4, "batch_norm": False}),
    ("dws", {"set_layer": "deepsets"}),
    ("ng_gnn", {}),
    ("ng_gnn", {"num_probes": 3}),
    ("ng_t", {}),
    ("ng_t", {"num_probes": 3}),
    ("scalegmn", {}),
    ("probes", {}),
    ("probes", {"generator": False}),
    ("render", {}),
]
SMALL: dict[str, dict[str, int]] = {
    "mlp": {"hidden_dim": 8, "num_hidden": 2},
    "parity": {"hidden_dim": 8},
    "dws": {"hidden_dim": 8, "num_hidden": 2},
    "ng_gnn": {"hidden_dim": 32, "num_layers": 4},
    "ng_t": {"hidden_dim": 8, "edge_dim": 4, "num_heads": 2, "num_layers": 3},
    "scalegmn": {"hidden_dim": 8, "num_layers": 2},
    "probes": {"num_probes": 5, "hidden_dim": 8, "num_layers": 2},
    "render": {"resolution": 4, "hidden_dim": 4},
}
EVERY = [("mlp", {}), *SYMMETRIC]
FEW_KINDS = KINDS[::3]  # every activation, widths and encodings
WITH_BATCH_NORM = ["mlp", "dws"]


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(params=SPECS, ids=str)
def spec(request: pytest.FixtureRequest) -> SirenSpec:
    value: SirenSpec = request.param
    return value


def random_inrs(spec: SirenSpec, count: int, seed: int = 0) -> INRBatch:
    """INRs with values of order one, so that every part of them shows; in double precision, so that equal is equal."""
    generator = torch.Generator().manual_seed(seed)
    return INRBatch.from_flat(spec, torch.randn(count, spec.num_parameters, generator=generator, dtype=torch.float64))


def permuted(inrs: INRBatch, seed: int = 0, columns: bool = True) -> INRBatch:
    """Each INR's hidden layers, each in its own random order; without `columns` the next layer is not told."""
    generator = torch.Generator().manual_seed(seed)
    weights, biases = list(inrs.weights), list(inrs.biases)
    for layer in range(inrs.spec.num_hidden):
        order = torch.rand(biases[layer].shape, generator=generator).argsort(1)
        weights[layer] = torch.take_along_dim(weights[layer], order[:, :, None], dim=1)
        biases[layer] = torch.take_along_dim(biases[layer], order, dim=1)
        if columns:
            weights[layer + 1] = torch.take_along_dim(weights[layer + 1], order[:, None, :], dim=2)
    return INRBatch(inrs.spec, tuple(weights), tuple(biases))


def classifier(name: str, spec: SirenSpec, **options: object) -> Classifier:
    """A small one in evaluation mode whose normalizer and batch normalisation have statistics of their own."""
    normalizer = Normalizer.fit(spec, [initialize(spec, range(20))])
    model = build_classifier(name, spec, 4, normalizer, **SMALL[name], **options).double()
    model(random_inrs(spec, 20, seed=1))
    return model.eval()


def features_of(model: Classifier, inrs: INRBatch) -> Tensor:
    return model.encoder(model.normalizer(inrs, model.encoder.centred), inrs)


def differs(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() > 1e-5 * a.abs().max())


@pytest.mark.parametrize(("name", "options"), SYMMETRIC)
def test_symmetric_encoders_ignore_the_order_of_hidden_neurons(spec: SirenSpec, name: str, options: dict) -> None:
    model, inrs = classifier(name, spec, **options), random_inrs(spec, 5)
    moved = permuted(inrs)
    coords = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None].expand(9, spec.in_dim)
    torch.testing.assert_close(moved(coords), inrs(coords))

    features = features_of(model, inrs)

    torch.testing.assert_close(features_of(model, moved), features)
    torch.testing.assert_close(model(moved), model(inrs))
    assert differs(features[0], features[1]), "the encoder says the same of every INR"
    half = permuted(inrs, columns=False)
    assert differs(features, features_of(model, half)), "a permutation of rows alone is another function"


def test_the_mlp_does_not_ignore_the_order_of_hidden_neurons(spec: SirenSpec) -> None:
    model, inrs = classifier("mlp", spec), random_inrs(spec, 5)

    assert differs(model(inrs), model(permuted(inrs)))


@pytest.mark.parametrize("make", [AttentionStack, partial(AttentionStack, num_heads=2), DeepSetsStack])
def test_a_dws_layer_permutes_its_result_with_its_input(make: Callable[..., nn.Module]) -> None:
    spaces = spaces_of(in_dim=2, out_dim=3, num_hidden=3)
    layer = DWSLayer(spaces, 2, 4, make)
    orders = {axis: torch.randperm(6) for axis in (1, 2, 3)}
    tensors = [torch.randn(2 * space.folded, 3, *[6] * len(space.axes)) for space in spaces]

    def permute(tensors: list[Tensor]) -> list[Tensor]:
        moved = list(tensors)
        for index, space in enumerate(spaces):
            for dim, axis in enumerate(space.axes, start=2):
                moved[index] = moved[index].index_select(dim, orders[axis])
        return moved

    before, after = layer(tensors), layer(permute(tensors))

    for expected, got in zip(permute(before), after, strict=True):
        torch.testing.assert_close(got, expected)
    assert not torch.allclose(before[2], after[2]), "the permutation does not show"


@pytest.mark.parametrize("num_heads", [1, 2])
def test_the_attention_stack_is_its_formula_map_by_map(num_heads: int) -> None:
    stack = AttentionStack(3, 4, 6, num_heads)
    x = torch.randn(3, 4, 2, 5)

    for index, mapped in enumerate(stack(x).movedim(1, -1)):
        Q, K, V = (
            x[index].movedim(0, -1) @ part.weight[index] + part.bias[index]
            for part in (stack.query, stack.key, stack.value)
        )
        heads = [part.chunk(num_heads, dim=-1) for part in (Q, K, V)]
        A = torch.cat(
            [q + torch.softmax(q @ k.mT / 6**0.5, dim=-1) @ v for q, k, v in zip(*heads, strict=True)], dim=-1
        )
        torch.testing.assert_close(mapped, A + torch.relu(A @ stack.output.weight[index] + stack.output.bias[index]))


@pytest.mark.parametrize(
    "dtypes", [(torch.float64,) * 4, (torch.float32, torch.float32, torch.bfloat16, torch.bfloat16)]
)
@pytest.mark.parametrize("largest", [False, True])
def test_entries_are_their_map_with_rows_and_columns_added(dtypes: tuple[torch.dtype, ...], largest: bool) -> None:
    shapes = ((3, 2, 4, 5), (3, 6), (6, 2, 4), (6, 2, 5))
    parts = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape, dtype in zip(shapes, dtypes, strict=True)]
    with torch.autocast("cpu", torch.bfloat16, enabled=len(set(dtypes)) > 1):
        x, weight, rows, columns = parts
        expected = (weight.mT @ x.flatten(1)).view(6, 2, 4, 5) + rows[..., None] + columns[:, :, None]
        expected = expected.amax((2, 3)) if largest else expected

        got = add_entries(x, weight, rows, columns, largest)

    torch.testing.assert_close(got, expected)
    slope = torch.randn_like(expected)
    gradients = [torch.autograd.grad((result * slope).sum(), parts) for result in (expected, got)]
    for plain, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize(
    ("options", "logits", "slopes", "state"),
    [
        ({"num_heads": 2, "batch_norm": False}, (-0.10715, -0.07356, -0.11413), (0.97042, 1.49302), "05481b8e30131bee"),
        ({}, (0.08097, -0.03234, -0.51134), (25.74413, 8.36088), "6572445f2290746d"),
        ({"set_layer": "deepsets"}, (0.08827, 0.30907, 0.12059), (9.66156, 5.15287), "2bf2c4d613fa221a"),
    ],
)
def test_dws_computes_with_the_parameters_of_old_checkpoints_what_it_did(
    options: dict, logits: tuple[float, ...], slopes: tuple[float, ...], state: str
) -> None:
    """Figures of commit 7db3e46: the first INR's logits, the sum of each layer's gradients, names and shapes."""
    spec = SirenSpec(2, 3, hidden_dim=6, num_hidden=3)
    model = build_classifier("dws", spec, 3, hidden_dim=4, num_hidden=1, canonical=True, **options)
    got = model(initialize(spec, range(4)))
    F.cross_entropy(got, torch.eye(3)[[0, 1, 2, 0]]).backward()
    sums = [
        sum(float(p.grad.abs().sum()) for name, p in model.named_parameters() if f"layers.{layer}." in name)
        for layer in (0, 1)
    ]
    shapes = json.dumps([(name, list(value.shape)) for name, value in model.state_dict().items()])

    torch.testing.assert_close(got[0], torch.tensor(logits), rtol=0, atol=5e-5)
    assert sums == pytest.approx(slopes, rel=1e-3)
    assert hashlib.sha256(shapes.encode()).hexdigest().startswith(state)


@pytest.mark.parametrize("index", range(8))
def test_every_space_reaches_every_other(index: int) -> None:
    spaces = spaces_of(in_dim=2, out_dim=3, num_hidden=3)
    layer = DWSLayer(spaces, 2, 4, DeepSetsStack)
    tensors = [torch.randn(2 * space.folded, 2, *[5] * len(space.axes)) for space in spaces]
    changed = [x + torch.randn_like(x) if i == index else x for i, x in enumerate(tensors)]

    for before, after in zip(layer(tensors), layer(changed), strict=True):
        assert differs(before, after)


def test_a_dws_layer_is_the_mean_of_one_map_from_each_space() -> None:
    """With weights 0 and biases 1 every map says 1, the four Linears of an interior weight together as well."""
    spaces = spaces_of(in_dim=2, out_dim=3, num_hidden=3)
    layer = DWSLayer(spaces, 2, 4, DeepSetsStack)
    for name, parameter in layer.named_parameters():
        nn.init.constant_(parameter, 1.0 if name.endswith("bias") else 0.0)

    for mapped in layer([torch.randn(2 * space.folded, 2, *[5] * len(space.axes)) for space in spaces]):
        torch.testing.assert_close(mapped, torch.ones_like(mapped))


def test_the_last_weight_is_free_to_answer_otherwise_for_each_output() -> None:
    """Navon et al.'s code gives every output the same from the layer before."""
    spaces = spaces_of(in_dim=2, out_dim=3, num_hidden=3)
    layer = DWSLayer(spaces, 1, 4, AttentionStack)
    before_last, last = 4, 6  # W_2 and W_3 among W_0, b_0, W_1, ...
    tensors = [torch.zeros(space.folded, 2, *[5] * len(space.axes)) for space in spaces]
    silent = layer(tensors)[last]
    tensors[before_last] = torch.randn_like(tensors[before_last])

    answer = (layer(tensors)[last] - silent).unflatten(0, (3, 4))

    assert differs(answer[0], answer[1])
    assert differs(answer[..., 0], answer[..., 1]), "nothing of the order of neurons arrives"


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_rows_of_a_batch_do_not_meet(name: str, options: dict) -> None:
    spec = SPECS[4]
    model, inrs = classifier(name, spec, **options), random_inrs(spec, 5)

    torch.testing.assert_close(model(inrs.select(slice(1, 3))), model(inrs)[1:3])


@pytest.mark.parametrize(("name", "options"), SYMMETRIC)
def test_the_same_parameters_read_inrs_of_any_width(name: str, options: dict) -> None:
    narrow, wide = SPECS[4], replace(SPECS[4], hidden_dim=11)
    encoder = build_encoder(name, narrow, **SMALL[name], **options).double().eval()
    other = build_encoder(name, wide, **SMALL[name], **options).double().eval()
    other.load_state_dict(encoder.state_dict())
    inrs = random_inrs(wide, 3)

    torch.testing.assert_close(other(inrs), encoder(inrs))
    assert encoder(random_inrs(narrow, 3)).shape == (3, encoder.features)


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_gradients_reach_every_parameter(spec: SirenSpec, name: str, options: dict) -> None:
    """Without batch normalisation, which subtracts biases; a key's bias falls out of the softmax, too."""
    plain = {"batch_norm": False} if name in WITH_BATCH_NORM else {}
    model = build_classifier(name, spec, 4, **SMALL[name], **{**options, **plain}).double()

    model(random_inrs(spec, 8)).square().sum().backward()

    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        if not parameter_name.endswith("key.bias"):
            assert bool(parameter.grad.abs().max() > 0), parameter_name


@pytest.mark.parametrize(
    ("options", "published"),
    [({"hidden_dim": 16, "num_hidden": 2}, 77_354), ({"hidden_dim": 32, "num_hidden": 4}, 552_650)],
)
@pytest.mark.parametrize("hidden_dim", [32, 5])
def test_dws_has_the_published_number_of_parameters_at_any_width(
    options: dict, published: int, hidden_dim: int
) -> None:
    model = build_classifier("dws", SirenSpec(2, 1, hidden_dim), 10, **options)

    assert sum(parameter.numel() for parameter in model.parameters()) == published


def test_the_normalizer_standardises_each_layer_however_the_inrs_are_batched(spec: SirenSpec) -> None:
    inrs = initialize(spec, range(30))
    whole = Normalizer.fit(spec, [inrs])
    streamed = Normalizer.fit(spec, (inrs.select(slice(begin, begin + 7)) for begin in range(0, 30, 7)))
    before = inrs.flatten()

    normal = whole(inrs)

    torch.testing.assert_close(streamed.state_dict(), whole.state_dict())
    for tensor in (*normal.weights, *normal.biases):
        torch.testing.assert_close(tensor.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
        torch.testing.assert_close(tensor.std(correction=0), torch.tensor(1.0), atol=1e-5, rtol=0)
    assert torch.equal(inrs.flatten(), before), "the input batch was changed in place"
    torch.testing.assert_close(whole(permuted(inrs)).flatten(), permuted(whole(inrs)).flatten(), atol=0, rtol=0)


def test_a_layer_without_spread_is_normalised_to_zero() -> None:
    spec = replace(SPECS[2], start="dwsnets")  # sine biases start at 0
    inrs = initialize(spec, range(4))

    normal = Normalizer.fit(spec, [inrs])(inrs)

    assert torch.equal(normal.biases[0], torch.zeros(4, 6))
    assert bool(normal.flatten().isfinite().all())


def test_the_normalizer_refuses_nothing_nan_and_other_specs() -> None:
    spec = SPECS[2]
    broken = random_inrs(spec, 2).flatten()
    broken[1, 3] = torch.nan
    with pytest.raises(UsageError, match="at least one INR"):
        Normalizer.fit(spec, [])
    with pytest.raises(UsageError, match="NaN or infinite"):
        Normalizer.fit(spec, [random_inrs(spec, 2), INRBatch.from_flat(spec, broken)])
    with pytest.raises(UsageError, match=r"omega_0 7\.0, got omega_0 8\.0"):
        Normalizer.fit(spec, [random_inrs(replace(spec, omega_0=8.0), 2)])


@pytest.mark.parametrize("name", ENCODERS)
def test_a_classifier_refuses_inrs_of_another_spec(name: str) -> None:
    model = classifier(name, SPECS[2])

    with pytest.raises(UsageError, match=r"omega_0 7\.0, got omega_0 30\.0"):
        model(random_inrs(replace(SPECS[2], omega_0=30.0), 2))
    with pytest.raises(UsageError, match="hidden_dim 6, got hidden_dim 7"):
        model(random_inrs(replace(SPECS[2], hidden_dim=7), 2))
    with pytest.raises(UsageError, match="got 2-6-6-3"):
        model.encoder(random_inrs(SPECS[4], 2))


def test_a_classifier_refuses_one_class_and_parts_of_another_spec() -> None:
    encoder = build_encoder("mlp", SPECS[2])
    with pytest.raises(UsageError, match="at least two classes, got 1"):
        Classifier(SPECS[2], 1, encoder)
    with pytest.raises(UsageError, match="cannot use a MLPEncoder made for 2-6-6-1"):
        Classifier(SPECS[3], 4, encoder)
    with pytest.raises(UsageError, match=r"a model needs an INRBatch, got torch\.Tensor; INRBatch\.from_flat"):
        Classifier(SPECS[2], 4, encoder)(torch.zeros(2, SPECS[2].num_parameters))
    with pytest.raises(UsageError, match="cannot use a Normalizer made for 3-6-6-1"):
        Classifier(SPECS[2], 4, encoder, Normalizer(SPECS[3]))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dvs", {}, "no encoder is called 'dvs'; did you mean 'dws'"),
        ("dws", {"hiden_dim": 8}, "dws has no option 'hiden_dim'; did you mean 'hidden_dim'"),
        ("dws", {"set_layer": "attn"}, "must be attention or deepsets, got 'attn'"),
        ("dws", {"hidden_dim": 8, "num_heads": 3}, "must divide hidden_dim 8, got 3"),
        ("dws", {"num_hidden": 0}, "num_hidden of dws must be a whole number from 1 to 65,536, got 0"),
        ("mlp", {"hidden_dim": 2.5}, r"hidden_dim of mlp must be a whole number from 1 to 65,536, got 2\.5"),
        ("mlp", {"hidden_dim": 10**20}, "hidden_dim of mlp must be a whole number from 1 to 65,536, got 1000"),
        ("ng_gnn", {"num_layers": 10**9}, "num_layers of ng_gnn must be a whole number from 1 to 65,536"),
        ("parity", {"points": 3}, "points of parity must be true or false, got 3"),
        ("mlp", {"dropout": 1.0}, "dropout of mlp must be at least 0 and below 1"),
    ],
)
def test_unknown_encoders_and_options_are_refused_with_a_hint(name: str, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_encoder(name, SPECS[2], **options)


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_a_description_builds_the_same_classifier(name: str, options: dict) -> None:
    model, inrs = classifier(name, SPECS[4], **options), random_inrs(SPECS[4], 3)

    again = Classifier.from_description(model.describe()).double().eval()
    again.load_state_dict(model.state_dict())

    assert again.describe() == model.describe()
    assert torch.equal(again(inrs), model(inrs))


def test_a_classifier_starts_from_its_seed_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (build_classifier("dws", SPECS[2], 4, seed=seed, **SMALL["dws"]) for seed in (1, 1, 2))

    assert torch.equal(torch.get_rng_state(), state), "the global generator moved"
    for (name, a), b, c in zip(one.named_parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert "norm" in name or not torch.equal(a, c), name


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_batch_normalisation_refuses_to_train_on_one_inr(name: str) -> None:
    model = build_classifier(name, SPECS[2], 4, **SMALL[name]).double()

    with pytest.raises(UsageError, match="at least 2 INRs, got 1"):
        model(random_inrs(SPECS[2], 1))
    assert model.eval()(random_inrs(SPECS[2], 1)).shape == (1, 4)


def test_dropout_acts_in_training_alone() -> None:
    encoder = DWSEncoder(SPECS[2], **SMALL["dws"], dropout=0.5, batch_norm=False).double()
    inrs = random_inrs(SPECS[2], 4)

    one, other = encoder(inrs), encoder(inrs)
    kept = (one != 0) & (other != 0)
    assert bool(kept.any() and (one == 0).any() and (one != other)[kept].any()), "it does not act between the layers"
    assert torch.equal(encoder.eval()(inrs), encoder(inrs))


@pytest.mark.parametrize("name", ["mlp", "dws"])
def test_a_canonical_classifier_does_not_see_signs_and_phases_and_a_plain_one_does(name):
    inrs = initialize(SirenSpec(2, 1, hidden_dim=8, omega_0=7.0), range(6))
    moved = ShiftPhases(max_k=1)(FlipSigns()(inrs, torch.Generator().manual_seed(1)), torch.Generator().manual_seed(2))
    reads = {c: build_classifier(name, inrs.spec, 3, canonical=c).eval() for c in (True, False)}

    torch.testing.assert_close(reads[True](moved), reads[True](inrs), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(reads[False](moved), reads[False](inrs), atol=1e-2)
    again = Classifier.from_description(reads[True].describe())
    assert again.canonical


@pytest.mark.parametrize("options", [{}, {"points": True}, {"frequencies": 8, "sine_path": False, "grid": 4}])
def test_parity_does_not_see_signs_and_phases_and_has_no_need_of_a_canonical_form(
    spec: SirenSpec, options: dict
) -> None:
    model, inrs = classifier("parity", spec, **options), random_inrs(spec, 5)
    for move in (FlipSigns(), ShiftPhases(max_k=2)):
        moved = move(inrs, torch.Generator().manual_seed(1))
        assert differs(moved.flatten(), inrs.flatten())
        torch.testing.assert_close(features_of(model, moved), features_of(model, inrs), atol=1e-9, rtol=1e-7)


def test_a_sign_or_phase_on_one_side_of_a_neuron_alone_shows_to_parity(spec: SirenSpec) -> None:
    model, inrs = classifier("parity", spec), random_inrs(spec, 5)
    for layer in range(spec.num_hidden):
        weights, biases = list(inrs.weights), list(inrs.biases)
        sign = torch.ones(spec.hidden_dim, dtype=torch.float64)
        sign[0] = -1
        biases[layer] = biases[layer] * sign
        assert differs(model(INRBatch(spec, inrs.weights, tuple(biases))), model(inrs)), "the bias alone"
        weights[layer] = weights[layer] * sign[:, None]
        assert differs(model(INRBatch(spec, tuple(weights), tuple(biases))), model(inrs)), "without what goes out"


def test_parity_with_points_can_be_what_the_inr_shows_there() -> None:
    spec = SirenSpec(2, 1, hidden_dim=6, num_hidden=2, omega_0=7.0)
    inrs = random_inrs(spec, 3)
    encoder = build_encoder("parity", spec, hidden_dim=5, points=True, frequencies=4).double()
    for layer in encoder.layers:
        for linear in (layer.mlp[-1], layer.past_odd, layer.past_even):
            for parameter in linear.parameters():
                nn.init.zeros_(parameter)
    coords = encoder.layers[0].look
    assert bool((coords.abs() <= 1).all())
    observed: list[Tensor] = []
    encoder.last.register_forward_pre_hook(lambda _, given: observed.append(given[0]))

    encoder(inrs)

    shown = inrs(coords)[:, :, 0] - inrs.biases[-1]
    torch.testing.assert_close(observed[0][:, 0, :5], 5**0.5 * F.normalize(shown, dim=1))


def test_parity_reads_relu_inrs_without_signs_and_without_points() -> None:
    spec = SirenSpec(2, 1, hidden_dim=6, activation="relu", start="linear")
    encoder, inrs = build_encoder("parity", spec, hidden_dim=8).double().eval(), random_inrs(spec, 4)
    torch.testing.assert_close(encoder(permuted(inrs)), encoder(inrs))
    assert differs(encoder(permuted(inrs, columns=False)), encoder(inrs))
    with pytest.raises(UsageError, match=r"points of parity must be false for .*relu.*; got True"):
        build_encoder("parity", spec, points=True)


def supported(name: str, options: dict, spec: SirenSpec) -> bool:
    return spec.is_odd or not (name == "scalegmn" or options.get("points"))


@pytest.mark.parametrize(("name", "options"), EVERY)
@pytest.mark.parametrize("kind", FEW_KINDS, ids=names(FEW_KINDS))
def test_encoders_read_inrs_of_every_kind_or_refuse_in_one_line(name: str, options: dict, kind: SirenSpec) -> None:
    if not supported(name, options, kind):
        with pytest.raises(UsageError, match=rf"^[^\n]*{name}[^\n]*{kind.activation}[^\n]*$"):
            classifier(name, kind, **options)
        return
    model, inrs = classifier(name, kind, **options), random_inrs(kind, 6)

    if name != "mlp":
        torch.testing.assert_close(model(permuted(inrs)), model(inrs))
        assert differs(features_of(model, inrs), features_of(model, permuted(inrs, columns=False)))
    model.train()
    model(inrs).square().sum().backward()

    still = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", ["mlp", "dws", "ng_gnn", "probes"])
@pytest.mark.parametrize("kind", FEW_KINDS, ids=names(FEW_KINDS))
def test_a_canonical_classifier_ignores_the_symmetries_of_every_activation(name: str, kind: SirenSpec) -> None:
    plain, canonical = (
        build_classifier(name, kind, 3, canonical=canonical, **SMALL[name]).double().eval()
        for canonical in (False, True)
    )
    inrs, generator = random_inrs(kind, 5), torch.Generator().manual_seed(0)
    transform = {"sine": ShiftPhases(), "relu": ScaleReLU()}.get(kind.activation, FlipSigns())
    moved = transform(inrs, generator)

    torch.testing.assert_close(canonical(moved), canonical(inrs))
    assert name == "probes" or differs(plain(moved), plain(inrs))


@pytest.mark.parametrize(("name", "options"), [case for case in SYMMETRIC if case[0] in ("parity", "scalegmn")])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.is_odd], ids=str)
def test_parity_and_scalegmn_ignore_signs_of_all_odd_activations(name: str, options: dict, kind: SirenSpec) -> None:
    model, inrs = classifier(name, kind, **options), random_inrs(kind, 5)
    flipped = FlipSigns()(inrs, torch.Generator().manual_seed(0))

    torch.testing.assert_close(model(flipped), model(inrs))
    wrong = replace(flipped, weights=(*flipped.weights[:-1], inrs.weights[-1]))
    assert differs(model(wrong), model(inrs))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.is_odd], ids=str)
def test_parity_can_evaluate_inrs_of_every_odd_activation(kind: SirenSpec) -> None:
    inrs = random_inrs(kind, 2)
    layer = build_encoder("parity", kind, hidden_dim=4, points=True).double().layers[0]
    for part in (layer.odd, layer.even, *layer.mlp):
        for parameter in part.parameters():
            parameter.data.zero_()
    scale = 1.0 if kind.activation == "tanh" else kind.omega_0
    W, b = inrs.weights[0], inrs.biases[0][..., None]

    odd = layer(W, W.square(), scale * W, scale * b).odd

    _, expected, *_ = inrs.activations(layer.look)
    torch.testing.assert_close(odd, expected.mT)


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_encoders_refuse_inrs_of_another_activation_or_encoding_in_one_line(name: str) -> None:
    spec = SirenSpec(2, 1, hidden_dim=6)
    model = build_encoder(name, spec, **SMALL[name]).double().eval()
    for change in ({"activation": "tanh"}, {"frequencies": 2}, {"frequencies": 2, "coordinates": False}):
        with pytest.raises(
            UsageError, match=rf"^this {name} encoder takes [^\n]*differ in [^\n]*{next(iter(change))}[^\n]*$"
        ):
            model(random_inrs(replace(spec, **change), 2))
    encoded = replace(spec, frequencies=2)
    with pytest.raises(UsageError, match="differ in first_frequency"):
        build_encoder(name, encoded, **SMALL[name]).double().eval()(
            random_inrs(replace(encoded, first_frequency=1.0), 2)
        )
    with pytest.raises(
        UsageError, match=r"^this classifier was made for INRs of frequencies 2[^\n]*, got frequencies 0"
    ):
        build_classifier(name, encoded, 3, **SMALL[name])(random_inrs(spec, 2))


def test_a_dws_encoder_of_equal_widths_refuses_others_in_one_line() -> None:
    model = build_encoder("dws", SirenSpec(2, 1, hidden_dim=6), hidden_dim=8)
    with pytest.raises(UsageError, match=r"^this dws encoder takes[^\n]*one width for all layers; got 2-6-4-1[^\n]*$"):
        model(initialize(SirenSpec(2, 1, widths=(6, 4)), range(3)))


def test_parity_sees_amplitudes_unless_it_is_told_not_to() -> None:
    """Faults, section 5: contrast times 3 and the last bias times 10 changed nothing."""
    inrs = random_inrs(SPECS[0], 4)
    louder = INRBatch(inrs.spec, (*inrs.weights[:-1], 3 * inrs.weights[-1]), (*inrs.biases[:-1], 3 * inrs.biases[-1]))
    shifted = INRBatch(inrs.spec, inrs.weights, (*inrs.biases[:-1], 10 * inrs.biases[-1]))
    for amplitudes in (True, False):
        encoder = build_encoder("parity", SPECS[0], hidden_dim=8, amplitudes=amplitudes).double().eval()
        assert differs(encoder(louder), encoder(inrs)) == amplitudes
        assert differs(encoder(shifted), encoder(inrs)) == amplitudes
        torch.testing.assert_close(encoder(permuted(inrs)), encoder(inrs))


def test_parity_reads_weights_alone_unless_it_may_evaluate_neurons() -> None:
    spec = SirenSpec(2, 1, hidden_dim=6)
    for sine_path, points in product((False, True), repeat=2):
        encoder = build_encoder("parity", spec, sine_path=sine_path, points=points)
        evaluates = any("look" in name for name, _ in encoder.named_parameters())
        assert evaluates == (sine_path or points) == (encoder.reads == "weights and probes")
        assert encoder.reads in ("weights", "weights and probes")


@pytest.mark.parametrize(("in_dim", "out_dim", "points"), [(1, 1, 4), (2, 3, 16), (3, 1, 64)])
def test_parity_with_a_grid_draws_a_picture_of_weights_alone(in_dim: int, out_dim: int, points: int) -> None:
    spec = SirenSpec(in_dim, out_dim, hidden_dim=6)
    encoder, inrs = build_encoder("parity", spec, hidden_dim=8, sine_path=False, grid=4).double(), random_inrs(spec, 4)
    read: list[Tensor] = []
    encoder.stages.register_forward_pre_hook(lambda _, given: read.append(given[0]))

    features = encoder(inrs)

    assert encoder.picture is not None
    assert encoder.picture.shape == (points, in_dim)
    drawn = features[:, -points * out_dim :].view(4, points, out_dim)
    torch.testing.assert_close(read[0][:, :out_dim].flatten(2).mT, drawn)
    assert features.shape == (4, encoder.features)
    assert encoder.reads == "weights"
    with pytest.raises(UsageError, match="parity"):
        encoder(inrs[:1])


@pytest.mark.parametrize(
    ("in_dim", "grid", "message"),
    [
        (2, 3, "grid of parity must be a whole number of at least 4.*got 3"),
        (2, False, "grid of parity must be a whole number of at least 4.*got False"),
        (3, 1000, "grid of parity must be .* at most 4,194,304 points in all, got 1000"),
        (4, 8, "grid of parity must be 0 for INRs of more than 3 inputs, got 4-6"),
    ],
)
def test_a_grid_that_parity_cannot_draw_is_refused(in_dim: int, grid: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_encoder("parity", SirenSpec(in_dim, 1, hidden_dim=6), grid=grid)


def test_parity_without_frequencies_is_that_of_version_0_1() -> None:
    """Figures of version 0.1, for parameters and weights that are sines and cosines of their numbers."""
    spec = SirenSpec(2, 1, hidden_dim=6, num_hidden=2, omega_0=7.0)
    encoder = build_encoder(
        "parity", spec, hidden_dim=4, **{**ParityEncoder.former_options, "amplitudes": True}
    ).double()
    with torch.no_grad():
        for number, parameter in enumerate(encoder.parameters()):
            parameter.copy_(torch.sin(torch.arange(parameter.numel()) * 1.3 + number).view_as(parameter))
    size = sum(outputs * (inputs + 1) for outputs, inputs in spec.layer_shapes)
    inrs = INRBatch.from_flat(spec, 0.3 * torch.cos(torch.arange(2 * size) * 0.7).double().view(2, size))

    expected = [[-0.1051062786, 0.5411874979, -0.1020226952, 1.0888906203],
                [-0.1081957604, 1.1765745899, -0.1651775283, 1.2476028929]]  # fmt: skip
    torch.testing.assert_close(encoder(inrs), torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=1e-6)
