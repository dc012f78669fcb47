"""The bound's terms against closed forms, on Gaussian pictures with their exact denoiser."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from certes.diffusion.likelihood import variational_bound
from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.problems import GaussianProblem
from certes.diffusion.process import Process
from certes.diffusion.schedules import DiscreteBetas
from certes.networks.denoiser import NetworkDenoiser
from certes.training.bound import VariationalBound
from certes.training.config import FixedVariance
from certes.training.noising import NoisyBatch, noisy_batch
from certes.training.times import Drawn
from certes.training.unconditional import Unconditional

from .conftest import generator, plain, shrunk, tabled

NAMES = ("noise", "x0", "v", "score", "mean")
SIDE = 4


def problem() -> GaussianProblem:
    """Grey pictures whose pixels know of each other, well inside [0, 1]."""
    root = torch.randn(SIDE**2, SIDE**2, generator=generator(7), dtype=torch.float64)
    covariance = 0.003 * (root @ root.T / SIDE**2 + 0.1 * torch.eye(SIDE**2))
    return GaussianProblem(torch.full((1, SIDE, SIDE), 0.5), covariance)


def denoiser_of(prediction: str = "noise", learned: bool = False) -> NetworkDenoiser:
    """Knows process and outputs; its network is never asked."""
    changes = {} if learned else plain()
    return Unconditional(tabled(prediction=prediction, center=0.4, scale=0.2, **changes)).build()


def table(denoiser: NetworkDenoiser) -> DiscreteBetas:
    assert isinstance(denoiser.schedule, DiscreteBetas)
    return denoiser.schedule


def noised(denoiser: NetworkDenoiser, x0: Tensor, entry: int, seed: int = 0) -> NoisyBatch:
    t = table(denoiser).time_of_index(torch.full((len(x0),), float(entry)))
    return noisy_batch(denoiser, x0, Drawn(t, torch.ones_like(t)), generator(seed))


def exact(denoiser: NetworkDenoiser, batch: NoisyBatch) -> tuple[Tensor, Tensor]:
    """The exact denoiser's prediction and the exact variance of its error, target units."""
    process = Process(denoiser.schedule, center=denoiser.center, scale=denoiser.scale)
    said = process.denoise(problem().denoiser(), batch.x_t, batch.t)
    assert said.variance is not None
    schedule, t = denoiser.schedule, batch.t
    parametrisation = denoiser.parametrisation
    prediction = parametrisation.target(batch.x_t, process.encode(said.mean), schedule, t)
    _, b = parametrisation.coefficients(schedule, t)
    return prediction, said.variance * (b[:, None, None, None] / denoiser.scale) ** 2


def step_of(denoiser: NetworkDenoiser, entry: int) -> tuple[float, float, float]:
    """beta, beta~ and the weight of z_0, by eq. 6 and 7 of the paper from the table alone."""
    betas = torch.tensor(table(denoiser).betas, dtype=torch.float64)
    bars = (1 - betas).cumprod(0)
    beta, bar, before = betas[entry], bars[entry], bars[entry - 1]
    return (
        float(beta),
        float(beta * (1 - before) / (1 - bar)),
        float(before.sqrt() * beta / (1 - bar)),
    )


def divergence(
    denoiser: NetworkDenoiser, entry: int, variance: Tensor | float, error: Tensor
) -> float:
    """The closed form in bits a value: reverse variance ``variance``, mean square error of z_0."""
    _, small, b = step_of(denoiser, entry)
    v = torch.as_tensor(variance, dtype=torch.float64)
    nats = ((v / small).log() + (small + b**2 * error) / v - 1) / 2
    return float(nats.mean()) / math.log(2)


def posterior_error(denoiser: NetworkDenoiser, entry: int) -> Tensor:
    """Var[z_0 | x_t] of every pixel."""
    t = table(denoiser).time_of_index(float(entry))
    sigma = denoiser.scale * denoiser.schedule.noise_level(t)
    x = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)
    said = problem().denoiser()(x, sigma.reshape(1))
    assert said.variance is not None
    return said.variance / denoiser.scale**2


def near(values: Tensor, expected: float) -> bool:
    error = float(values.std()) / math.sqrt(len(values))
    assert error < 0.02 * abs(expected)  # else this would say nothing
    return abs(float(values.mean()) - expected) < 4 * error


@pytest.mark.parametrize("prediction", NAMES)
@pytest.mark.parametrize("entry", [1, 4, 9])
def test_fixed_variances_cost_the_closed_form(prediction: str, entry: int) -> None:
    denoiser = denoiser_of(prediction)
    batch = noised(denoiser, problem().sample(20000, seed=1), entry)
    said, _ = exact(denoiser, batch)
    error = posterior_error(denoiser, entry)
    large, small, _ = step_of(denoiser, entry)
    costs: dict[FixedVariance, float] = {
        "small": divergence(denoiser, entry, small, error),
        "large": divergence(denoiser, entry, large, error),
    }
    for name, expected in costs.items():
        assert near(VariationalBound(denoiser, name)(batch, said, None), expected)
    wrong = VariationalBound(denoiser, "large")(batch, said, None)
    assert not near(wrong, costs["small"])  # negative control: the variances differ enough


