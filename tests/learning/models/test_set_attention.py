"""Set attention: the C code beside torch, and what happens without it."""

from pathlib import Path

import pytest
import torch

from inr_factory.learning.models import set_attention as module
from inr_factory.learning.models.set_attention import attention_in_torch, set_attention

built = pytest.mark.skipif(module._functions() is None, reason="the C code was not compiled when this was installed")
SHAPES = [(1, 1, 1, 1, 1), (2, 2, 3, 3, 5), (3, 8, 2, 4, 32), (1, 1, 16, 3, 33), (2, 1, 17, 2, 16), (1, 4, 8, 5, 40)]


def drawn(maps: int, heads: int, width: int, inrs: int, neurons: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(maps, 3 * heads * width, inrs, neurons, generator=generator)


@built
@pytest.mark.parametrize("scale", [1.0, 6.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_c_code_gives_the_values_and_gradients_of_torch(shape: tuple[int, ...], scale: float) -> None:
    """Also for scores of more than a hundred, whose softmax is nearly one key."""
    fast = drawn(*shape, scale=scale).requires_grad_()
    exact = fast.detach().double().requires_grad_()

    got, expected = set_attention(fast, shape[1]), attention_in_torch(exact, shape[1])

    assert "SetAttention" in got.grad_fn.name(), "torch has computed both"
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5 * scale)
    slope = torch.randn_like(expected)
    (from_c,), (plain,) = torch.autograd.grad(got, fast, slope.float()), torch.autograd.grad(expected, exact, slope)
    torch.testing.assert_close(from_c.double(), plain, rtol=1e-3, atol=1e-5 * scale * float(plain.abs().max()))


def test_the_number_of_threads_does_not_change_the_attention() -> None:
    qkv, before = drawn(3, 2, 4, 5, 6), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = set_attention(qkv, 2)
        torch.set_num_threads(3)
        assert torch.equal(set_attention(qkv, 2), one)
    finally:
        torch.set_num_threads(before)


def test_strides_of_the_input_and_of_the_gradient_do_not_matter() -> None:
    qkv = drawn(2, 2, 3, 4, 5)
    strided = qkv.transpose(0, 3).contiguous().transpose(0, 3).requires_grad_()
    dense = qkv.clone().requires_grad_()

    outputs = [set_attention(x, 2) for x in (strided, dense)]
    slope = torch.randn(5, 6, 4, 2).permute(3, 1, 2, 0)
    gradients = [torch.autograd.grad(a, x, slope)[0] for a, x in zip(outputs, (strided, dense), strict=True)]

    assert torch.equal(*outputs)
    assert torch.equal(*gradients)


def test_a_weight_that_is_not_a_number_shows_in_the_attention() -> None:
    qkv = drawn(1, 1, 2, 2, 4)
    qkv[0, 3, 0, 1] = torch.nan  # a key of the first INR

    attended = set_attention(qkv, 1)

    assert bool(attended[:, :, 0].isnan().all())
    assert not bool(attended[:, :, 1].isnan().any())


@built
def test_without_the_compiled_code_torch_computes_the_attention(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    qkv = drawn(2, 2, 3, 4, 5)
    fast = set_attention(qkv, 2)
    monkeypatch.setattr(module, "LIBRARY", tmp_path / "nothing.so")
    module._functions.cache_clear()
    try:
        plain = set_attention(qkv.requires_grad_(), 2)
        assert plain.grad_fn is not None
        assert "SetAttention" not in plain.grad_fn.name()
        torch.testing.assert_close(plain, fast)
    finally:
        module._functions.cache_clear()
