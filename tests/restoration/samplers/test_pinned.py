"""The covariance-aware sampler: exact in the limit, calibrated at 20 steps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import GaussianProblem, MixtureProblem
from certes.diffusion.problems.linear import condition
from certes.diffusion.solvers.sampling import SIGMA_MIN
from certes.restoration import conditional_mean
from certes.restoration.measurement import SpectralMeasurement, measure
from certes.restoration.operators import Blur, DecomposedOperator, Denoise, Inpaint, SuperResolution
from certes.restoration.operators.kernels import gaussian_kernel
from certes.restoration.samplers import levels, pinned
from certes.restoration.samplers.ddrm import official_levels, sample_ddrm
from certes.restoration.samplers.pinned import noise_levels, sample_pinned

from ..laws import field, last, law, repeated

Z = 1.6448536269514722  # of a nominal 90 % interval
NOISE = 0.05


@pytest.fixture
def exact_solves(monkeypatch: pytest.MonkeyPatch) -> None:
    """With these the sampler of a Gaussian problem is affine, and its law can be computed."""
    monkeypatch.setattr(conditional_mean, "TOLERANCE", 1e-12)
    monkeypatch.setattr(conditional_mean, "MAX_ITERATIONS", 200)


@pytest.fixture
def wide_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends of the grid whose own share of the error does not show."""
    monkeypatch.setattr(pinned, "SIGMA_MAX", 20.0)
    monkeypatch.setattr(levels, "SIGMA_MIN", 5e-4)


def some_mask(side: int) -> Tensor:
    return torch.rand(side, side, generator=torch.Generator().manual_seed(1)) < 0.4


