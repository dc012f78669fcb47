"""Choices of Cov[x_0 | x_t]: what each keeps, and the Jacobian against exact covariances."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.problems import GaussianProblem, MixtureProblem
from certes.diffusion.residuals import SpectralCovariance
from certes.diffusion.schedules import Cosine
from certes.errors import InputError, ModelError
from certes.networks import NetworkDenoiser, UNet, UNetConfig
from certes.restoration import restore
from certes.restoration.covariances import COVARIANCES, Isotropic, Jacobian, Pixels, Spectrum
from certes.restoration.operators import Inpaint

from .laws import field

SHAPE = (2, 3, 4)
SIGMA = torch.tensor([0.05, 0.2, 1.0], dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def gaussian() -> GaussianProblem:
    return field(SHAPE, 0.15, 1.5)


def mixture() -> MixtureProblem:
    means = torch.stack([torch.full(SHAPE, 0.4), torch.full(SHAPE, 0.55)]).double()
    parts = [field(SHAPE, tau, length).covariance for tau, length in ((0.06, 2.0), (0.1, 1.0))]
    return MixtureProblem(torch.tensor([0.5, 0.5]), means, torch.stack(parts))


@pytest.mark.parametrize("problem", [gaussian(), mixture()], ids=["gaussian", "mixture"])
def test_the_jacobian_of_an_exact_denoiser_is_its_covariance(
    problem: GaussianProblem | MixtureProblem,
) -> None:
    """Tweedie's second-order formula, each picture at its own noise."""
    exact, traced = problem.denoiser(), Jacobian(problem.denoiser())
    x, v = random(3, *SHAPE), random(3, *SHAPE, seed=1) - 0.5
    expected, ours = exact(x, SIGMA), traced(x, SIGMA)
    torch.testing.assert_close(ours.mean, expected.mean)
    assert not ours.mean.requires_grad
    P, J = exact.covariance(expected, SIGMA), traced.covariance(ours, SIGMA)
    for _ in range(2):  # the graph serves more than one product
        torch.testing.assert_close(J.apply(v), P.apply(v), rtol=0, atol=1e-8)
    assert not J.apply(v).requires_grad
    # Negative control: the covariance without its off-diagonal part is far from it.
    assert float((P.diagonal() * v - P.apply(v)).abs().max()) > 1e-4


def test_the_jacobian_does_not_need_gradients_to_be_on() -> None:
    with torch.no_grad():
        denoiser = Jacobian(gaussian().denoiser())
        denoised = denoiser(random(3, *SHAPE), SIGMA)
        product = denoiser.covariance(denoised, SIGMA).apply(random(3, *SHAPE, seed=1))
    assert float(product.abs().max()) > 0


def test_the_mean_variance_of_the_jacobian_is_estimated() -> None:
    """By one probe, always the same: it scales a system, and answers must not depend on calls."""
    denoiser = Jacobian(gaussian().denoiser())
    denoised = denoiser(random(3, *SHAPE), SIGMA)
    estimate = denoiser.covariance(denoised, SIGMA).diagonal()
    exact = gaussian().denoiser().covariance(denoised, SIGMA).diagonal().mean((1, 2, 3))
    assert estimate.shape == (3, 1, 1, 1)
    assert bool(((estimate.flatten() / exact).log().abs() < 1).all())
    assert torch.equal(denoiser.covariance(denoised, SIGMA).diagonal(), estimate)


def test_answers_of_others_have_no_jacobian() -> None:
    problem = gaussian()
    denoised = problem.denoiser()(random(3, *SHAPE), SIGMA)
    with pytest.raises(InputError, match="denoised"):
        Jacobian(problem.denoiser()).covariance(denoised, SIGMA)


class Measured(Denoiser):
    """A denoiser whose errors have a spectrum and another variance in every pixel."""

    inflation = 1.3
    confined = True

    def __call__(self, x: Tensor, sigma: Tensor) -> Denoised:
        return Denoised(x / 2, 0.01 + random(len(x), *SHAPE, seed=4))

    def covariance(self, denoised: Denoised, sigma: Tensor) -> Covariance:
        assert denoised.variance is not None
        spectrum = 0.1 + random(len(denoised.mean), *SHAPE, seed=5)
        return SpectralCovariance(spectrum, denoised.variance.sqrt())


def of(kind: type[Spectrum] | type[Pixels] | type[Isotropic]) -> tuple[Covariance, Covariance]:
    inner = Measured()
    outer, x = kind(inner), random(3, *SHAPE)
    assert (outer.inflation, outer.confined) == (1.3, True)
    assert torch.equal(outer(x, SIGMA).mean, x / 2)
    answer = inner(x, SIGMA)
    return outer.covariance(answer, SIGMA), inner.covariance(answer, SIGMA)


