"""Samplers of what was rounded: calibrated where the usual model of quantisation is not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy.stats import truncnorm
from torch import Tensor

import certes
from certes.data.bundled import bundled_pictures
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.problems import GaussianProblem
from certes.diffusion.schedules import linear_betas
from certes.errors import InputError
from certes.evaluation.metrics import psnr
from certes.restoration import restore
from certes.restoration.cells import looks_at_cells
from certes.restoration.covariances import Diagonal
from certes.restoration.measurement import Measurement
from certes.restoration.operators import Denoise, Jpeg, Quantise, RoundedOperator
from certes.restoration.samplers import SAMPLERS, default_sampler, rounded
from certes.restoration.samplers.jpeg import jpeg_levels, sample_jpeg
from certes.restoration.samplers.rounded import value_variances

from ..laws import field
from ..operator_case import dense, random

SAMPLES = 19  # of which the extremes bound nine tenths
WINDOW = (0.88, 0.935)


def white(shape: tuple[int, int, int], tau: float) -> GaussianProblem:
    n = math.prod(shape)
    mean = torch.full(shape, 0.5, dtype=torch.float64)
    return GaussianProblem(mean, tau**2 * torch.eye(n, dtype=torch.float64))


def values(*numbers: float) -> Tensor:
    return torch.tensor([numbers], dtype=torch.float64)


def test_a_look_leaves_the_mean_and_the_variance_of_the_truncated_law() -> None:
    m, s = values(0.1, 0.3, -0.9, 0.0, 2.0, -0.2), values(1.0, 0.2, 0.4, 0.05, 0.5, 30.0)
    centre, width = values(0.0, 0.1, 0.2, 0.01, 0.0, 0.3), torch.tensor([1.0, 0.5, 0.2, 0.3, 2, 1])
    looks, r = looks_at_cells(m, s**2, centre, width)
    v = 1 / (1 / r + 1 / s**2)
    mean = v * (looks / r + m / s**2)
    low, high = ((centre + side * width / 2 - m) / s for side in (-1, 1))
    law = truncnorm(low.numpy(), high.numpy(), loc=m.numpy(), scale=s.numpy())
    torch.testing.assert_close(mean, torch.from_numpy(law.mean()), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(v, torch.from_numpy(law.var()), rtol=1e-5, atol=1e-9)


def test_a_value_hardly_known_is_looked_at_with_the_uniform_errors_variance() -> None:
    looks, r = looks_at_cells(values(0.4), values(1e4), values(0.3), torch.tensor([0.6]))
    torch.testing.assert_close(looks, values(0.3), rtol=0, atol=1e-6)
    torch.testing.assert_close(r, values(0.6**2 / 12), rtol=1e-4, atol=0)


def test_a_value_well_inside_its_cell_is_left_alone() -> None:
    _, r = looks_at_cells(values(0.1), values(1e-6), values(0.0), torch.tensor([0.6]))
    assert float(r) > 100


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_value_far_outside_is_moved_to_the_edge_and_stays_finite(dtype: torch.dtype) -> None:
    m = torch.tensor([[5.0, -300.0, 0.31]], dtype=dtype)
    variance = torch.tensor([[1e-6, 1e-8, 1e-16]], dtype=dtype)
    looks, r = looks_at_cells(m, variance, torch.zeros_like(m), torch.full((3,), 0.6, dtype=dtype))
    assert bool((looks.isfinite() & r.isfinite() & (r > 0)).all())
    assert bool((looks * m.sign() < m.abs()).all())


def rounders(shape: tuple[int, int, int]) -> list[RoundedOperator]:
    return [Jpeg(shape, 50), Quantise(shape, 4)]


def test_variances_of_values_are_exact_where_they_do_not_mix() -> None:
    variance, like = 0.1 + random(2, 3, 5, 4).square(), random(2, 3, 5, 4)
    ours = value_variances(Quantise((3, 5, 4), 4), Diagonal(variance), like)
    torch.testing.assert_close(ours, variance.flatten(1))
    one, like = torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64), random(2, 1, 16, 24)
    ours = value_variances(Jpeg((1, 16, 24), 50), Diagonal(one), like)
    torch.testing.assert_close(ours, torch.full_like(ours, 0.3), rtol=1e-3, atol=0)


@pytest.mark.parametrize("shape", [(1, 9, 17), (3, 1, 10)])
def test_values_that_see_nothing_do_no_harm(shape: tuple[int, int, int]) -> None:
    like = random(2, *shape)
    H = Jpeg(shape, 50)
    ours = value_variances(H, Diagonal(torch.ones_like(like)), like)
    assert bool((ours.isfinite() & (ours > 0)).all())
    assert bool((H.linear.independent(torch.ones_like(like)) < 1e-9).any())


def test_variances_of_values_follow_correlated_errors() -> None:
    problem, H = field((1, 32, 32), 0.1, 2.0), Jpeg((1, 32, 32), 50)
    level, x = torch.tensor([0.05], dtype=torch.float64), problem.sample(1, 0)
    covariance = problem.denoiser().covariance(Denoised(x), level)
    matrix = dense(H.linear)  # pyright: ignore[reportArgumentType]
    images = covariance.apply(matrix.reshape(-1, *H.in_shape))
    exact = (matrix * images.flatten(1)).sum(1)
    ours = value_variances(H, covariance, x)[0]
    likely = exact > 0.05 * exact.max()
    independent = H.linear.independent(covariance.diagonal())[0]
    assert float((ours / exact)[likely].log().abs().mean()) < 0.25
    assert float((independent / exact)[likely].log().abs().mean()) > 0.5  # not white


def coverage(problem: GaussianProblem, H: RoundedOperator, noise: float, count: int) -> float:
    """The share of the truth between the extremes of samples, by the call that users make."""
    x = problem.sample(count, 1)
    e = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).double()
    y = H(x + noise * e)
    samples = restore(y, H, problem.denoiser(), noise=noise, samples=SAMPLES).samples
    assert samples is not None
    inside = (x >= samples.amin(0)) & (x <= samples.amax(0))
    return float(inside.double().mean())


FIELDS: dict[str, Callable[[], tuple[GaussianProblem, RoundedOperator, float]]] = {
    "grey": lambda: (field((1, 8, 8), 0.1, 2.0), Jpeg((1, 8, 8), 10), 0.0),
    "cut block": lambda: (field((1, 9, 6), 0.1, 2.0), Jpeg((1, 9, 6), 20), 0.0),
    "halved colours": lambda: (field((3, 8, 8), 0.1, 2.0), Jpeg((3, 8, 8), 10), 0.0),
    "noise before": lambda: (field((1, 8, 8), 0.1, 2.0), Jpeg((1, 8, 8), 60), 0.05),
    "few levels": lambda: (field((1, 8, 8), 0.1, 2.0), Quantise((1, 8, 8), 5), 0.0),
    "mostly one level": lambda: (white((1, 8, 8), 0.12), Quantise((1, 8, 8), 3), 0.0),
}


@pytest.mark.parametrize("name", FIELDS)
def test_intervals_hold_nine_tenths(name: str) -> None:
    problem, H, noise = FIELDS[name]()
    low, high = WINDOW
    assert low < coverage(problem, H, noise, 16 if H.in_shape[0] == 3 else 30) < high


def test_the_usual_model_of_quantisation_fails_the_same_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Negative control: noise of variance q^2 / 12, whatever is known of the value."""

    def uniform(
        mean: Tensor, variance: Tensor, centres: Tensor, widths: Tensor
    ) -> tuple[Tensor, Tensor]:
        return centres, (widths**2 / 12).expand_as(centres)

    monkeypatch.setattr(rounded, "looks_at_cells", uniform)
    problem, H, noise = FIELDS["mostly one level"]()
    assert coverage(problem, H, noise, 30) < WINDOW[0]


