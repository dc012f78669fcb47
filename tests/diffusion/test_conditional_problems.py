"""Pairs: exact conditional answers against dense formulas, derivatives and integration."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from certes.diffusion.denoiser import ConditionalDenoiser
from certes.diffusion.problems import (
    ConditionalGaussian,
    ConditionalMixture,
    GaussianProblem,
    MixtureProblem,
)
from certes.errors import InputError

SIDE = 4
N = SIDE**2
SHAPE = (1, SIDE, SIDE)
TAU = 0.02

Pairs = ConditionalGaussian | ConditionalMixture


def smooth(power: float) -> Tensor:
    """A stationary covariance, standard deviation 0.2, whose spectrum falls with frequency."""
    f = torch.fft.fftfreq(SIDE, dtype=torch.float64)
    spectrum = 1 / (0.05 + f[:, None] ** 2 + f**2) ** power
    row = torch.fft.ifft2(spectrum).real.flatten()
    i = torch.arange(SIDE)
    shift = (i[:, None] - i) % SIDE
    index = shift[:, None, :, None] * SIDE + shift[None, :, None, :]
    return 0.04 * row[index.reshape(N, N)] / row[0]


def masked(x: Tensor) -> Tensor:
    """Three of four pixels."""
    return x.flatten(1)[:, [i for i in range(N) if i % 4]]


def reduced(x: Tensor) -> Tensor:
    """Means of 2 x 2 pixels: measurements of a shape of their own."""
    return torch.nn.functional.avg_pool2d(x, 2)


def eye(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64)


def matrix_of(H: Callable[[Tensor], Tensor]) -> Tensor:
    return H(eye(N).reshape(N, *SHAPE)).flatten(1).T


def gaussian(H: Callable[[Tensor], Tensor] = masked, noise: float = TAU) -> ConditionalGaussian:
    mean = 0.5 + 0.1 * torch.linspace(-1, 1, N, dtype=torch.float64).reshape(SHAPE)
    return ConditionalGaussian(GaussianProblem(mean, smooth(1.0)), H, noise)


def mixture(H: Callable[[Tensor], Tensor] = reduced, noise: float = TAU) -> ConditionalMixture:
    means = torch.stack([torch.full(SHAPE, level, dtype=torch.float64) for level in (0.3, 0.5)])
    problem = MixtureProblem(
        torch.tensor([0.4, 0.6]), means, torch.stack([smooth(1.0), 0.3 * smooth(0.5)])
    )
    return ConditionalMixture(problem, H, noise)


def sigma(value: float, count: int) -> Tensor:
    return torch.full((count,), value, dtype=torch.float64)


def noisy(pairs: Pairs, count: int, sx: float, sy: float, seed: int = 3) -> tuple[Tensor, Tensor]:
    x, y = pairs.sample(count, seed)
    generator = torch.Generator().manual_seed(seed + 100)
    e, h = (torch.randn(v.shape, generator=generator, dtype=torch.float64) for v in (x, y))
    return x + sx * e, y + sy * h


def scores(
    denoiser: ConditionalDenoiser, x: Tensor, sx: float, y: Tensor, sy: float
) -> tuple[Tensor, Tensor]:
    """Of both blocks by Tweedie's formula, flat; zero for a condition without noise."""
    known = denoiser(x, sigma(sx, len(x)), y, sigma(sy, len(x)))
    assert known.y is not None
    score_y = (known.y - y) / sy**2 if sy else torch.zeros_like(y)
    return ((known.x.mean - x) / sx**2).flatten(1), score_y.flatten(1)