@pytest.mark.parametrize("kind", [Spectrum, Pixels, Isotropic])
def test_parts_keep_the_mean_variance(kind: type[Spectrum]) -> None:
    ours, whole = of(kind)
    everywhere = (P.diagonal().expand(3, *SHAPE) for P in (ours, whole))
    one, other = (diagonal.mean((1, 2, 3)) for diagonal in everywhere)
    # Exact up to channels whose spectra differ where their variances do.
    torch.testing.assert_close(one, other, rtol=0.05 if kind is Spectrum else 1e-12, atol=0)


def test_parts_are_what_they_are_called() -> None:
    v = random(3, *SHAPE, seed=6)
    spectrum, whole = of(Spectrum)
    assert isinstance(spectrum, SpectralCovariance)
    assert isinstance(whole, SpectralCovariance)
    assert torch.equal(spectrum.spectrum, whole.spectrum)
    assert spectrum.deviation.shape == (3, 1, 1, 1)
    pixels, whole = of(Pixels)
    torch.testing.assert_close(pixels.apply(v), whole.diagonal() * v)
    isotropic, whole = of(Isotropic)
    variance = whole.diagonal().mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(isotropic.apply(v), variance * v)


def test_an_exact_covariance_has_no_spectrum_to_take_apart() -> None:
    denoiser, v = gaussian().denoiser(), random(3, *SHAPE, seed=6)
    denoised = denoiser(random(3, *SHAPE), SIGMA)
    same = Spectrum(denoiser).covariance(denoised, SIGMA).apply(v)
    assert torch.equal(same, denoiser.covariance(denoised, SIGMA).apply(v))


class Watching(Denoiser):
    """Remembers, weakly, what another denoiser answered, and how much of it is alive."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.answers, self.most = denoiser, list[weakref.ref[Tensor]](), 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Denoised:
        denoised = self.denoiser(x, sigma)
        self.answers.append(weakref.ref(denoised.mean))
        self.most = max(self.most, self.alive)
        return denoised

    @property
    def alive(self) -> int:
        return sum(answer() is not None for answer in self.answers)

    def covariance(self, denoised: Denoised, sigma: Tensor) -> Covariance:
        return self.denoiser.covariance(denoised, sigma)


def small_network() -> NetworkDenoiser:
    """Untrained, of an ordinary size, and never measured."""
    config = {
        "sample_size": 8,
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": [8, 8],
        "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D"],
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    net, generator = UNet(UNetConfig.from_dict(config)), torch.Generator().manual_seed(7)
    for value in net.state_dict().values():
        value.copy_(torch.randn(value.shape, generator=generator) * value[0].numel() ** -0.5)
    return NetworkDenoiser(net, Cosine(), Parametrisation("v"))


@pytest.mark.parametrize("sampler", ["pinned", "conditional", "twisted"])
def test_the_jacobian_works_with_every_network_and_keeps_no_graph(sampler: str) -> None:
    watching = Watching(small_network())
    H = Inpaint((1, 8, 8), torch.rand(8, 8, generator=torch.Generator().manual_seed(1)) < 0.5)
    y = H(random(2, 1, 8, 8).float())
    options = {"noise": 0.05, "samples": 2, "steps": 5, "sampler": sampler}
    posterior = restore(y, H, watching, covariance="jacobian", **options)
    assert bool(posterior.samples.isfinite().all())
    assert posterior.provenance is not None
    assert posterior.provenance.sampler == f"{sampler}/jacobian"
    assert len(watching.answers) == 5
    # That of a step, and that of the step before until it is replaced.
    assert watching.most <= 2
    assert watching.alive == 0
    with pytest.raises(ModelError, match="residual spectrum"):
        restore(y, H, watching, **options)


def test_on_an_exact_problem_the_jacobian_changes_nothing() -> None:
    """The same noise, the same samples, to the accuracy of the solves."""
    problem, H = mixture(), Inpaint(SHAPE, random(3, 4, seed=2) < 0.5)
    y = H(problem.sample(2, 3)).float()
    options = {"noise": 0.02, "samples": 3, "steps": 6}
    plain, traced, isotropic = (
        restore(y, H, problem.denoiser(), covariance=name, **options).samples
        for name in ("model", "jacobian", "isotropic")
    )
    assert (traced - plain).abs().max() < 0.02
    assert (isotropic - plain).abs().max() > 0.02
    assert set(COVARIANCES) == {"model", "spectrum", "pixels", "isotropic", "jacobian"}