def test_the_default_for_what_was_rounded() -> None:
    for H in rounders((1, 8, 8)):
        assert default_sampler(H) == "rounded"
    assert default_sampler(Denoise((1, 8, 8))) != "rounded"
    with pytest.raises(InputError, match="give sampler='rounded'"):
        restore(torch.zeros(1, 1, 8, 8), Jpeg((1, 8, 8), 5), "nuclei", noise=0, sampler="ddrm")


def test_real_pictures_come_out_better_than_their_files_and_agree_with_them() -> None:
    x = bundled_pictures()[0].pixels[None, :, 64:128, 64:128]
    H, model = Jpeg((1, 64, 64), 10), certes.load("nuclei")
    y = H(x)
    posterior = restore(y, H, model, noise=0, samples=4, steps=12)
    assert float(psnr(posterior.mean, x)) > float(psnr(y, x)) + 1
    assert posterior.samples is not None
    again = H.encode(posterior.samples[:, 0])
    assert float((again == H.codes_of(y)).float().mean()) > 0.98


@pytest.mark.parametrize("sampler", ["rounded", "jpeg"])
def test_a_picture_is_answered_alike_in_every_batch(sampler: str) -> None:
    problem, H = field((1, 9, 8), 0.1, 2.0), Jpeg((1, 9, 8), 30)
    y = H(problem.sample(3, 0))
    both = [
        restore(rows, H, problem.denoiser(), noise=0, samples=2, steps=5, sampler=sampler).samples
        for rows in (y, y[1:2])
    ]
    assert both[0] is not None
    assert both[1] is not None
    torch.testing.assert_close(both[0][:, 1:2], both[1], rtol=0, atol=1e-9)


