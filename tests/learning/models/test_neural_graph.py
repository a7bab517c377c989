"""Graph encoders: blocks say what all pairs say, symmetries and what is none of them, through normalisation."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inr_factory.benchmarks.dense_ng_t import dense_ng_t
from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.classifier import Classifier, build_classifier
from inr_factory.learning.models.ng_gnn import NGGNNEncoder
from inr_factory.learning.models.ng_t import NGTransformerEncoder
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.models.pair_attention import pair_logits, pair_values
from inr_factory.learning.models.registry import build_encoder
from inr_factory.learning.models.scalegmn import EdgeUpdate, Even, Messages, NodeUpdate, Odd
from inr_factory.learning.transforms.symmetries import FlipSigns, PermuteNeurons

SPECS = [
    SirenSpec(in_dim, out_dim, hidden_dim=5, num_hidden=num_hidden, omega_0=omega_0)
    for in_dim, out_dim, num_hidden, omega_0 in [
        (2, 1, 2, 30.0),
        (2, 3, 2, 7.0),
        (3, 1, 2, 7.0),
        (2, 1, 3, 7.0),
        (2, 3, 3, 30.0),
        (3, 1, 3, 7.0),
    ]
]
SMALL: dict[str, dict[str, int]] = {
    "ng_gnn": {"hidden_dim": 16},
    "ng_t": {"hidden_dim": 8, "edge_dim": 4, "num_heads": 2, "num_layers": 2},
    "scalegmn": {"hidden_dim": 8, "num_layers": 1},
}
PROBED = [("ng_gnn", 0), ("ng_gnn", 4), ("ng_t", 0), ("ng_t", 4), ("scalegmn", 0)]


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(params=SPECS, ids=str)
def spec(request: pytest.FixtureRequest) -> SirenSpec:
    value: SirenSpec = request.param
    return value


def random_inrs(spec: SirenSpec, count: int = 3, seed: int = 0) -> INRBatch:
    """Values of order one half, off zero in the mean, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    flat = torch.randn(count, spec.num_parameters, generator=generator, dtype=torch.float64)
    return INRBatch.from_flat(spec, 0.5 * flat + 0.2)


def reader(name: str, spec: SirenSpec, num_probes: int = 0) -> Classifier:
    """A small one in evaluation mode, behind a normalizer with means and spreads of its own."""
    options = SMALL[name] | ({"num_probes": num_probes} if num_probes else {})
    normalizer = Normalizer.fit(spec, [random_inrs(spec, 20, seed=1)])
    assert float(normalizer.weight_mean.abs().min()) > 0.05
    return build_classifier(name, spec, 4, normalizer, **options).double().eval()


def differs(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() > 1e-8 * a.abs().max())


def gradients(encoder: nn.Module, features: Tensor) -> dict[str, Tensor]:
    encoder.zero_grad()
    (features * torch.linspace(-1, 2, features.numel(), dtype=features.dtype).view_as(features)).sum().backward()
    return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"num_layers": 3, "num_probes": 4}, {"num_layers": 4}], ids=str)
def test_the_transformer_by_blocks_is_the_one_over_all_pairs(spec: SirenSpec, options: dict) -> None:
    encoder = NGTransformerEncoder(spec, **SMALL["ng_t"] | options, dropout=0.0).double()
    inrs = random_inrs(spec)

    by_blocks, dense = encoder(inrs), dense_ng_t(encoder, inrs)

    torch.testing.assert_close(by_blocks, dense, atol=1e-9, rtol=0)
    ours, theirs = gradients(encoder, by_blocks), gradients(encoder, dense)
    assert ours.keys() == theirs.keys() == dict(encoder.named_parameters()).keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], atol=1e-8, rtol=1e-6, msg=name)


def test_in_single_precision_blocks_and_all_pairs_agree_to_a_hundred_thousandth() -> None:
    encoder = NGTransformerEncoder(SirenSpec(2, 1), dropout=0.0)
    inrs = random_inrs(SirenSpec(2, 1)).to(torch.float32)

    by_blocks, dense = encoder(inrs), dense_ng_t(encoder, inrs)

    torch.testing.assert_close(by_blocks, dense, atol=1e-5, rtol=0)
    theirs = gradients(encoder, dense)
    for name, gradient in gradients(encoder, by_blocks).items():
        torch.testing.assert_close(gradient, theirs[name], atol=1e-5 * float(theirs[name].abs().max()) + 1e-5, rtol=0)


