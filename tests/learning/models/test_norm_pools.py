"""Norm pools: the C code beside torch, and what happens without it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from inr_factory.learning.models import norm_pools as module
from inr_factory.learning.models.norm_pools import norm_pools, pools_in_torch

built = pytest.mark.skipif(module._library() is None, reason="the C code was not compiled when this was installed")
SHAPES = [(1, 2, 1, 1), (3, 2, 4, 5), (2, 3, 32, 32), (1, 4, 17, 40), (5, 2, 33, 16)]
NORMS = ["none", "training", "evaluation"]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 1


def made(kind: str, features: int) -> nn.BatchNorm1d | None:
    norm = nn.BatchNorm1d(features)
    with torch.no_grad():
        for seed, values in enumerate((norm.weight, norm.bias, norm.running_mean, norm.running_var)):
            values.copy_(drawn(features, seed=seed).abs() + 0.1)
        norm.weight[0].neg_()
    return None if kind == "none" else norm.train(kind == "training")


def outcome(function, x: Tensor, norm: nn.BatchNorm1d | None) -> list[Tensor]:
    """Results, gradients and statistics."""
    x = x.clone().requires_grad_()
    results = function(x, norm)
    loss = sum((part * drawn(*part.shape, seed=seed).to(part)).sum() for seed, part in enumerate(results))
    inputs = [x] if norm is None else [x, norm.weight, norm.bias]
    statistics = [] if norm is None else [value.clone() for value in norm.buffers()]
    return [*results, *torch.autograd.grad(loss, inputs), *statistics]


@built
@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_c_code_gives_results_gradients_and_statistics_of_torch(shape: tuple[int, ...], kind: str) -> None:
    x, exact = drawn(*shape), made(kind, shape[0])

    got = outcome(norm_pools, x, made(kind, shape[0]))
    expected = outcome(pools_in_torch, x.double(), exact and exact.double())

    assert "NormPools" in got[0].grad_fn.name(), "torch has computed both"
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine.double(), theirs.double(), rtol=1e-4, atol=1e-5 * x[0].numel())


@built
def test_statistics_are_exact_where_the_mean_is_far_larger_than_the_spread() -> None:
    x, norm = 1000 + drawn(2, 5, 8, 8) / 100, nn.BatchNorm1d(2, momentum=1.0)

    norm_pools(x, norm)

    flat = x.double().flatten(1)
    torch.testing.assert_close(norm.running_mean.double(), flat.mean(1), rtol=1e-7, atol=0)
    torch.testing.assert_close(norm.running_var.double(), flat.var(1), rtol=1e-4, atol=0)


@built
def test_a_largest_value_that_two_entries_share_has_its_gradient_from_one() -> None:
    x = torch.tensor([[[[2.0, 2.0], [2.0, -1.0]]]], requires_grad=True)

    _, rows, columns = norm_pools(x, None)

    assert torch.autograd.grad(rows.sum(), x, retain_graph=True)[0].tolist() == [[[[1, 0], [1, 0]]]]
    assert torch.autograd.grad(columns.sum(), x)[0].tolist() == [[[[1, 1], [0, 0]]]]


def test_the_number_of_threads_does_not_change_the_result() -> None:
    x, before = drawn(3, 2, 4, 5), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = outcome(norm_pools, x, made("training", 3))
        torch.set_num_threads(2)
        assert all(map(torch.equal, outcome(norm_pools, x, made("training", 3)), one))
    finally:
        torch.set_num_threads(before)


def test_a_value_that_is_not_a_number_stays_in_the_entries() -> None:
    x = drawn(1, 2, 3, 4)
    x[0, 1, 2, 3] = torch.nan

    entries = norm_pools(x, None)[0]

    assert entries.isnan().nonzero().tolist() == [[0, 1, 2, 3]]


@built
def test_without_the_compiled_code_torch_does_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    x = drawn(2, 3, 4, 5)
    fast = outcome(norm_pools, x, made("training", 2))
    monkeypatch.setattr(module, "LIBRARY", tmp_path / "nothing.so")
    module._library.cache_clear()
    try:
        plain = outcome(norm_pools, x, made("training", 2))
    finally:
        module._library.cache_clear()
    assert "NormPools" not in plain[0].grad_fn.name()
    for mine, theirs in zip(fast, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