class Stubborn(Denoiser):
    """One answer to everything; it keeps what it was asked."""

    def __init__(self, answer: Tensor) -> None:
        self.answer = answer
        self.questions: list[tuple[Tensor, float]] = []

    def __call__(self, x: Tensor, sigma: Tensor) -> Denoised:
        self.questions.append((x, float(sigma[0])))
        return Denoised(self.answer)

    def covariance(self, denoised: Denoised, sigma: Tensor) -> Diagonal:
        raise NotImplementedError  # DDRM does not ask


def test_the_published_levels() -> None:
    blank = torch.zeros(1, 1, 8, 8)
    measurement = Measurement(Jpeg((1, 8, 8), 5), blank, torch.zeros(1))
    table = linear_betas()
    times = table.time_of_index(torch.arange(285, -1, -15))
    expected = torch.cat([table.noise_level(times) / 2, torch.zeros(1, dtype=torch.float64)])
    torch.testing.assert_close(jpeg_levels(measurement, 20), expected)
    for steps in (0, 301):
        with pytest.raises(InputError, match=f"steps: {steps}"):
            jpeg_levels(measurement, steps)


@pytest.mark.parametrize(("eta", "eta_b"), [(1.0, 0.4), (0.3, 1.0)])
def test_the_published_steps(eta: float, eta_b: float) -> None:
    H, y, answer = Jpeg((1, 8, 8), 20), random(1, 1, 8, 8), random(1, 1, 8, 8, seed=1)
    levels, denoiser = torch.tensor([0.3, 0.1, 0.0]), Stubborn(answer)
    measurement = Measurement(H, y, torch.zeros(1))
    source = NoiseSource(stream_seeds(0, ["0"]))
    states = list(sample_jpeg(measurement, denoiser, levels.double(), source, eta=eta, eta_b=eta_b))
    again = NoiseSource(stream_seeds(0, ["0"]))
    e = [again.normal((1, 8, 8), torch.float64) for _ in range(3)]
    first = y + 0.3 * e[0]
    centre = answer + eta_b * (y - H(answer))
    second = centre + 0.1 * (eta * e[1] + (1 - eta) * (first - answer) / 0.3)
    for (x, level), expected, at in zip(
        denoiser.questions, (first, second), (0.3, 0.1), strict=True
    ):
        torch.testing.assert_close(x, expected, rtol=0, atol=1e-6)
        assert level == pytest.approx(at)
    torch.testing.assert_close(states[-1].x, centre, rtol=0, atol=1e-12)


def test_the_published_sampler_is_not_inflated() -> None:
    assert not SAMPLERS["jpeg"].posterior
    assert SAMPLERS["rounded"].posterior


def test_noise_of_its_own_for_every_value_is_refused() -> None:
    """Cells are made of one noise level for each picture."""
    H, y = Jpeg((1, 8, 8), 50), torch.full((1, 1, 8, 8), 0.5)
    mean = torch.full((1, 8, 8), 0.5, dtype=torch.float64)
    prior = GaussianProblem(mean, 0.04 * torch.eye(64, dtype=torch.float64)).denoiser()
    with pytest.raises(InputError, match="of a measurement that is not linear"):
        restore(y, H, prior, noise=torch.full_like(y, 0.01), samples=1, steps=2)
    assert restore(y, H, prior, noise=0.01, samples=1, steps=2).samples.shape == (1, 1, 1, 8, 8)
