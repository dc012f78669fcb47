"""The Triton kernel, on a GPU or, without one, by Triton's interpreter."""

import os
import subprocess
import sys
from importlib import import_module

import pytest
import torch
from torch import Tensor

from certes.function_space.coordinates import Lattice, subset
from certes.function_space.neighbours import Neighbours, Scattered
from certes.function_space.sparse_convolution import convolved

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    # Read when Triton is first imported.
    os.environ["TRITON_INTERPRET"] = "1"
triton = pytest.importorskip("triton")
if DEVICE == "cpu" and isinstance(triton.language.sum, triton.runtime.JITFunction):
    pytest.skip("Triton was imported before, to compile", allow_module_level=True)
LookedUp = import_module("certes.function_space.triton_convolution").LookedUp


def seeded(seed: int) -> torch.Generator:
    return torch.Generator(DEVICE).manual_seed(seed)


def answers(neighbours: Neighbours, values: Tensor, table: Tensor) -> tuple[Tensor, ...]:
    values, table = values.clone().requires_grad_(), table.clone().requires_grad_()
    answer = convolved(values, neighbours, table)
    loss = (answer * (3 * answer.detach()).cos()).sum()
    return answer, *torch.autograd.grad(loss, [values, table])


def apart(a: Tensor, b: Tensor) -> float:
    return float(((a - b).abs().max() / b.abs().max()).detach())


@pytest.mark.parametrize("share", [1.0, 0.3, 0.06])
@pytest.mark.parametrize("pitch", [1.0, 0.5, 1.5])
def test_the_kernel_agrees_with_dense_convolutions(pitch: float, share: float) -> None:
    points = subset(Lattice(8, 9, pitch), 2, share, seeded(0))
    values = torch.randn(2, points.positions.shape[1], 5, generator=seeded(1), device=DEVICE)
    table = torch.randn(5, 5, 5, generator=seeded(2), device=DEVICE)
    got = answers(LookedUp(points, 2), values, table)
    wanted = answers(Scattered(points, 2), values, table)
    assert all(apart(a, b) < 1e-5 for a, b in zip(got, wanted, strict=True))
    # Weights that are not flipped on the way back are found out.
    turned = answers(Scattered(points, 2), values, table.flip(1, 2))
    assert apart(turned[0], wanted[0]) > 1e-2


def test_half_precision() -> None:
    points = subset(Lattice(12, 12), 1, 0.5, seeded(0))
    values = torch.randn(1, 72, 20, generator=seeded(1), device=DEVICE).bfloat16()
    table = torch.randn(20, 5, 5, generator=seeded(2), device=DEVICE)
    got = LookedUp(points, 2).sums(values, table)
    wanted = Scattered(points, 2).sums(values.float(), table)
    assert got.weighted.dtype == torch.float32
    assert torch.allclose(got.weighted, wanted.weighted, atol=1e-3)
    assert torch.allclose(got.plain, wanted.plain, atol=1e-3)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from certes.function_space import triton_convolution as kernels

pointers = {"table": "*i32", "at": "*i64", "shift": "*i32", "a": "*bf16", "b": "*bf16",
            "values": "*bf16", "points": "i32", "channels": "i32", "taps": "i32",
            "P": "constexpr", "C": "constexpr"}
for kernel in (kernels._sum, kernels._correlate):
    names = kernel.arg_names
    source = ASTSource(
        kernel,
        {name: pointers.get(name, "*fp32") for name in names},
        {(names.index("P"),): 32, (names.index("C"),): 64},
    )
    assert "ptx" in triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm
"""


def test_it_compiles_without_a_gpu() -> None:
    """The interpreter takes what the compiler refuses."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