def test_the_gradients_of_pair_attention_are_those_of_its_values() -> None:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    pairs, query, key, value, attention = (
        draw(2, 3, 4, 5),
        draw(2, 3, 6),
        draw(2, 4, 6),
        draw(2, 4, 6),
        draw(2, 3, 4, 2),
    )
    Q, K, A = draw(6, 5), draw(6, 5), draw(6, 5)

    assert torch.autograd.gradcheck(lambda *given: pair_logits(*given, 2), (pairs, query, key, Q, K))
    assert torch.autograd.gradcheck(pair_values, (pairs, attention, value, A))


def dense_ng_gnn(encoder: NGGNNEncoder, inrs: INRBatch) -> Tensor:
    """The same by V x V tensors, [to, from], with all nodes and edges kept up in every layer."""
    nodes = torch.cat(encoder.nodes(inrs, inrs), dim=1)
    widths = [inrs.spec.in_dim, *[outputs for outputs, _ in inrs.spec.layer_shapes]]
    places = [slice(begin, end) for begin, end in pairwise(accumulate(widths, initial=0))]
    edges = nodes.new_zeros(len(inrs), sum(widths), sum(widths), nodes.shape[-1])
    real = torch.zeros(sum(widths), sum(widths), dtype=torch.bool)
    for (before, after), W in zip(pairwise(places), inrs.weights, strict=True):
        edges[:, after, before], edges[:, before, after] = encoder.edges(W, 0), encoder.edges(W, 1).transpose(1, 2)
        real[after, before] = real[before, after] = True
    degree = real.sum(1, keepdim=True)
    logs = (degree + 1.0).log().to(nodes)
    for depth, conv in enumerate(encoder.convolutions):
        size = nodes.shape[1]
        own, other = nodes.unsqueeze(2).expand(-1, -1, size, -1), nodes.unsqueeze(1).expand(-1, size, -1, -1)
        scale, shift = conv.edge(edges).chunk(2, dim=-1)
        messages = scale * conv.pair(torch.cat([own, other], dim=-1)) + shift
        here = real[:, :, None]
        mean = (messages * here).sum(2) / degree
        square = (messages.square() * here).sum(2) / degree
        low, high = messages.masked_fill(~here, torch.inf).amin(2), messages.masked_fill(~here, -torch.inf).amax(2)
        observed = torch.cat([mean, low, high, (square - mean**2).clamp(min=1e-5).sqrt()], dim=-1)
        nodes = conv.out(conv.join(torch.cat([nodes, observed, observed * logs / logs.mean()], dim=-1)))
        if depth < len(encoder.norms):
            nodes = F.silu(encoder.norms[depth](nodes))
            update = encoder.edge_updates[depth]
            ends = update.source(nodes).unsqueeze(1) + update.target(nodes).unsqueeze(2)
            edges = update.out(F.silu(update.edge(edges) + ends))
    return encoder.readout(nodes[:, places[-1]].flatten(1))


@pytest.mark.parametrize(("num_layers", "num_probes"), [(4, 0), (6, 4)])
def test_the_gnn_by_blocks_is_the_one_over_all_pairs(spec: SirenSpec, num_layers: int, num_probes: int) -> None:
    encoder = NGGNNEncoder(spec, hidden_dim=8, num_layers=num_layers, num_probes=num_probes, dropout=0.0).double()
    inrs = random_inrs(spec)

    by_blocks, dense = encoder(inrs), dense_ng_gnn(encoder, inrs)

    torch.testing.assert_close(by_blocks, dense, atol=1e-9, rtol=0)
    ours, theirs = gradients(encoder, by_blocks), gradients(encoder, dense)
    assert ours.keys() == theirs.keys() == dict(encoder.named_parameters()).keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], atol=1e-8, rtol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("name", "num_probes", "count"),
    [
        ("ng_t", 0, 376_586),  # as published
        ("ng_t", 64, 393_866),
        ("ng_gnn", 64, 348_746),  # as published
        ("ng_gnn", 0, 331_466),
    ],
)
@pytest.mark.parametrize("hidden_dim", [32, 5])
def test_the_default_encoders_have_the_published_numbers_of_parameters(
    name: str, num_probes: int, count: int, hidden_dim: int
) -> None:
    model = build_classifier(name, SirenSpec(2, 1, hidden_dim), 10, num_probes=num_probes)

    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize(("name", "num_probes"), PROBED)