@pytest.mark.parametrize("prediction", NAMES)
@pytest.mark.parametrize("entry", [1, 4, 9])
def test_the_learned_diagonal_costs_the_closed_form(prediction: str, entry: int) -> None:
    denoiser = denoiser_of(prediction, learned=True)
    batch = noised(denoiser, problem().sample(20000, seed=1), entry)
    said, variance = exact(denoiser, batch)
    error = posterior_error(denoiser, entry)
    _, small, b = step_of(denoiser, entry)
    expected = divergence(denoiser, entry, small + b**2 * error, error)
    bound = VariationalBound(denoiser, "large")
    assert near(bound(batch, said, variance), expected)
    # The exact variance is the best there is.
    for factor in (0.5, 2.0):
        assert bound(batch, said, factor * variance).mean() > bound(batch, said, variance).mean()


def test_the_learned_range_lies_between_its_bounds() -> None:
    """log Sigma = f log beta + (1 - f) log beta~ (Nichol & Dhariwal, eq. 15), f = .3."""
    denoiser = Unconditional(tabled(head="range", weights="uniform", center=0.4, scale=0.2)).build()
    for entry in (1, 5, 9):
        batch = noised(denoiser, problem().sample(20, seed=1), entry)
        said, _ = exact(denoiser, batch)
        output = torch.cat([said, torch.full_like(said, 2 * 0.3 - 1)], dim=1)
        prediction, variance = denoiser.split(output, batch.t)
        cost = VariationalBound(denoiser, "small")(batch, prediction, variance)
        large, small, _ = step_of(denoiser, entry)
        # z_0 = +- sigma/alpha x (error of the noise)
        ratio = denoiser.schedule.noise_level(batch.t)[0]
        error = (ratio * (said - batch.target)) ** 2
        expected = divergence(denoiser, entry, large**0.3 * small**0.7, error)
        assert float(cost.mean()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("learned", [False, True])
def test_the_first_step_is_a_gaussian_cut_into_grey_levels(learned: bool) -> None:
    denoiser = denoiser_of("x0", learned)
    levels = torch.tensor([0, 1, 100, 101, 254, 255]).repeat_interleave(SIDE**2)
    x0 = levels.reshape(6, 1, SIDE, SIDE).double() / 255
    batch = noised(denoiser, x0, 0)
    offset = 0.05 * torch.randn(x0.shape, generator=generator(3), dtype=torch.float64)
    variance = torch.full_like(x0, 0.003) if learned else None
    cost = VariationalBound(denoiser, "large")(batch, batch.z0 + offset, variance)
    # The fixed variance is the small one of the next entry, whichever was asked for.
    std = denoiser.scale * math.sqrt(0.003 if learned else step_of(denoiser, 1)[1])
    mean = (x0 + denoiser.scale * offset).numpy()
    upper = norm.logcdf((x0.numpy() + 0.5 / 255 - mean) / std)
    lower = norm.logcdf((x0.numpy() - 0.5 / 255 - mean) / std)
    lower[0], upper[-1] = -math.inf, 0.0
    mass = upper + torch.log1p(-torch.exp(torch.tensor(lower - upper))).numpy()
    expected = -torch.tensor(mass).mean(dim=(1, 2, 3)) / math.log(2)
    torch.testing.assert_close(cost, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("learned", [False, True])
def test_the_bound_is_that_of_a_denoiser_whatever_its_parametrisation(learned: bool) -> None:
    costs: list[Tensor] = []
    x0 = (problem().sample(10, seed=1) * 255).round() / 255
    for prediction in NAMES:
        denoiser = denoiser_of(prediction, learned)
        terms: list[Tensor] = []
        for entry in range(10):
            batch = noised(denoiser, x0, entry)
            said, variance = exact(denoiser, batch)
            bound = VariationalBound(denoiser, "large")
            terms.append(bound(batch, said, variance if learned else None))
        costs.append(torch.stack(terms))
    for cost in costs[1:]:
        torch.testing.assert_close(cost, costs[0], rtol=1e-9, atol=1e-12)


def test_what_is_trained_is_what_is_evaluated() -> None:
    """The sum over the table and L_T: the likelihood, picture by picture, in expectation."""
    pictures = 100
    x0 = (problem().sample(pictures, seed=2) * 255).round() / 255
    fixed, learned = denoiser_of("v"), denoiser_of("v", learned=True)
    process = Process(fixed.schedule, center=fixed.center, scale=fixed.scale)
    times = torch.arange(10, -1, -1, dtype=torch.float64) / 10
    evaluated = variational_bound(
        process, problem().denoiser(), x0, times, ("small", "large", "learned")
    )
    differences: dict[tuple[str, str], Tensor] = {}
    for name in ("small", "large", "learned"):
        denoiser = learned if name == "learned" else fixed
        bound = VariationalBound(denoiser, "small" if name == "small" else "large")
        total = torch.zeros(pictures, dtype=torch.float64)
        for entry in range(10):
            batch = noised(denoiser, x0, entry, seed=entry)
            said, variance = exact(denoiser, batch)
            total += bound(batch, said, variance if name == "learned" else None)
        for other, value in evaluated.items():
            rest = torch.tensor(value.pictures, dtype=torch.float64) - value.prior
            differences[name, other] = total - rest
    for (name, other), difference in differences.items():
        error = float(difference.std()) / math.sqrt(pictures)
        assert (abs(float(difference.mean())) < 4 * error) == (name == other)


def test_a_bound_needs_a_table() -> None:
    from certes.errors import InputError

    with pytest.raises(InputError, match="'cosine' schedule has none"):
        VariationalBound(Unconditional(shrunk()).build(), "large")
    one = DiscreteBetas((0.1,))
    denoiser = denoiser_of()
    single = NetworkDenoiser(denoiser.net, one, Parametrisation("noise"))
    with pytest.raises(InputError, match="two steps or more"):
        VariationalBound(single, "large")