class Blocks:
    """The joint covariance of ``(x_t, y_t)`` and what follows from it, dense."""

    def __init__(self, pairs: ConditionalGaussian, sx: float, sy: float) -> None:
        H, S = matrix_of(pairs.H), pairs.problem.covariance
        mean = pairs.problem.mean.flatten()
        self.mean = torch.cat([mean, H @ mean])
        self.cross = S @ H.T
        self.y = H @ S @ H.T + (pairs.noise**2 + sy**2) * eye(len(H))
        x = S + sx**2 * eye(N)
        self.covariance = torch.cat(
            [torch.cat([x, self.cross], 1), torch.cat([self.cross.T, self.y], 1)]
        )
        self.K = self.cross @ self.y.inverse()
        self.C = x - self.K @ self.cross.T  # covariance of x_t given y_t
        self.clean = self.C - sx**2 * eye(N)

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        z = torch.cat([x.flatten(1), y.flatten(1)], 1) - self.mean
        return -torch.linalg.solve(self.covariance, z.T).T


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("H", [masked, reduced])
@pytest.mark.parametrize(("sx", "sy"), [(0.002, 0.01), (0.1, 1.0), (1.0, 1.0), (100.0, 0.3)])
def test_the_blocks_of_the_joint_score(H: Callable[[Tensor], Tensor], sx: float, sy: float) -> None:
    """The first is the conditional score (Batzolis et al. 2021, section 4.2)."""
    pairs = gaussian(H)
    x, y = noisy(pairs, 5, sx, sy)
    blocks = Blocks(pairs, sx, sy)
    joint = blocks.score(x, y)
    score_x, score_y = scores(pairs.denoiser(), x, sx, y, sy)
    assert relative(score_x, joint[:, :N]) < 1e-9
    assert relative(score_y, joint[:, N:]) < 1e-9
    away = y.flatten(1) - blocks.mean[N:]
    conditional = (x.flatten(1) - blocks.mean[:N] - away @ blocks.K.T) @ -blocks.C.inverse()
    assert relative(score_x, conditional) < 1e-9
    # Negative control: a denoiser that is told another level of the condition.
    assert relative(scores(pairs.denoiser(), x, sx, y, 1.1 * sy)[0], joint[:, :N]) > 1e-5


@pytest.mark.parametrize("sy", [0.0, 0.3])
def test_variances_are_those_of_the_posterior(sy: float) -> None:
    pairs, sx = gaussian(), 0.15
    x, y = noisy(pairs, 2, sx, sy)
    known = pairs.denoiser()(x, sigma(sx, 2), y, sigma(sy, 2)).x
    P = Blocks(pairs, sx, sy).clean
    exact = P - P @ (P + sx**2 * eye(N)).inverse() @ P
    assert known.variance is not None
    torch.testing.assert_close(
        known.variance.flatten(1), exact.diagonal().expand(2, -1), rtol=1e-9, atol=1e-13
    )


def gap(pairs: ConditionalGaussian, x: Tensor, sx: float, y: Tensor, sy: float) -> float:
    """``E |s(x_t | y_t) - s(x_t | y)|^2`` over ``y_t`` given one ``y``.

    The score is affine in ``y_t``: its values at ``y`` and one unit away say everything.
    """
    m = y.numel()
    steps = torch.cat([torch.zeros(1, m).double(), eye(m)]).reshape(m + 1, *y.shape[1:])
    moved, _ = scores(pairs.denoiser(), x.expand(m + 1, *SHAPE), sx, y + steps, sy)
    known, _ = scores(pairs.denoiser(), x, sx, y, 0.0)
    return float((moved[0] - known).square().sum() + sy**2 * (moved[1:] - moved[0]).square().sum())


@pytest.mark.parametrize("H", [masked, reduced])
def test_the_error_of_a_noisy_condition(H: Callable[[Tensor], Tensor]) -> None:
    """Theorem 3 sharpened: it is ``sy^2 |C^-1 K0|_F^2`` to leading order, and known beyond."""
    pairs, sx = gaussian(H), 0.05
    x, y = noisy(pairs, 1, sx, 0.0)
    clean = Blocks(pairs, sx, 0.0)
    r = x.flatten() - clean.mean[:N] - clean.K @ (y.flatten() - clean.mean[N:])
    limit = float((clean.C.inverse() @ clean.K).square().sum())
    for sy in (0.01, 0.1, 1.0):
        noisy_y = Blocks(pairs, sx, sy)
        inverse = noisy_y.C.inverse()
        bias = (clean.C.inverse() - inverse) @ r
        bias -= inverse @ (clean.K - noisy_y.K) @ (y.flatten() - clean.mean[N:])
        wanted = bias.square().sum() + sy**2 * (inverse @ noisy_y.K).square().sum()
        assert gap(pairs, x, sx, y, sy) == pytest.approx(float(wanted), rel=1e-8)
    few = [1e-4, 1e-3]
    errors = [gap(pairs, x, sx, y, sy) for sy in few]
    assert math.log10(errors[1] / errors[0]) == pytest.approx(2, abs=0.05)
    assert errors[0] / (few[0] ** 2 * limit) == pytest.approx(1, rel=1e-3)
    # At large levels the slope is another: what is found above is no accident of the formula.
    assert gap(pairs, x, sx, y, 1.0) < 0.01 * limit