def test_permutations_of_hidden_neurons_do_not_show(
    spec: SirenSpec, name: str, num_probes: int, generator: torch.Generator
) -> None:
    model, inrs = reader(name, spec, num_probes), random_inrs(spec)
    moved = PermuteNeurons()(inrs, generator)

    torch.testing.assert_close(model(moved), model(inrs), atol=1e-9, rtol=0)
    assert differs(moved.flatten(), inrs.flatten())
    assert differs(model(inrs)[0], model(inrs)[1]), "the encoder says the same of every INR"


@pytest.mark.parametrize(("name", "num_probes"), PROBED)
def test_signs_of_hidden_neurons_show_but_to_scalegmn(
    spec: SirenSpec, name: str, num_probes: int, generator: torch.Generator
) -> None:
    model, inrs = reader(name, spec, num_probes), random_inrs(spec)
    moved = FlipSigns()(inrs, generator)

    if name == "scalegmn":
        torch.testing.assert_close(model(moved), model(inrs), atol=1e-9, rtol=0)
    else:
        assert differs(model(moved), model(inrs))


def test_a_mean_would_show_the_signs_to_scalegmn(spec: SirenSpec, generator: torch.Generator) -> None:
    model, inrs = reader("scalegmn", spec), random_inrs(spec)
    moved = FlipSigns()(inrs, generator)
    assert not model.encoder.centred

    centred, flipped = (model.encoder(model.normalizer(each)) for each in (inrs, moved))

    assert differs(centred, flipped)


def test_a_sign_on_one_side_of_a_neuron_alone_shows_to_scalegmn(spec: SirenSpec) -> None:
    model, inrs = reader("scalegmn", spec), random_inrs(spec)
    for layer in range(spec.num_hidden):
        first = torch.ones(spec.hidden_dim, dtype=torch.float64)
        first[0] = -1
        weights, biases = list(inrs.weights), list(inrs.biases)
        weights[layer], biases[layer] = weights[layer] * first[:, None], biases[layer] * first

        assert differs(model(INRBatch(spec, tuple(weights), tuple(biases))), model(inrs))


@pytest.mark.parametrize(("name", "num_probes"), PROBED)
def test_inputs_and_outputs_are_told_apart(spec: SirenSpec, name: str, num_probes: int) -> None:
    model, inrs = reader(name, spec, num_probes), random_inrs(spec)
    first, *others = inrs.weights
    swapped = [replace(inrs, weights=(first.flip(2), *others))]
    if spec.out_dim > 1:
        weights, biases = (*inrs.weights[:-1], inrs.weights[-1].flip(1)), (*inrs.biases[:-1], inrs.biases[-1].flip(1))
        swapped.append(replace(inrs, weights=weights, biases=biases))

    for other in swapped:
        assert differs(model(other), model(inrs))


