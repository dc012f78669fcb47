"""What a CPU computes in its own way in bfloat16, against the definitions in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from certes.networks import cpu_kernels
from certes.networks.cpu_kernels import Dropout, attend, upsampled_conv

Function = Callable[..., Tensor]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers that bfloat16 holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).bfloat16()


def answer_and_gradients(f: Function, inputs: Sequence[Tensor], slope: Tensor) -> list[Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    answer = f(*leaves)
    return [answer, *torch.autograd.grad(answer, leaves, slope.to(answer.dtype))]


def assert_equal_but_for_rounding(
    f: Function, exact: Function, inputs: Sequence[Tensor], slope: Tensor
) -> None:
    """Errors are measured against each result's own size: sums of many terms may cancel."""
    ours = answer_and_gradients(f, inputs, slope)
    expected = answer_and_gradients(exact, [x.double() for x in inputs], slope)
    for got, wanted in zip(ours, expected, strict=True):
        assert got.shape == wanted.shape
        error = (got.double() - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
        assert error < 2**-7


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1) @ v


@pytest.mark.parametrize("most", [4096, 50])  # tokens for which the weights are kept
def test_attention_is_its_definition(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_kernels, "_MANY_TOKENS", most)
    inputs = [drawn(2, 3, 64, 16, seed=seed) for seed in range(3)]
    assert_equal_but_for_rounding(attend, attention, inputs, drawn(2, 3, 64, 16, seed=3))


class Upsampled(torch.nn.Module):
    def __init__(self, conv: torch.nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return upsampled_conv(x, self.conv)


@pytest.mark.parametrize("fewest", [1, 10**6])  # pixels for which the kernel is transposed
def test_upsampled_convolution_is_its_definition(
    fewest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_kernels, "_FEW_PIXELS", fewest)
    inputs = [drawn(2, 8, 5, 7), drawn(6, 8, 3, 3, seed=1), drawn(6, seed=2)]
    inputs = [inputs[0].contiguous(memory_format=torch.channels_last), *inputs[1:]]

    def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        conv = torch.nn.Conv2d(8, 6, 3, padding=1)
        call = torch.func.functional_call
        return call(Upsampled(conv), {"conv.weight": weight, "conv.bias": bias}, x)

    def exact(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        large = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return F.conv2d(large, weight, bias, padding=1)

    assert_equal_but_for_rounding(ours, exact, inputs, drawn(2, 6, 10, 14, seed=3))


def layouts() -> list[Tensor]:
    x = torch.ones(8, 16, 21, 33, dtype=torch.bfloat16)
    return [x, x.contiguous(memory_format=torch.channels_last), x[:, :, ::2]]


@pytest.mark.parametrize("x", layouts())
@pytest.mark.parametrize("p", [0.1, 0.5, 0.97])
def test_dropout_keeps_its_share_and_scales_it(x: Tensor, p: float) -> None:
    torch.manual_seed(0)
    x = x.detach().requires_grad_()
    y = Dropout(p)(x)
    assert y.shape == x.shape
    kept = y != 0
    assert set(y[kept].unique().tolist()) == {torch.tensor(1 / (1 - p)).bfloat16().item()}
    deviation = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(kept.double().mean() - (1 - p)) < 4 * deviation
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(slope, y.detach())  # of ones: the mask itself


def test_dropout_drops_neighbours_independently() -> None:
    torch.manual_seed(0)
    x = torch.ones(2**18, dtype=torch.bfloat16, requires_grad=True)
    dropped = (Dropout(0.3)(x) == 0).double() - 0.3
    for lag in range(1, 9):  # four values share one random number
        correlation = (dropped[lag:] * dropped[:-lag]).mean() / 0.21
        assert abs(correlation) < 4 / 2**9


def test_dropout_follows_the_seed_and_rests_in_evaluation() -> None:
    x = drawn(4, 8, 6, 6).requires_grad_()
    dropout = Dropout(0.4)

    def after(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return dropout(x)

    assert torch.equal(after(1), after(1))
    assert not torch.equal(after(1), after(2))
    assert torch.equal(dropout.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()
