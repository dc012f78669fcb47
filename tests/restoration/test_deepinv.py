"""Both ways between certes and deepinv: by duck typing everywhere, for real where it is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import certes
from certes.errors import InputError
from certes.restoration import deepinv as bridge
from certes.restoration.deepinv import (
    Physics,
    PhysicsOperator,
    as_denoiser,
    as_physics,
    from_deepinv,
)
from certes.restoration.operators import (
    Blur,
    CompressedSensing,
    DecomposedOperator,
    Inpaint,
    LinearOperator,
    Operator,
    Stacked,
    SubsampledFourier,
    SuperResolution,
    Tomography,
    VaryingBlur,
)

from .laws import field
from .linear_case import LinearCase, parametrize_linear
from .operator_case import random

pytest_generate_tests = parametrize_linear

NOISE = 0.05


class Scaled:
    """The least that a physics can be."""

    def A(self, x: Tensor) -> Tensor:
        return 0.5 * x.flatten(1)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return 0.5 * y.reshape(-1, 1, 4, 4)


class Masked(torch.nn.Module):
    """A physics as deepinv makes them: buffers in single precision, a noise model."""

    mask: Tensor

    def __init__(self, mask: Tensor, noise: float | Tensor = NOISE) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.noise_model = torch.nn.Module()
        self.noise_model.register_buffer("sigma", torch.as_tensor(noise))

    def A(self, x: Tensor) -> Tensor:
        assert x.dtype == self.mask.dtype
        return self.mask * x

    def A_adjoint(self, y: Tensor) -> Tensor:
        assert y.dtype == self.mask.dtype
        return self.mask * y


class Spectrum:
    """Complex measurements of real pictures, complex adjoints."""

    def A(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x, norm="ortho")[..., :3]

    def A_adjoint(self, y: Tensor) -> Tensor:
        assert y.is_complex()
        return torch.fft.ifft2(torch.nn.functional.pad(y, (0, 1)), norm="ortho")


class Skewed(Scaled):
    """Not its own adjoint."""

    def A_adjoint(self, y: Tensor) -> Tensor:
        return super().A_adjoint(y).roll(1, -1)


class Listed(Scaled):
    """Measures two things, as a stack does."""

    def A(self, x: Tensor) -> Any:
        return (super().A(x), x)


def some_mask(height: int, width: int) -> Tensor:
    return (random(height, width) < 0.3).float()


class TestPhysicsOperator(LinearCase):
    name = "deepinv"

    @staticmethod
    def instances() -> Iterator[LinearOperator]:
        yield from_deepinv(Scaled(), (1, 4, 4))
        yield from_deepinv(Masked(some_mask(4, 5).double()), (3, 4, 5))
        yield from_deepinv(Spectrum(), (2, 5, 4))


def test_complex_measurements_are_pairs() -> None:
    H, x = from_deepinv(Spectrum(), (2, 5, 4)), random(1, 2, 5, 4)
    assert H.out_shape == (2, 5, 3, 2)
    assert torch.equal(torch.view_as_complex(H(x)), Spectrum().A(x))


def test_a_physics_computes_in_its_own_precision() -> None:
    H, x = from_deepinv(Masked(some_mask(4, 4)), (1, 4, 4)), random(2, 1, 4, 4)
    for answer in (H(x), H.adjoint(x)):
        assert answer.dtype == torch.float64
        torch.testing.assert_close(answer, some_mask(4, 4) * x, rtol=1e-6, atol=1e-6)


def test_other_buffers_are_another_operator_but_other_noise_is_not() -> None:
    physics = [Masked(some_mask(4, 4)), Masked(some_mask(4, 4), 0.1), Masked(1 - some_mask(4, 4))]
    one, noisier, other = (from_deepinv(p, (1, 4, 4)).describe() for p in physics)
    assert one == noisier
    assert one["physics"] == "Masked"
    assert one["digest"] != other["digest"]


@pytest.mark.parametrize(("noise", "level"), [(0.1, 0.1), (torch.tensor([0.2, 0.3]), None)])
def test_noise_of_a_physics(noise: Any, level: float | None) -> None:
    H = from_deepinv(Masked(some_mask(4, 4), noise), (1, 4, 4))
    assert isinstance(H, PhysicsOperator)
    assert H.noise == (None if level is None else pytest.approx(level))
    assert bridge.noise_of(Scaled()) is None


def test_what_is_no_adjoint_is_refused() -> None:
    with pytest.raises(InputError, match=r"A_adjoint of Skewed.*relative error.*via_backprop"):
        from_deepinv(Skewed(), (1, 4, 4))


def restored(y: Any, operator: Any, **options: Any) -> Any:
    model = field((1, 4, 4), 0.15, 1.5).denoiser()
    settings = {"noise": NOISE, "samples": 3, "steps": 4} | options
    return certes.restore(y, operator, model, **settings)


@pytest.mark.parametrize("physics", [Scaled(), Masked(some_mask(4, 4).double())])
def test_restore_takes_a_physics(physics: Physics) -> None:
    H, x = from_deepinv(physics, (1, 4, 4)), random(2, 1, 4, 4) * 0.3 + 0.5
    direct, wrapped = restored(H(x), physics), restored(H(x), H)
    assert torch.equal(direct.samples, wrapped.samples)
    assert direct.provenance == wrapped.provenance


def test_restore_takes_complex_measurements() -> None:
    x = random(2, 1, 4, 4) * 0.3 + 0.5
    y = Spectrum().A(x)
    direct = restored(y, Spectrum())
    assert torch.equal(
        direct.samples, restored(torch.view_as_real(y), from_deepinv(Spectrum(), (1, 4, 4))).samples
    )


@pytest.mark.parametrize(
    ("y", "operator", "words"),
    [
        (torch.zeros(1, 16), object(), "operator: a object; wanted"),
        (torch.zeros(1, 15), Scaled(), r"\(1, 15\), which Scaled cannot have measured"),
        (torch.zeros(0, 16), Scaled(), "wanted a batch"),
        ([torch.zeros(1, 16)], Scaled(), "y is a list; wanted one tensor.*Stacked"),
        (torch.zeros(1, 16), Listed(), "y is a tuple; wanted one tensor.*Stacked"),
    ],
)
def test_what_cannot_be_restored_is_explained(y: Any, operator: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        restored(y, operator)


def test_a_denoiser_module_answers_as_the_denoiser() -> None:
    denoiser, x = field((1, 4, 4), 0.15, 1.5).denoiser(), random(3, 1, 4, 4)
    module = as_denoiser(denoiser)
    assert isinstance(module, torch.nn.Module)
    each = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    for sigma in (each, each[:, None, None, None], each.float(), each.tolist()):
        torch.testing.assert_close(module(x, sigma), denoiser(x, each).mean, rtol=0, atol=1e-6)
    for sigma in (0.2, torch.tensor(0.2), torch.tensor([[0.2]])):
        expected = denoiser(x, torch.full((3,), 0.2)).mean
        torch.testing.assert_close(module(x, sigma), expected, rtol=0, atol=1e-6)


def test_a_network_moves_with_its_module() -> None:
    module = as_denoiser("nuclei")
    assert sum(p.numel() for p in module.parameters()) > 1000
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    answer = module.float()(x, 0.1)
    assert answer.shape == x.shape
    assert answer.dtype == torch.float32
    assert 0 < float((answer - x).std()) < 0.5


def test_without_deepinv_its_classes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("deepinv", "deepinv.physics", "certes.restoration.deepinv_reconstructor"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match="pip install deepinv"):
        as_physics(Inpaint((1, 4, 4), some_mask(4, 4)), NOISE)
    with pytest.raises(InputError, match="pip install deepinv"):
        _ = bridge.CertesReconstructor
    with pytest.raises(AttributeError, match="Certes"):
        _ = bridge.Certes


class Squared(Operator):
    name = "squared"

    def _apply(self, x: Tensor) -> Tensor:
        return x**2


SHAPE = (1, 8, 8)


def decomposed() -> dict[str, DecomposedOperator]:
    """As many measurements as pixels, fewer, and more."""
    taps = torch.tensor([1.0, 4.0, 1.0]).double() / 6
    return {
        "inpaint": Inpaint(SHAPE, some_mask(8, 8)),
        "super-resolve": SuperResolution(SHAPE, 2),
        "deblur": Blur(SHAPE, taps),
        "compressed-sensing": CompressedSensing(SHAPE, 0.5),
        "fourier": SubsampledFourier(SHAPE, torch.ones(8, 8)),
    }


def linear() -> dict[str, LinearOperator]:
    kernels = random(2, 2, 3, 3).abs()
    few = Tomography(SHAPE, [0.0, 30.0, 60.0, 90.0, 120.0, 150.0])
    return {
        "varying-blur": VaryingBlur(SHAPE, kernels / kernels.sum((2, 3), keepdim=True)),
        "tomography": few,
        "stacked": Stacked([few, Inpaint(SHAPE, some_mask(8, 8))]),
    }


def every() -> dict[str, LinearOperator]:
    return {**decomposed(), **linear()}


@pytest.fixture
def dinv() -> Any:
    return pytest.importorskip("deepinv")


@pytest.mark.parametrize("task", every())
def test_an_operator_is_a_physics_and_back(dinv: Any, task: str) -> None:
    H, x = every()[task], random(2, *SHAPE, dtype=torch.float32)
    physics = as_physics(H, NOISE)
    assert isinstance(physics, dinv.physics.LinearPhysics)
    torch.testing.assert_close(physics.A(x), H(x), rtol=0, atol=1e-5)
    y = random(2, *H.out_shape, seed=1, dtype=torch.float32)
    torch.testing.assert_close(physics.A_adjoint(y), H.adjoint(y), rtol=0, atol=1e-5)
    assert float(physics.adjointness_test(x[:1], num_samples=50)) < 1e-4
    assert from_deepinv(physics, SHAPE) is H
    assert bridge.noise_of(physics) == pytest.approx(NOISE)
    noise = physics(x.expand(500, 2, *SHAPE).flatten(0, 1)) - H(x).repeat(500, *[1] * (y.ndim - 1))
    assert float(noise.std()) == pytest.approx(NOISE, rel=0.05)


@pytest.mark.parametrize("task", decomposed())
def test_singular_vectors_are_those_of_the_operator(dinv: Any, task: str) -> None:
    H = decomposed()[task]
    physics = as_physics(H, NOISE)
    assert isinstance(physics, dinv.physics.DecomposablePhysics)
    x = random(2, *SHAPE, dtype=torch.float32)
    c = physics.V_adjoint(x)
    assert c.shape == (2, H.n)
    torch.testing.assert_close(physics.U(physics.mask * c), H(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(physics.U_adjoint(H(x)), physics.mask * c, rtol=0, atol=1e-5)
    torch.testing.assert_close(physics.A_dagger(H(x)), H.pinv(H(x)), rtol=0, atol=1e-4)


def test_what_is_not_linear_is_a_physics_too(dinv: Any) -> None:
    physics = as_physics(Squared(SHAPE, SHAPE), NOISE)
    x = random(2, *SHAPE)
    assert not isinstance(physics, dinv.physics.LinearPhysics)
    assert torch.equal(physics.A(x), x**2)
    torch.testing.assert_close(physics.A_vjp(x, torch.ones_like(x)), 2 * x)


@pytest.mark.parametrize("task", decomposed())
def test_ddrm_of_deepinv_runs_on_ours(dinv: Any, task: str) -> None:
    problem, H = field(SHAPE, 0.15, 2.0), decomposed()[task]
    physics, x = as_physics(H, NOISE), problem.sample(4, 7).float()
    ddrm = dinv.sampling.DDRM(as_denoiser(problem.denoiser()), sigmas=torch.linspace(1, 0, 20))
    torch.manual_seed(0)
    y = physics(x)
    answer = ddrm(y, physics, seed=1)
    assert answer.shape == x.shape
    assert float((answer - x).square().mean().sqrt()) < 0.1  # the field's deviation is 0.15


def test_its_own_physics_are_operators(dinv: Any) -> None:
    angles = torch.linspace(0, 180, 7)[:-1]
    kernel = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    maps = torch.complex(random(3, 8, 8), random(3, 8, 8, seed=1)).to(torch.complex64)
    made = [
        (dinv.physics.Inpainting(img_size=SHAPE, mask=some_mask(8, 8)[None]), SHAPE),
        (dinv.physics.BlurFFT(img_size=SHAPE, filter=kernel), SHAPE),
        (dinv.physics.Tomography(angles, 8, normalize=True), SHAPE),
        (dinv.physics.MultiCoilMRI(mask=some_mask(8, 8), coil_maps=maps), (2, 8, 8)),
    ]
    for physics, shape in made:
        H, x = from_deepinv(physics, shape), random(3, *shape)
        torch.testing.assert_close(H(x), physics.A(x.float()).double(), rtol=0, atol=1e-5)
        y = random(3, *H.out_shape, seed=1)
        left, right = (H(x) * y).flatten(1).sum(1), (x * H.adjoint(y)).flatten(1).sum(1)
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-3)
        H.adjoint(y[:1])  # of another batch size than before


def test_an_inexact_adjoint_of_its_own_is_refused(dinv: Any) -> None:
    angles = torch.linspace(0, 180, 7)[:-1]
    physics = dinv.physics.Tomography(angles, 16, normalize=False, adjoint_via_backprop=False)
    with pytest.raises(InputError, match="A_adjoint of Tomography"):
        from_deepinv(physics, (1, 16, 16))


def test_a_stack_is_joined_from_its_parts(dinv: Any) -> None:
    mask = some_mask(8, 8)
    stack = dinv.physics.Inpainting(img_size=SHAPE, mask=mask[None]).stack(
        dinv.physics.Inpainting(img_size=SHAPE, mask=1 - mask[None])
    )
    x = random(2, *SHAPE, dtype=torch.float32)
    with pytest.raises(InputError, match="TensorList"):
        restored(stack.A(x), stack)
    H = Stacked([from_deepinv(physics, SHAPE) for physics in stack.physics_list])
    assert torch.equal(H.join(list(stack.A(x))), H(x))


@pytest.mark.parametrize("task", ["inpaint", "tomography"])
def test_the_reconstructor_is_restore(dinv: Any, task: str) -> None:
    problem, H = field(SHAPE, 0.15, 2.0), every()[task]
    physics, x = as_physics(H, NOISE), problem.sample(2, 7).float()
    torch.manual_seed(0)
    y = physics(x)
    reconstruct = bridge.CertesReconstructor(problem.denoiser(), samples=4, steps=8, seed=3)
    assert isinstance(reconstruct, dinv.models.Reconstructor)
    options = {"noise": bridge.noise_of(physics), "samples": 4, "steps": 8, "seed": 3}
    answer = certes.restore(y, H, problem.denoiser(), **options)
    assert torch.equal(reconstruct(y, physics), answer.mean)
    assert torch.equal(reconstruct.posterior(y, physics).std, answer.std)
    silent = dinv.physics.Inpainting(img_size=SHAPE, mask=some_mask(8, 8)[None])
    with pytest.raises(InputError, match="reconstructor noise="):
        reconstruct(y, silent)