@pytest.mark.parametrize("sy", [0.03, 0.3, 1.0])
def test_the_gap_is_one_of_fisher_informations(sy: float) -> None:
    """``E |s(x_t|y) - s(x_t|y_t)|^2 = tr C^-1 - tr C'^-1``, for a Gaussian."""
    pairs, sx = gaussian(), 0.1
    clean, noisy_y = Blocks(pairs, sx, 0.0), Blocks(pairs, sx, sy)
    # All scores are linear: their second moments, from those of (x_t, y, y_t - y), are exact.
    m = matrix_of(pairs.H).shape[0]
    moments = torch.block_diag(clean.covariance, sy**2 * eye(m))
    units = eye(N + 2 * m)
    z = units + torch.cat([clean.mean, torch.zeros(m)])
    x, y, h = z[:, :N].reshape(-1, *SHAPE), z[:, N : N + m], z[:, N + m :]
    difference = scores(pairs.denoiser(), x, sx, y, 0.0)[0]
    difference = difference - scores(pairs.denoiser(), x, sx, y + h, sy)[0]
    found = torch.trace(difference.T @ moments @ difference)
    wanted = torch.trace(clean.C.inverse()) - torch.trace(noisy_y.C.inverse())
    assert float(found) == pytest.approx(float(wanted), rel=1e-8)


def z_score_of_the_gap(told: float) -> float:
    """How far ``E s'(s - s')`` is from zero, in standard errors: s' is the mean of s given y_t."""
    pairs, sx, sy, count = mixture(), 0.1, 0.3, 4000
    x, y = noisy(pairs, count, sx, 0.0)
    h = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    s, _ = scores(pairs.denoiser(), x, sx, y, 0.0)
    s_t, _ = scores(pairs.denoiser(), x, sx, y + sy * h, told)
    product = (s_t * (s - s_t)).sum(1)
    return float(product.mean() / product.std()) * count**0.5


def test_the_gap_of_a_mixture() -> None:
    assert abs(z_score_of_the_gap(told=0.3)) < 4
    assert abs(z_score_of_the_gap(told=0.1)) > 10  # negative control


# --- two pixels, by integration -------------------------------------------------------------------


def total(x: Tensor) -> Tensor:
    return x.flatten(1) @ torch.tensor([[1.0], [0.5]]).to(x)


def two_pixels(noise: float) -> ConditionalMixture:
    means = torch.tensor([[[[0.2, 0.7]]], [[[0.8, 0.4]]]], dtype=torch.float64)
    parts = torch.tensor([[[0.04, 0.02], [0.02, 0.03]], [[0.02, 0.0], [0.0, 0.05]]])
    problem = MixtureProblem(torch.tensor([0.3, 0.7]), means, parts.double())
    return ConditionalMixture(problem, total, noise)


@pytest.mark.parametrize(("sx", "sy"), [(0.3, 0.0), (0.2, 0.15), (2.0, 0.4)])
def test_a_mixture_by_integration(sx: float, sy: float) -> None:
    """The trapezium rule over both pixels, exact for such smooth functions."""
    pairs = two_pixels(0.1)
    x, y = torch.tensor([[[[0.4, 0.6]]]]).double(), torch.tensor([[0.9]]).double()
    line = torch.linspace(-1.5, 2.5, 501, dtype=torch.float64)
    area = float(line[1] - line[0]) ** 2
    x0 = torch.cartesian_prod(line, line)
    joint = torch.zeros(len(x0), dtype=torch.float64)
    for weight, part in zip(pairs.problem.weights, pairs.problem.components, strict=True):
        density = MultivariateNormal(part.mean.flatten(), part.covariance)
        joint += weight * density.log_prob(x0).exp()
    seen = total(x0)[:, 0]
    v = 0.1**2 + sy**2
    of_y = torch.exp(-((y - seen) ** 2)[0] / (2 * v)) / math.sqrt(2 * math.pi * v)
    of_x = torch.exp(-((x.flatten() - x0) ** 2).sum(1) / (2 * sx**2)) / (2 * math.pi * sx**2)
    evidence = float((joint * of_y).sum()) * area
    weight = joint * of_y * of_x
    density = float(weight.sum()) * area
    weight = weight / weight.sum()
    mean = weight @ x0
    known = pairs.denoiser()(x, sigma(sx, 1), y, sigma(sy, 1))
    assert known.x.variance is not None
    assert known.y is not None
    torch.testing.assert_close(known.x.mean.flatten(), mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        known.x.variance.flatten(), weight @ (x0 - mean) ** 2, rtol=1e-8, atol=1e-10
    )
    # Given x_0 and y_t, what y was is known from two measurements of the same thing.
    clean = weight @ (seen + 0.1**2 / v * (y[0] - seen))
    torch.testing.assert_close(known.y[0, 0], clean, rtol=1e-9, atol=1e-9)
    assert float(pairs.log_joint(x, sx, y, sy)) == pytest.approx(math.log(density), abs=1e-8)
    assert float(pairs.log_evidence(y, sy)) == pytest.approx(math.log(evidence), abs=1e-8)