def tasks(side: int) -> dict[str, DecomposedOperator]:
    shape = (1, side, side)
    return {
        "inpaint": Inpaint(shape, some_mask(side)),
        "super-resolve": SuperResolution(shape, side // 2),
        "bicubic": SuperResolution(shape, 2, "bicubic"),
        "deblur": Blur(shape, gaussian_kernel(0.8), "reflect"),
        "denoise": Denoise(shape),
    }


every_task = pytest.mark.parametrize("task", tasks(4))


def posed(
    problem: GaussianProblem, H: DecomposedOperator, noise: float
) -> tuple[SpectralMeasurement, Tensor, Tensor]:
    """A measurement of a draw from the problem; mean (n,) and covariance of its posterior."""
    e = torch.randn(1, *H.out_shape, generator=torch.Generator().manual_seed(3)).double()
    y = H(problem.sample(1, 7)) + noise * e
    mean, covariance = problem.posterior(y, H, noise)
    measurement = measure(H, y, torch.tensor([noise], dtype=torch.float64))
    return measurement, mean.flatten(), covariance


def errors(
    problem: GaussianProblem,
    measurement: SpectralMeasurement,
    mean: Tensor,
    covariance: Tensor,
    steps: int,
) -> tuple[float, float]:
    """Of the mean, in posterior deviations, and of the covariance, relative."""
    levels = noise_levels(measurement, steps)
    m, c = law(sample_pinned, measurement, problem.denoiser(), levels)
    shift = (m - mean).abs().max() / covariance.diagonal().max().sqrt()
    return float(shift), float((c - covariance).norm() / covariance.norm())


@every_task
@pytest.mark.usefixtures("exact_solves", "wide_grid")
def test_the_law_converges_to_the_posterior_at_second_order(task: str) -> None:
    problem = field((1, 4, 4), 0.15, 1.5)
    known = posed(problem, tasks(4)[task], NOISE)
    # Where in its step a coefficient crosses its own noise level makes single errors jump.
    (_, coarse), (shift, fine) = (errors(problem, *known, steps) for steps in (20, 160))
    assert shift < 1e-3
    assert fine < 0.003
    assert math.log2(coarse / fine) / 3 == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("task", ["inpaint", "super-resolve"])
@pytest.mark.usefixtures("exact_solves", "wide_grid")
def test_the_law_converges_without_noise(task: str) -> None:
    problem = field((1, 4, 4), 0.15, 1.5)
    known = posed(problem, tasks(4)[task], 0.0)
    (_, coarse), (shift, fine) = (errors(problem, *known, steps) for steps in (20, 80))
    assert shift < 1e-3
    assert fine < 0.01
    assert math.log2(coarse / fine) / 2 == pytest.approx(2, abs=0.4)


@every_task
def test_the_loose_solves_cost_less_than_a_percent(task: str) -> None:
    """As shipped, the law is that of the impulses' batch only nearly: one sample, one answer."""
    problem = field((1, 4, 4), 0.15, 1.5)
    shift, spread = errors(problem, *posed(problem, tasks(4)[task], NOISE), 100)
    assert shift < 0.01
    assert spread < 0.015


@pytest.mark.usefixtures("exact_solves", "wide_grid")
def test_coefficients_of_every_noise_level_at_once() -> None:
    """Not seen, noisier than the grid's start, crossed at various levels, almost exact."""
    shape, a = (1, 2, 4), torch.tensor([[math.inf, 30.0, 2.0, 0.3, 0.11, 0.1, 0.02, 1e-4]]).double()
    problem = field(shape, 0.2, 1.0)
    looks = torch.linspace(0.2, 0.9, 8).double()[None]
    seen = a[0].isfinite()
    weighted = torch.eye(8, dtype=torch.float64)[seen] / a[0, seen, None]
    prior = problem.mean.flatten(), problem.covariance
    exact = condition(*prior, weighted, looks[:, seen] / a[:, seen], 1.0)
    measurement = SpectralMeasurement(Denoise(shape), looks, a)
    known = measurement, exact.mean.flatten(), exact.covariance
    (_, coarse), (shift, fine) = (errors(problem, *known, steps) for steps in (30, 120))
    assert shift < 5e-3  # the look at noise 30 is all but ignored
    assert fine < 0.01
    assert math.log2(coarse / fine) / 2 == pytest.approx(2, abs=0.4)


@pytest.mark.usefixtures("exact_solves", "wide_grid")
def test_nothing_measured_draws_from_the_prior() -> None:
    problem = field((1, 2, 3), 0.2, 1.0, mean=0.3)
    blind = torch.zeros(1, 6, dtype=torch.float64)
    measurement = SpectralMeasurement(Denoise((1, 2, 3)), blind, blind + torch.inf)
    shift, spread = errors(
        problem, measurement, problem.mean.flatten(), problem.covariance, steps=80
    )
    assert shift < 5e-3  # the start is grey
    assert spread < 0.01


class Isotropic(Covariance):
    """A multiple of the identity."""

    def __init__(self, variance: Tensor) -> None:
        self.variance = variance

    def apply(self, v: Tensor) -> Tensor:
        return self.variance * v

    def diagonal(self) -> Tensor:
        return self.variance


class WithoutSpectrum(Denoiser):
    """An exact denoiser that knows how large its errors are, but not how they hang together."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def __call__(self, x: Tensor, sigma: Tensor) -> Denoised:
        return self.denoiser(x, sigma)

    def covariance(self, denoised: Denoised, sigma: Tensor) -> Covariance:
        exact = self.denoiser.covariance(denoised, sigma).diagonal()
        return Isotropic(exact.mean(dim=(1, 2, 3), keepdim=True))


def calibrated(answers: tuple[Tensor, Tensor], mean: Tensor, covariance: Tensor) -> bool:
    """Whether 90 % intervals cover .86 to .93 and spreads are within 10 %, pixels averaged."""
    std, exact = answers[1].diagonal().sqrt(), covariance.diagonal().sqrt()
    low, high = ((answers[0] + side * Z * std - mean) / exact for side in (-1, 1))
    coverage = (torch.special.ndtr(high) - torch.special.ndtr(low)).mean()
    return bool(0.86 < coverage < 0.93 and abs((std / exact).mean() - 1) < 0.1)


FIELDS = {"inpaint": 0.15, "super-resolve": 0.15, "denoise": 0.05}
every_field = pytest.mark.parametrize(("task", "tau"), FIELDS.items())


@every_field
@pytest.mark.usefixtures("exact_solves")
def test_twenty_steps_are_calibrated_on_fields(task: str, tau: float) -> None:
    problem = field((1, 8, 8), tau, 2.0)
    measurement, *exact = posed(problem, tasks(8)[task], NOISE)
    levels, denoiser = noise_levels(measurement, 20), problem.denoiser()
    assert calibrated(law(sample_pinned, measurement, denoiser, levels), *exact)


@every_field
def test_ddrm_fails_the_same_check(task: str, tau: float) -> None:
    """Negative control."""
    problem = field((1, 8, 8), tau, 2.0)
    measurement, *exact = posed(problem, tasks(8)[task], NOISE)
    answers = law(sample_ddrm, measurement, problem.denoiser(), official_levels(20))
    assert not calibrated(answers, *exact)


@pytest.mark.usefixtures("exact_solves")
def test_one_variance_for_all_directions_fails_the_same_check() -> None:
    """Negative control: with P = v I the holes are a third too uncertain, and wrong."""
    problem = field((1, 8, 8), 0.15, 2.0)
    measurement, mean, covariance = posed(problem, tasks(8)["inpaint"], NOISE)
    levels, denoiser = noise_levels(measurement, 20), WithoutSpectrum(problem.denoiser())
    answers = law(sample_pinned, measurement, denoiser, levels)
    assert not calibrated(answers, mean, covariance)
    ratio = (answers[1].diagonal() / covariance.diagonal()).sqrt().mean()
    assert ratio > 1.2
    assert ((answers[0] - mean).square() / covariance.diagonal()).mean().sqrt() > 0.5


@pytest.mark.parametrize("tau", [0.025, 0.1, 0.25])
def test_twenty_steps_are_calibrated_on_scalars(tau: float) -> None:
    """s = 0, s = 1 and s = 1/4 side by side: every one within the window, for itself."""
    shape, a = (1, 1, 3), torch.tensor([[math.inf, 0.05, 0.2]], dtype=torch.float64)
    white = GaussianProblem(torch.full(shape, 0.5), tau**2 * torch.eye(3))
    looks = torch.tensor([[0.0, 0.5 + tau, 0.5 - tau]], dtype=torch.float64)
    measurement = SpectralMeasurement(Denoise(shape), looks, a)
    gain = tau**2 / (tau**2 + a[0] ** 2)
    mean, variance = 0.5 + gain * (looks[0] - 0.5), tau**2 * (1 - gain)
    levels = noise_levels(measurement, 20)
    answers, covariance = law(sample_pinned, measurement, white.denoiser(), levels)
    ddrm, narrow = law(sample_ddrm, measurement, white.denoiser(), official_levels(20))
    for i in range(3):
        exact = mean[i : i + 1], variance[i : i + 1].diag()
        assert calibrated((answers[i : i + 1], covariance[i : i + 1, i : i + 1]), *exact)
        assert not calibrated((ddrm[i : i + 1], narrow[i : i + 1, i : i + 1]), *exact)


PAIR = (1, 1, 2)


@pytest.fixture(scope="module")
def mixture() -> MixtureProblem:
    """Two clouds of different shapes, far from Gaussian together."""
    means = torch.tensor([[0.3, 0.35], [0.7, 0.6]], dtype=torch.float64).reshape(2, *PAIR)
    shapes = torch.tensor([[[9.0, 6.0], [6.0, 9.0]], [[4.0, -3.0], [-3.0, 16.0]]]) * 1e-4
    return MixtureProblem(torch.tensor([0.4, 0.6]), means, shapes.double())


def draw(sampler: object, problem: MixtureProblem, y: Tensor, steps: int, count: int) -> Tensor:
    assert callable(sampler)
    measurement = measure(Denoise(PAIR), y, torch.tensor([0.2], dtype=torch.float64))
    official = sampler is sample_ddrm
    levels = official_levels(steps) if official else noise_levels(measurement, steps)
    noise = NoiseSource(range(count))
    return last(sampler(repeated(measurement, count), problem.denoiser(), levels, noise)).x.flatten(
        1
    )


def sliced_distance(one: Tensor, other: Tensor) -> float:
    """Mean Wasserstein-1 distance of projections on 16 directions."""
    angles = torch.arange(16) * torch.pi / 16
    directions = torch.stack([angles.cos(), angles.sin()]).to(one)
    pairs = ((samples @ directions).sort(dim=0).values for samples in (one, other))
    first, second = pairs
    return float((first - second).abs().mean())


def test_denoising_is_exact_whatever_the_prior(mixture: MixtureProblem) -> None:
    """Many steps draw from a bimodal posterior as well as from the posterior itself."""
    count, y = 3000, torch.tensor([0.52, 0.48], dtype=torch.float64).reshape(1, *PAIR)
    weights = mixture.posterior(y, Denoise(PAIR), 0.2).weights[0]
    assert 0.2 < float(weights[0]) < 0.8
    exact, again = (
        mixture.posterior_sample(y, Denoise(PAIR), 0.2, count, seed).flatten(1) for seed in (0, 1)
    )
    limit = 2 * sliced_distance(exact, again)
    assert sliced_distance(draw(sample_pinned, mixture, y, 50, count), exact) < limit
    # Negative controls: DDRM, and the Gaussian with the right mean and covariance.
    assert sliced_distance(draw(sample_ddrm, mixture, y, 50, count), exact) > 2 * limit
    root = torch.linalg.cholesky(exact.T.cov())
    normal = torch.randn(count, 2, generator=torch.Generator().manual_seed(4)).double()
    assert sliced_distance(exact.mean(0) + normal @ root.T, exact) > 2 * limit


class Recording(Denoiser):
    """Remembers what another denoiser is asked."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.asked = denoiser, list[Tensor]()

    def __call__(self, x: Tensor, sigma: Tensor) -> Denoised:
        self.asked.append(x)
        return self.denoiser(x, sigma)

    def covariance(self, denoised: Denoised, sigma: Tensor) -> Covariance:
        return self.denoiser.covariance(denoised, sigma)


@pytest.mark.parametrize("sampler", [sample_pinned, sample_ddrm])
def test_one_network_call_for_each_step(sampler: object) -> None:
    assert callable(sampler)
    problem = field((1, 4, 4), 0.15, 1.5)
    measurement, *_ = posed(problem, tasks(4)["inpaint"], NOISE)
    single = SpectralMeasurement(
        measurement.operator, measurement.values.float(), measurement.levels.float()
    )
    levels, denoiser = noise_levels(single, 7), Recording(problem.denoiser())
    states = list(sampler(repeated(single, 3), denoiser, levels, NoiseSource(range(3))))
    assert [len(x) for x in denoiser.asked] == [3] * 7
    assert [state.t for state in states] == levels[1:].tolist()
    assert all(type(state.t) is float for state in states)
    for state in states:
        assert state.x.shape == state.estimate.shape == (3, 1, 4, 4)
        assert state.x.dtype == state.estimate.dtype == torch.float32


def test_the_last_step_ends_at_its_estimate() -> None:
    problem = field((1, 4, 4), 0.15, 1.5)
    measurement, *_ = posed(problem, tasks(4)["deblur"], NOISE)
    levels = noise_levels(measurement, 5)
    end = last(sample_pinned(measurement, problem.denoiser(), levels, NoiseSource([0])))
    torch.testing.assert_close(end.x, end.estimate)


@every_task
def test_noise_free_measurements_are_reproduced(task: str) -> None:
    """Single precision, 20 steps: to an eighth of a grey level."""
    problem, H = field((1, 8, 8), 0.15, 2.0), tasks(8)[task]
    x = problem.sample(2, 7).float()
    measurement = measure(H, H(x), torch.zeros(2))
    levels = noise_levels(measurement, 20)
    end = last(sample_pinned(measurement, problem.denoiser(), levels, NoiseSource([0, 1])))
    assert (H(end.x) - H(x)).abs().max() < 5e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_grid_opens_at_the_measurement_to_the_last_bit(dtype: torch.dtype) -> None:
    """A rounding error below it, and the denoiser would be shown grey noise instead of y."""
    generator = torch.Generator().manual_seed(1)
    y = torch.rand(1, *PAIR, generator=generator).to(dtype)
    problem = GaussianProblem(torch.full(PAIR, 0.5), 0.01 * torch.eye(2))
    for noise in 0.01 + 0.3 * torch.rand(100, generator=generator, dtype=dtype):
        measurement = measure(Denoise(PAIR), y, noise[None])
        levels, denoiser = noise_levels(measurement, 4), Recording(problem.denoiser())
        assert float(levels[0]) == float(noise)
        next(sample_pinned(measurement, denoiser, levels, NoiseSource([0])))
        assert torch.equal(denoiser.asked[0], y)


def test_grids_stay_within_what_pictures_can_show() -> None:
    H = Inpaint((1, 4, 4), some_mask(4))
    holes = measure(H, torch.zeros(1, 1, 4, 4), torch.tensor([0.1]))
    levels = noise_levels(holes, 6)
    assert len(levels) == 7
    assert levels[[0, -2, -1]].tolist() == [
        pinned.SIGMA_MAX,
        pytest.approx(SIGMA_MIN),
        0.0,
    ]
    exact = measure(Denoise((1, 4, 4)), torch.zeros(1, 1, 4, 4), torch.tensor([0.0]))
    assert float(noise_levels(exact, 3)[0]) == pytest.approx(2 * SIGMA_MIN)


def test_a_picture_does_not_depend_on_its_batch_mates(mixture: MixtureProblem) -> None:
    """Nor on their noise, on one grid; with a mixture, whose covariance depends on the picture."""
    H = Inpaint(PAIR, torch.tensor([[1, 0]]))
    y = torch.tensor([0.3, 0.5, 0.65, 0.7], dtype=torch.float64).reshape(4, 1, 1, 1) * torch.tensor(
        [1.0, 0.0]
    )
    measurement = measure(H, y, torch.tensor([0.0, 0.01, 0.1, 0.3], dtype=torch.float64))
    levels, denoiser = noise_levels(measurement, 10), mixture.denoiser()
    together = last(sample_pinned(measurement, denoiser, levels, NoiseSource(range(4)))).x
    for i in range(4):
        one = SpectralMeasurement(H, measurement.values[i : i + 1], measurement.levels[i : i + 1])
        alone = last(sample_pinned(one, denoiser, levels, NoiseSource([i]))).x
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-10, atol=1e-12)
