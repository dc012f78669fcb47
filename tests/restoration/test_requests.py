"""What a restoration may be asked: numpy, an operator for each picture, noise of every kind."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor

from certes.diffusion.problems import GaussianProblem
from certes.errors import CertesWarning, InputError
from certes.intervals.posterior import Posterior
from certes.restoration import restore
from certes.restoration.noise_model import NoiseEstimate, SignalNoise
from certes.restoration.operators import Blur, Denoise, Inpaint, gaussian_kernel, random_mask
from certes.restoration.request import typical_level

from .laws import field

SHAPE = (1, 8, 8)
NOISE = 0.05
SETTINGS = {"noise": NOISE, "samples": 4, "steps": 5}


@pytest.fixture(scope="module")
def problem() -> GaussianProblem:
    return field(SHAPE, 0.15, 1.5)


def pictures(problem: GaussianProblem, count: int) -> Tensor:
    return problem.sample(count, 3).float()


def noise_like(x: Tensor, seed: int = 1) -> Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def test_numpy_arrays_are_taken(problem: GaussianProblem) -> None:
    x = pictures(problem, 2)
    H = Inpaint(SHAPE, random_mask(8, 8, 0.5, 0).numpy())
    y = H(x + NOISE * noise_like(x))
    from_tensor = restore(y, H, problem.denoiser(), **SETTINGS)
    from_array = restore(y.numpy(), H, problem.denoiser(), **SETTINGS)
    assert torch.equal(from_array.samples, from_tensor.samples)
    assert torch.equal(H(x.numpy()), H(x))
    with pytest.raises(InputError, match="int64"):
        H((255 * x).long().numpy())


def test_an_operator_for_each_picture(problem: GaussianProblem) -> None:
    x = pictures(problem, 3)
    masks = [Inpaint(SHAPE, random_mask(8, 8, 0.5, seed)) for seed in range(3)]
    y = torch.cat([H(row[None]) for H, row in zip(masks, x, strict=True)])
    together = restore(y, masks, problem.denoiser(), **SETTINGS)
    for i, H in enumerate(masks):
        alone = restore(y[i : i + 1], H, problem.denoiser(), **SETTINGS)
        torch.testing.assert_close(together.samples[:, i], alone.samples[:, 0], atol=2e-5, rtol=0)
    assert together.provenance is not None
    assert together.provenance.operator == 'inpaint {"known": 0.5}'
    swapped = restore(y, masks[::-1], problem.denoiser(), **SETTINGS)
    assert float((swapped.samples - together.samples).abs().max()) > 0.05


def test_operators_that_do_not_belong_together(problem: GaussianProblem) -> None:
    y = torch.rand(2, *SHAPE)
    for operators in ([Denoise(SHAPE)], [Denoise(SHAPE), Denoise((1, 8, 9))]):
        with pytest.raises(InputError, match="operator: "):
            restore(y, operators, problem.denoiser(), **SETTINGS)
    several = [Denoise(SHAPE), Blur(SHAPE, gaussian_kernel(1.0))]
    posterior = restore(y, several, problem.denoiser(), **SETTINGS)
    assert posterior.provenance is not None
    assert posterior.provenance.operator == "several operators"


def exact(problem: GaussianProblem, y: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance given one look at every pixel, each with a noise of its own."""
    prior, R = problem.covariance, torch.diag(std.double().flatten() ** 2)
    gain = prior @ torch.linalg.inv(prior + R)
    shift = (y.double() - problem.mean).flatten(1) @ gain.T
    variance = (prior - gain @ prior).diagonal()
    return problem.mean + shift.reshape(y.shape), variance.reshape(problem.shape)


@pytest.mark.parametrize("sampler", ["pinned", "conditional"])
def test_noise_of_its_own_for_every_value(problem: GaussianProblem, sampler: str) -> None:
    std = torch.linspace(0.01, 0.3, 64).reshape(SHAPE)
    x = pictures(problem, 2)
    y = x + std * noise_like(x)
    mean, variance = exact(problem, y, std)
    answer = restore(
        y, Denoise(SHAPE), problem.denoiser(), noise=std.expand_as(y), samples=300, sampler=sampler
    )
    assert answer.kept is not None
    ratio = answer.std.double() / variance.sqrt()
    assert float(ratio.mean()) == pytest.approx(1, abs=0.06)
    error = (answer.mean.double() - mean) / variance.sqrt()
    assert float(error.square().mean().sqrt()) < 0.2
    # One number for all pixels, however chosen, is not the same thing.
    level = float(std.square().mean().sqrt())
    plain = restore(y, Denoise(SHAPE), problem.denoiser(), noise=level, samples=300)
    plain_error = (plain.mean.double() - mean) / variance.sqrt()
    assert float(plain_error.square().mean().sqrt()) > 0.4