# --- what both have in common ---------------------------------------------------------------------


@pytest.mark.parametrize("make", [gaussian, mixture])
def test_the_denoiser_is_the_gradient_of_the_joint_density(make: Callable[[], Pairs]) -> None:
    pairs, sx, sy = make(), 0.2, 0.1
    x, y = (value.requires_grad_() for value in noisy(pairs, 3, sx, sy))
    of_x, of_y = torch.autograd.grad(pairs.log_joint(x, sx, y, sy).sum(), [x, y])
    score_x, score_y = scores(pairs.denoiser(), x, sx, y, sy)
    torch.testing.assert_close(score_x, of_x.flatten(1), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(score_y, of_y.flatten(1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("noise", [0.0, TAU])
@pytest.mark.parametrize("make", [gaussian, mixture])
def test_less_and_less_noise_is_none(make: Callable[..., Pairs], noise: float) -> None:
    pairs, sx = make(noise=noise), 0.1
    x, y = noisy(pairs, 4, sx, 0.0)
    clean = pairs.denoiser()(x, sigma(sx, 4), y, sigma(0.0, 4))
    errors: list[float] = []
    for sy in (1e-3, 1e-4):
        known = pairs.denoiser()(x, sigma(sx, 4), y, sigma(sy, 4))
        errors.append(float((known.x.mean - clean.x.mean).abs().max()))
        assert clean.y is not None
        assert known.y is not None
        torch.testing.assert_close(known.y, clean.y, atol=3 * sy, rtol=0)
    assert errors[1] < 0.02 * errors[0] < 1e-3  # quadratic
    torch.testing.assert_close(clean.y, y)
    if noise == 0:
        torch.testing.assert_close(pairs.H(clean.x.mean), y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("noise", [0.0, TAU])
@pytest.mark.parametrize("make", [gaussian, mixture])
def test_without_a_picture_it_is_the_posterior(make: Callable[..., Pairs], noise: float) -> None:
    """A picture drowned in noise says nothing."""
    pairs = make(noise=noise)
    x, y = noisy(pairs, 3, 1e6, 0.0)
    known = pairs.denoiser()(x, sigma(1e6, 3), y, sigma(0.0, 3)).x
    if isinstance(pairs, ConditionalGaussian):
        mean, covariance = pairs.posterior(y)
        covariance = covariance.expand(3, N, N)
    else:
        posterior = pairs.posterior(y)
        mean, covariance = posterior.mean(), posterior.covariance()
    torch.testing.assert_close(known.mean, mean, rtol=0, atol=1e-6)
    assert known.variance is not None
    torch.testing.assert_close(
        known.variance.flatten(1), covariance.diagonal(dim1=1, dim2=2), rtol=1e-6, atol=1e-10
    )


def test_redundant_measurements_without_noise() -> None:
    def twice(x: Tensor) -> Tensor:
        return torch.cat([masked(x), masked(x)], 1)

    once, double = gaussian(noise=0.0), gaussian(twice, 0.0)
    x, y = noisy(once, 2, 0.1, 0.0)
    level, none = sigma(0.1, 2), sigma(0.0, 2)
    torch.testing.assert_close(
        double.denoiser()(x, level, torch.cat([y, y], 1), none).x.mean,
        once.denoiser()(x, level, y, none).x.mean,
    )
    # Seen by a camera that adds noise of its own, twice is better than once.
    once, double = gaussian(), gaussian(twice)
    y = torch.cat([y, y], 1)
    blocks = Blocks(double, 0.1, 0.2)
    score, _ = scores(double.denoiser(), x, 0.1, y, 0.2)
    assert relative(score, blocks.score(x, y)[:, :N]) < 1e-9


@pytest.mark.parametrize("make", [gaussian, mixture])
def test_densities_are_consistent(make: Callable[[], Pairs]) -> None:
    """The evidence is what is left of the joint density when the picture is drowned."""
    pairs, level = make(), 1e6
    x, y = noisy(pairs, 3, level, 0.2)
    flat = N * math.log(2 * math.pi * level**2) / 2
    away = (x - 0.5).flatten(1).square().sum(1) / (2 * level**2)
    joint = pairs.log_joint(x, level, y, 0.2)
    torch.testing.assert_close(joint + flat + away, pairs.log_evidence(y, 0.2), atol=1e-4, rtol=0)
    if isinstance(pairs, ConditionalGaussian):
        blocks = Blocks(pairs, 0.3, 0.2)
        z = torch.cat([x.flatten(1), y.flatten(1)], 1)
        wanted = MultivariateNormal(blocks.mean, blocks.covariance).log_prob(z)
        torch.testing.assert_close(pairs.log_joint(x, 0.3, y, 0.2), wanted)


@pytest.mark.parametrize("make", [gaussian, mixture])
def test_every_pair_may_have_levels_of_its_own(make: Callable[[], Pairs]) -> None:
    pairs = make()
    x, y = noisy(pairs, 4, 0.3, 0.3)
    sx, sy = torch.tensor([0.1, 1.0, 0.3, 0.1]), torch.tensor([0.5, 0.0, 0.5, 0.2])
    sx, sy = sx.double(), sy.double()
    denoiser = pairs.denoiser()
    together = denoiser(x, sx, y, sy)
    joint, evidence = pairs.log_joint(x, sx, y, sy), pairs.log_evidence(y, sy)
    for i in range(4):
        one = slice(i, i + 1)
        alone = denoiser(x[one], sx[one], y[one], sy[one])
        for a, b in (
            (together.x.mean, alone.x.mean),
            (together.x.variance, alone.x.variance),
            (together.y, alone.y),
        ):
            assert a is not None
            assert b is not None
            torch.testing.assert_close(a[one], b)
        torch.testing.assert_close(
            joint[one], pairs.log_joint(x[one], float(sx[i]), y[one], float(sy[i]))
        )
        torch.testing.assert_close(evidence[one], pairs.log_evidence(y[one], float(sy[i])))


@pytest.mark.parametrize("make", [gaussian, mixture])
def test_samples_are_pairs(make: Callable[..., Pairs]) -> None:
    pairs, count = make(noise=0.5), 4000
    x, y = pairs.sample(count, 7)
    torch.testing.assert_close(x, pairs.problem.sample(count, 7))
    noise = (y - pairs.H(x)).flatten(1) / 0.5
    size = noise.numel() ** 0.5
    assert abs(float(noise.mean())) * size < 4
    assert abs(float(noise.std()) - 1) * size < 4
    correlation = noise.T @ (x.flatten(1) - x.flatten(1).mean(0)) / x.flatten(1).std(0)
    assert float(correlation.abs().max()) / count < 5 / count**0.5
    assert torch.equal(pairs.sample(3, 7)[1], pairs.sample(3, 7)[1])
    assert not torch.equal(pairs.sample(3, 7)[1], pairs.sample(3, 8)[1])


def test_answers_come_in_the_precision_of_the_question() -> None:
    pairs = mixture()
    x, y = (value.float() for value in noisy(pairs, 2, 0.3, 0.1))
    level = torch.full((2,), 0.3)
    known = pairs.denoiser()(x, level, y, level)
    assert known.y is not None
    assert known.x.variance is not None
    assert {known.x.mean.dtype, known.x.variance.dtype, known.y.dtype} == {torch.float32}
    assert known.y.shape == y.shape == (2, 1, 2, 2)
    assert pairs.log_joint(x, 0.3, y, 0.1).dtype == torch.float32


def test_made_under_inference_mode_it_still_has_gradients() -> None:
    pairs = gaussian()
    x, y = noisy(pairs, 2, 0.3, 0.1)
    level = sigma(0.3, 2)
    with torch.inference_mode():
        pairs.denoiser()(x, level, y, level)
    x.requires_grad_()
    pairs.denoiser()(x, level, y, level).x.mean.sum().backward()
    assert x.grad is not None
    assert np.isfinite(x.grad.numpy()).all()


def test_negative_noise_is_refused() -> None:
    with pytest.raises(InputError, match=r"noise: -0\.1"):
        gaussian(noise=-0.1)