@pytest.mark.parametrize(("name", "num_probes"), PROBED)
def test_every_weight_and_bias_is_seen(spec: SirenSpec, name: str, num_probes: int) -> None:
    """One of each tensor, moved by a tenth; the transformer has 2 layers here, ScaleGMN 1."""
    model, inrs = reader(name, spec, num_probes), random_inrs(spec, count=1)
    before = inrs.flatten()
    begins = [0, *accumulate(spec.parameter_sizes)][:-1]
    for begin, size in zip(begins, spec.parameter_sizes, strict=True):
        moved = before.clone()
        moved[:, begin + size // 2] += 0.1

        assert differs(model(INRBatch.from_flat(spec, moved)), model(inrs))


@pytest.mark.parametrize("name", ["ng_gnn", "ng_t"])
def test_probes_see_the_inr_as_it_is(name: str) -> None:
    spec = SPECS[0]
    inrs, others = random_inrs(spec), random_inrs(spec, seed=2)
    probing, plain = reader(name, spec, 4), reader(name, spec)

    assert differs(probing.encoder(inrs, others), probing.encoder(inrs, inrs))
    assert torch.equal(plain.encoder(inrs, others), plain.encoder(inrs, inrs))
    seen = probing.encoder(probing.normalizer(inrs), inrs)
    assert torch.equal(probing(inrs), probing.head(seen))


@pytest.mark.parametrize("odd", [Odd(4, 3), NodeUpdate(3, dropout=0.0)])
def test_odd_maps_are_odd_and_not_linear(odd: nn.Module) -> None:
    odd.double()
    x, y = (torch.randn(2, 5, width, dtype=torch.float64) for width in (3, 6))

    def observed(x: Tensor, y: Tensor) -> Tensor:
        return odd(x, y, end=False) if isinstance(odd, NodeUpdate) else odd(torch.cat([x, y[:, :, :1]], dim=-1))

    torch.testing.assert_close(observed(-x, -y), -observed(x, y))
    assert differs(observed(2 * x, 2 * y), 2 * observed(x, y))
    even = Even(3, 3).double()
    torch.testing.assert_close(even(-x), even(x))
    assert differs(even(x), even(x.abs())), "even is more than the magnitudes"


def test_messages_and_edges_turn_with_the_signs_of_their_ends() -> None:
    nodes = [torch.randn(2, width, 4) for width in (3, 5, 6, 1)]
    edges = [torch.randn(2, after.shape[1], before.shape[1], 4) for before, after in pairwise(nodes)]
    signs = [torch.randn(2, x.shape[1], 1).sign() for x in nodes]
    turned = [x * s for x, s in zip(nodes, signs, strict=True)]
    sides = [s.unsqueeze(1) * t.unsqueeze(2) for s, t in pairwise(signs)]
    turned_edges = [e * s for e, s in zip(edges, sides, strict=True)]
    messages, update = Messages(4), EdgeUpdate(4)

    for got, plain, s in zip(messages(turned, turned_edges), messages(nodes, edges), signs, strict=True):
        torch.testing.assert_close(got, plain * s)
    got = update(turned_edges[1], turned[1], turned[2])
    torch.testing.assert_close(got, update(edges[1], nodes[1], nodes[2]) * sides[1])


def test_the_normalizer_scales_without_a_mean_where_it_is_asked(spec: SirenSpec, generator: torch.Generator) -> None:
    inrs = random_inrs(spec, 40)
    normalizer = Normalizer.fit(spec, [inrs]).double()

    scaled = normalizer(inrs, centred=False)

    for tensor in (*scaled.weights, *scaled.biases):
        torch.testing.assert_close(float(tensor.square().mean()), 1.0, atol=1e-5, rtol=0)
    state = generator.get_state()
    moved = normalizer(FlipSigns()(inrs, generator), centred=False)
    torch.testing.assert_close(moved.flatten(), FlipSigns()(scaled, generator.set_state(state)).flatten())
    assert set(normalizer.state_dict()) == {"weight_mean", "weight_std", "bias_mean", "bias_std"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ng_t", {"num_layers": 1}, "needs num_layers of at least 2 .* got 1"),
        ("ng_t", {"num_heads": 3}, "must divide 2 \\* hidden_dim, 128, got 3"),
        ("ng_t", {"num_probes": -1}, "num_probes of ng_t must be a whole number from 0 to 65,536, got -1"),
        ("ng_gnn", {"num_layers": 2}, "needs num_layers of at least 3 .* got 2"),
        ("ng_gnn", {"num_probes": 2.5}, r"whole number from 0 to 65,536, got 2\.5"),
        ("scalegmn", {"hidden_dim": 0}, "hidden_dim of scalegmn must be a whole number"),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_encoder(name, SPECS[0], **options)


@pytest.mark.parametrize("activation", ["relu", "gauss"])
def test_scalegmn_reads_inrs_of_odd_activations_alone(activation) -> None:
    with pytest.raises(UsageError, match=f"supports sine, tanh and finer INRs.*got 2-4-4-1, {activation}"):
        build_encoder("scalegmn", SirenSpec(2, 1, hidden_dim=4, activation=activation, start="linear"))


def test_a_gnn_of_too_few_layers_would_not_see_the_first_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inr_factory.learning.models.ng_gnn.check_reach", lambda *_: None)
    encoder = NGGNNEncoder(SPECS[0], hidden_dim=8, num_layers=2).double().eval()
    inrs = random_inrs(SPECS[0])
    first, *others = inrs.weights

    assert torch.equal(encoder(replace(inrs, weights=(first + 1, *others))), encoder(inrs))