def test_such_noise_needs_a_sampler_that_can(problem: GaussianProblem) -> None:
    H, y = Blur(SHAPE, gaussian_kernel(1.0)), torch.rand(1, *SHAPE)
    map_of = torch.full_like(y, NOISE)
    by_itself = restore(y, H, problem.denoiser(), noise=map_of, samples=2, steps=3)
    assert by_itself.provenance is not None
    assert by_itself.provenance.sampler == "conditional"
    with pytest.raises(InputError, match="give sampler='conditional'"):
        restore(y, H, problem.denoiser(), noise=map_of, samples=2, steps=3, sampler="pinned")


def uncertain(problem: GaussianProblem, deviation: float, count: int) -> Posterior:
    y = torch.full((1, *SHAPE), 0.5)
    noise = NoiseEstimate(torch.tensor([0.2]), torch.tensor([deviation]))
    return restore(y, Denoise(SHAPE), problem.denoiser(), noise=noise, samples=count, steps=15)


def test_the_error_of_an_estimate_widens_the_posterior(problem: GaussianProblem) -> None:
    """In the middle of the prior only the spread depends on the noise: it becomes a mixture."""
    wide, narrow = uncertain(problem, 0.1, 400), uncertain(problem, 0.0, 400)
    levels = NoiseEstimate(torch.full((4000,), 0.2), torch.full((4000,), 0.1)).draw(
        torch.randn(4000, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    )
    y = torch.full((1, *SHAPE), 0.5)
    variances = [exact(problem, y, torch.full(SHAPE, float(s)))[1].mean() for s in levels[:300]]
    expected = math.sqrt(float(torch.stack(variances).mean()))
    assert float(wide.std.square().mean().sqrt()) == pytest.approx(expected, rel=0.05)
    kurtosis = [
        float((p.kept - p.mean).pow(4).mean() / (p.kept - p.mean).pow(2).mean() ** 2)
        for p in (wide, narrow)
        if p.kept is not None
    ]
    assert kurtosis[0] > 1.05 * kurtosis[1]


def test_drawn_noise_levels_do_not_depend_on_batches(problem: GaussianProblem) -> None:
    y = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(5))
    noise = NoiseEstimate(torch.tensor([0.1, 0.1, 0.2]), torch.tensor([0.01, 0.02, 0.01]))
    options = {"samples": 4, "steps": 5}
    together = restore(y, Denoise(SHAPE), problem.denoiser(), noise=noise, **options)
    small = restore(y, Denoise(SHAPE), problem.denoiser(), noise=noise, batch_size=1, **options)
    torch.testing.assert_close(together.samples, small.samples, atol=2e-5, rtol=0)
    one = NoiseEstimate(noise.level[1:2], noise.deviation[1:2])
    alone = restore(y[1:2], Denoise(SHAPE), problem.denoiser(), noise=one, **options)
    torch.testing.assert_close(together.samples[:, 1], alone.samples[:, 0], atol=2e-5, rtol=0)
    assert together.provenance is not None
    assert together.provenance.noise is None


def test_noise_that_grows_with_the_signal(problem: GaussianProblem) -> None:
    """It is read off the measurement itself: bright pixels are believed less."""
    x = pictures(problem, 1)
    law = SignalNoise(gain=0.02, read=0.02)
    std = (law.gain * x.clamp(min=0) + law.read**2).sqrt()
    y = x + std * noise_like(x)
    answer = restore(y, Denoise(SHAPE), problem.denoiser(), noise=law, samples=200)
    _, variance = exact(problem, y, std[0])
    ratio = answer.std.double() / variance.sqrt()
    assert float(ratio.mean()) == pytest.approx(1, abs=0.08)
    assert typical_level(law) == pytest.approx(math.sqrt(0.01 + 0.0004))


def test_what_is_reported_as_the_noise() -> None:
    assert typical_level(0.1) == pytest.approx(0.1)
    assert typical_level(torch.tensor([0.1, 0.3])) == pytest.approx(0.2)
    assert typical_level(NoiseEstimate(torch.tensor([0.3]), torch.zeros(1))) == pytest.approx(0.3)


def test_a_drowned_signal_is_said(problem: GaussianProblem) -> None:
    y = 0.5 + 10 * noise_like(torch.zeros(1, *SHAPE))
    with pytest.warns(CertesWarning, match="noise: 10 is far larger than the signal"):
        answer = restore(y, Denoise(SHAPE), problem.denoiser(), noise=10.0, samples=100)
    prior = problem.covariance.diagonal().sqrt().mean()
    assert float(answer.std.mean()) == pytest.approx(float(prior), rel=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restore(pictures(problem, 1), Denoise(SHAPE), problem.denoiser(), **SETTINGS)


def test_drawn_levels_have_the_stated_median_and_deviation() -> None:
    deviates = torch.randn(200_000, generator=torch.Generator().manual_seed(0)).double()
    for relative in (0.05, 0.5):
        estimate = NoiseEstimate(
            torch.full((200_000,), 0.2).double(), torch.full((200_000,), 0.2 * relative).double()
        )
        drawn = estimate.draw(deviates)
        assert float(drawn.min()) > 0
        assert float(drawn.median()) == pytest.approx(0.2, rel=0.01)
        assert float(drawn.std()) == pytest.approx(0.2 * relative, rel=0.02)
