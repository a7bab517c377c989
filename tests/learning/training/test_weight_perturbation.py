"""Perturbation: gradients are those of the places they are said to be of, and the weights stay where they were."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from inr_factory.errors import UsageError
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.classifier import build_classifier
from inr_factory.learning.models.registry import ENCODERS
from inr_factory.learning.models.set_layers import LinearStack
from inr_factory.learning.option_strings import parse_model
from inr_factory.learning.training.weight_perturbation import ASAM, DAMP, WAT, parse_perturbation

SPEC = SirenSpec(2, 1, hidden_dim=4)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(SPEC.num_parameters, 5), nn.Tanh(), nn.Linear(5, 3))


@pytest.fixture
def batch():
    return initialize(SPEC, range(8)), F.one_hot(torch.arange(8) % 3, 3).float()


def loss_of(model):
    return lambda inrs, targets: F.cross_entropy(model(inrs.flatten()), targets)


def gradient(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def plain(model, batch):
    model.zero_grad()
    loss_of(model)(*batch).backward()
    found = gradient(model)
    model.zero_grad()
    return found


@pytest.mark.parametrize(
    "perturbation", [DAMP(), DAMP(sigma=0.5, parts=3), ASAM(), ASAM(rho=2), WAT(sigma=0.5)], ids=str
)
def test_the_weights_stay_and_the_gradient_is_another(perturbation, model, batch):
    before, own = [p.detach().clone() for p in model.parameters()], plain(model, batch)

    perturbation.backward(model, loss_of(model), *batch, perturbation.parameters_for(model))

    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert torch.cosine_similarity(gradient(model), own, dim=0) > 0.3
    assert not torch.allclose(gradient(model), own, rtol=1e-3)


@pytest.mark.parametrize(
    "perturbation", [DAMP(sigma=0, parts=3), DAMP(sigma=0, parts=1), ASAM(rho=0), WAT(sigma=0)], ids=str
)
def test_without_a_move_it_is_the_plain_gradient(perturbation, model, batch):
    own, loss = plain(model, batch), loss_of(model)(*batch).detach()

    observed = perturbation.backward(model, loss_of(model), *batch, perturbation.parameters_for(model))

    torch.testing.assert_close(gradient(model), own, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(observed, loss, atol=1e-6, rtol=1e-5)


def test_asam_goes_uphill_by_rho_in_its_own_norm(model, batch):
    seen = []

    def watched(inrs, targets):
        seen.append([p.detach().clone() for p in model.parameters() if p.dim() > 1])
        return loss_of(model)(inrs, targets)

    ASAM(rho=0.7, eta=0.02).backward(model, watched, *batch)

    (clean, moved), steps = seen, []
    for here, there in zip(clean, moved, strict=True):
        steps.append((there - here) / (here.abs() + 0.02))
    assert torch.cat([step.flatten() for step in steps]).norm() == pytest.approx(0.7, rel=1e-4)
    assert len(seen) == 2


def test_damp_moves_each_part_elsewhere_and_spares_biases(model, batch):
    seen = []

    def watched(inrs, targets):
        seen.append((len(inrs), [p.detach().clone() for p in model.parameters()]))
        return loss_of(model)(inrs, targets)

    before = [p.detach().clone() for p in model.parameters()]
    DAMP(sigma=0.3, parts=100).backward(model, watched, *batch)

    assert [count for count, _ in seen] == [2, 2, 2, 2]
    factors = torch.cat([(part[0] / before[0]).flatten() for _, part in seen])
    assert float(factors.std()) == pytest.approx(0.3, rel=0.2)
    assert all(torch.equal(part[1], before[1]) for _, part in seen)
    assert not torch.equal(seen[0][1][0], seen[1][1][0])


def test_it_is_written_as_it_is_read():
    assert str(parse_perturbation("damp:sigma=0.1")) == "damp:sigma=0.1,parts=8"
    with pytest.raises(UsageError, match="did you mean 'damp'"):
        parse_perturbation("dampp")
    with pytest.raises(UsageError, match="rho must be a number"):
        parse_perturbation("asam:rho=-1")


@pytest.mark.parametrize("transform", ["noise", "scale", "drop", "shift"])
def test_shadow_weights_move_the_plain_ones_and_their_scales_as_autograd_says(transform, model, batch):
    wat = WAT(transform=transform, sigma=0.3)
    own = wat.parameters_for(model)
    with torch.no_grad():
        own[1].fill_(1.7)
    clean = [parameter.detach().clone() for parameter in model.parameters()]

    torch.manual_seed(5)
    observed = wat.backward(model, loss_of(model), *batch, own)

    torch.manual_seed(5)
    moves = [wat._draw(weight, None)[0] for weight in (model[0].weight, model[2].weight)]
    leaves = [weight.detach().clone().requires_grad_() for weight in (model[0].weight, model[2].weight, *own)]
    shadows = [leaves[2] * moves[0](leaves[0]), leaves[3] * moves[1](leaves[1])]
    hidden = torch.tanh(F.linear(batch[0].flatten(), shadows[0], model[0].bias))
    loss = F.cross_entropy(F.linear(hidden, shadows[1], model[2].bias), batch[1])
    expected = torch.autograd.grad(loss, leaves)
    torch.testing.assert_close(observed, loss.detach())
    for found, wanted in zip((model[0].weight, model[2].weight, *own), expected, strict=True):
        torch.testing.assert_close(found.grad, wanted)
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), clean, strict=True))


def test_a_factor_is_what_its_transform_says():
    weight = torch.ones(500, 40)
    noise, rows, drop = (
        WAT(transform=name, sigma=0.25)._draw(weight, None)[0](weight) for name in ("noise", "scale", "drop")
    )
    assert torch.equal(rows, rows[:, :1].expand(500, 40))
    assert abs(float(noise.std()) - 0.25) < 0.01
    assert abs(float(rows.std()) - 0.25) < 0.04
    torch.testing.assert_close(drop.unique(), torch.tensor([0, 1 / 0.75]))
    assert abs(float(drop.mean()) - 1) < 0.02


def test_what_is_read_is_the_plain_model_or_one_draw_of_its_shadow(model, batch):
    own = WAT().parameters_for(model)
    generator = torch.Generator()

    assert WAT().eval_model(model, own, generator) is model
    shadows = [WAT(evaluate="shadow").eval_model(model, own, generator.manual_seed(7)) for _ in range(2)]
    assert shadows[0] is not model
    assert torch.equal(shadows[0][0].weight, shadows[1][0].weight)
    assert torch.equal(shadows[0][0].bias, model[0].bias)
    assert not torch.equal(shadows[0][0].weight, model[0].weight)


@pytest.mark.parametrize("shape", [(6, 5), (4, 6, 5)], ids=str)
def test_wat_shifts_rows_and_columns_of_each_matrix_cyclically(shape):
    weight = torch.arange(4 * 30.0)[: torch.Size(shape).numel()].view(shape)
    seen = set()
    for seed in range(30):
        moved = WAT(transform="shift", sigma=0.4)._draw(weight, torch.Generator().manual_seed(seed))[0](weight)
        for before, after in zip(weight.view(-1, 6, 5), moved.view(-1, 6, 5), strict=True):
            row, column = divmod(int((after == before[0, 0]).nonzero()[0] @ torch.tensor([5, 1])), 5)
            assert torch.equal(after, before.roll((row, column), (0, 1)))
            seen.add((row, column))
    assert seen <= {(row, column) for row in (0, 1, 2, 4, 5) for column in (0, 1, 2, 3, 4)}
    assert len(seen) > 10


def test_p_of_wat_starts_at_one_or_uniform_as_the_authors_have_it(model):
    assert [p.item() for p in WAT().parameters_for(model)] == [1, 1]
    uniform = [p.item() for p in WAT(start="uniform").parameters_for(model, seed=3)]
    assert all(0 <= p < 1 for p in uniform)
    assert uniform == [p.item() for p in WAT(start="uniform").parameters_for(model, seed=3)]
    assert uniform != [p.item() for p in WAT(start="uniform").parameters_for(model, seed=4)]


MODELS = [*ENCODERS, "parity:points=true", "ng_t:num_probes=3", "ng_gnn:num_probes=3", "dws:set_layer=deepsets"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("text", ["damp:sigma=0.5,parts=2", "asam", "wat:sigma=0.5", "wat:transform=shift"])
def test_kernels_and_gains_of_every_model_move_and_all_else_stays(name, text):
    """Faults, section 5: 66 stacks of biases of DWS, position vectors and probe points moved."""
    perturbation = parse_perturbation(text)
    encoder, options = parse_model(name)
    model = build_classifier(encoder, SPEC, 3, **{"dropout": 0.0, **options})
    before, seen = {key: p.detach().clone() for key, p in model.named_parameters()}, []

    def watched(inrs, targets):
        seen.append({key: p.detach().clone() for key, p in model.named_parameters()})
        return F.cross_entropy(model(inrs), targets)

    batch = initialize(SPEC, range(8)), F.one_hot(torch.arange(8) % 3, 3).float()
    perturbation.backward(model, watched, *batch, perturbation.parameters_for(model))

    kernels = {
        f"{prefix}.weight"
        for prefix, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | LinearStack | torch.nn.Conv2d)
    }
    gains = {f"{prefix}.weight" for prefix, module in model.named_modules() if "Norm" in type(module).__name__} & {
        *before
    }
    moved = {key for key, old in before.items() if not torch.equal(seen[-1][key], old)}
    expected = kernels if isinstance(perturbation, WAT) else kernels | gains
    unused = {key for key in expected - moved if model.get_parameter(key).grad is None}
    still = {key for key in expected - moved if before[key].numel() == 1 or not before[key].any()}
    if isinstance(perturbation, WAT) and perturbation.transform == "shift":
        assert moved <= expected, moved - expected  # a shift by 0 leaves a matrix
    else:
        assert moved | unused | still == expected, (moved - expected, expected - moved)
    assert all(torch.equal(p, before[key]) for key, p in model.named_parameters())


def test_runs_before_version_0_2_keep_what_moves_when_they_resume():
    model = build_classifier("dws", SPEC, 3)
    stacks = [p for p in model.parameters() if p.dim() >= 2]
    assert len(DAMP().moved(model, rules=1)) == len(stacks)
    assert len(WAT().parameters_for(model, rules=1)) == len(stacks)
    assert len(WAT().moved(model)) == len(stacks) - 66
