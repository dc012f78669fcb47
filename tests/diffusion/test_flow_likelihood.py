"""The probability flow says the closed form, whatever the schedule, the units and the probes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from certes.diffusion.likelihood import (
    FlowLikelihood,
    bits_per_dimension,
    dequantised,
    flow_levels,
    flow_likelihood,
    flow_log_likelihood,
    signs,
)
from certes.diffusion.likelihood import dequantisation as dequantisation_module
from certes.diffusion.likelihood import flow as flow_module
from certes.diffusion.noise import NoiseSource
from certes.diffusion.ode import integrate
from certes.diffusion.problems import ConditionalGaussian, GaussianProblem, MixtureProblem
from certes.diffusion.process import Process
from certes.diffusion.schedules import (
    EDM,
    VE,
    VP,
    Cosine,
    Multispeed,
    Schedule,
    SubVP,
    linear_betas,
)
from certes.errors import InputError

SIDE = 3
N = SIDE**2
SCHEDULES = [VE(0.01, 277.0), VP(), SubVP(), Cosine(), EDM(), linear_betas(1000)]


def gaussian_pictures(correlation: float) -> GaussianProblem:
    """Pixels of standard deviations 0.03 to 0.3."""
    generator = torch.Generator().manual_seed(4)
    i = torch.arange(N, dtype=torch.float64)
    near = correlation ** (i[:, None] - i).abs()
    std = torch.linspace(0.03, 0.3, N, dtype=torch.float64)
    mean = 0.5 + 0.1 * torch.randn(1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    return GaussianProblem(mean, std[:, None] * near * std)


GAUSSIAN = gaussian_pictures(0.8)
MIXTURE = MixtureProblem(
    torch.tensor([0.3, 0.7]),
    torch.stack([GAUSSIAN.mean - 0.3, GAUSSIAN.mean + 0.2]),
    torch.stack([GAUSSIAN.covariance, gaussian_pictures(0.3).covariance]),
)
PICTURES = GAUSSIAN.sample(6, seed=1)


def axes(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """As many probes as dimensions, whose mean square is the identity: the exact trace."""
    n = shape[0]
    return (math.sqrt(n) * torch.eye(n).double()).reshape(shape).expand(len(seeds), *shape)


def blind(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Probes that see nothing."""
    return torch.zeros(len(seeds), *shape, dtype=torch.float64)


def normal(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    return NoiseSource(seeds).normal(shape, torch.float64)


@pytest.fixture
def exact_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_module, "signs", axes)


def ask(process: Process, **changes: Any) -> FlowLikelihood:
    """Exact trace, exact prior and pictures as they are, unless told otherwise."""
    settings: dict[str, Any] = {
        "probes": N, "dequantise": False, "prior": GAUSSIAN.log_likelihood,
    }  # fmt: skip
    return flow_likelihood(process, GAUSSIAN.denoiser(), PICTURES, **settings | changes)


def closed_form(sigma: float) -> Tensor:
    """Bits per dimension, by hand: log2 of 256 bins, less the log density in units of [0, 1]."""
    covariance = GAUSSIAN.covariance + sigma**2 * torch.eye(N, dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(GAUSSIAN.mean.flatten(), covariance)
    return 8 - law.log_prob(PICTURES.flatten(1)) / (N * math.log(2))


def worst(result: FlowLikelihood, sigma: float | None = None) -> float:
    known = closed_form(result.levels[0] if sigma is None else sigma)
    return float((torch.tensor(result.pictures) - known).abs().max())


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("exact_trace")
@pytest.mark.parametrize(("center", "scale"), [(0.5, 0.5), (0.0, 1.0)])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
def test_every_schedule_and_unit(schedule: Schedule, center: float, scale: float) -> None:
    result = ask(Process(schedule, center=center, scale=scale))
    assert worst(result) < 1e-4
    assert max(result.evaluations) < 200
    # The prior of the samples ignores the mean picture, which is small beside the last noise.
    wide = ask(Process(schedule, center=center, scale=scale), prior=None)
    assert worst(wide) < 1e-4 + 1 / wide.levels[1]


@pytest.mark.usefixtures("exact_trace")
def test_what_is_scored_has_the_first_noise() -> None:
    """The blur is no error of the flow, and it is seen."""
    for sigma in (0.002, 0.01):
        result = ask(Process(VE(sigma, 100.0)))
        assert result.levels[0] == pytest.approx(sigma, rel=1e-3)
        assert worst(result) < 1e-4
    assert worst(result, sigma=0.0) > 1e-2


@pytest.mark.usefixtures("exact_trace")
def test_looser_tolerances_cost_less() -> None:
    process = Process(VP(), center=0.5, scale=0.5)
    tight, loose = ask(process), ask(process, tolerance=1e-3)
    assert worst(tight) < 1e-4 < worst(loose) < 0.03
    assert sum(loose.evaluations) < 0.6 * sum(tight.evaluations)


@pytest.mark.usefixtures("exact_trace")
def test_mixtures() -> None:
    pictures = MIXTURE.sample(8, seed=2)
    result = flow_likelihood(
        Process(Cosine(), center=0.5, scale=0.5), MIXTURE.denoiser(), pictures,
        probes=N, dequantise=False,
    )  # fmt: skip
    exact = bits_per_dimension(MIXTURE.log_likelihood(pictures, result.levels[0]), N)
    assert float((torch.tensor(result.pictures) - exact).abs().max()) < 2e-4
    # Negative control: the best Gaussian is another distribution.
    other = bits_per_dimension(MIXTURE.components[1].log_likelihood(pictures), N)
    assert float((torch.tensor(result.pictures) - other).abs().max()) > 0.1


@pytest.mark.usefixtures("exact_trace")
def test_the_units_of_the_process_do_not_matter() -> None:
    """The same noise on [-1, 1] and on [0, 1], each from the prior of its own samples."""
    wide = ask(Process(VE(0.02, 200.0), center=0.5, scale=0.5), prior=None)
    narrow = ask(Process(VE(0.01, 100.0), center=0.5, scale=1.0), prior=None)
    assert wide.levels == pytest.approx(narrow.levels)
    assert wide.pictures == pytest.approx(narrow.pictures, rel=1e-9)
    assert wide.priors == pytest.approx(narrow.priors, rel=1e-9)


@pytest.mark.parametrize("schedule", [VE(0.01, 100.0), VP(), SubVP()], ids=lambda s: s.kind)
def test_the_flow_in_its_own_time(schedule: Schedule) -> None:
    """Song et al. 2021, eq. 13, as it stands: from 1e-3 to 1 in the coordinates of the process."""
    process, times = Process(schedule, center=0.5, scale=0.5), (1e-3, 1.0)

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        return process.probability_flow(z, process.denoise(GAUSSIAN.denoiser(), z, t).mean, t)

    def log_density(z: Tensor, t: float) -> Tensor:
        """Of ``alpha z_0 + sigma e``, from that of pictures."""
        alpha = float(schedule.alpha(t))
        x, level = process.decode(z / alpha), process.scale * float(schedule.noise_level(t))
        return GAUSSIAN.log_likelihood(x, level) + N * math.log(process.scale / alpha)

    z = process.marginal(PICTURES, times[0])[0]
    flow = flow_log_likelihood(
        velocity, z, times, lambda z: log_density(z, 1.0), axes(range(6), (N, 1, SIDE, SIDE)),
        tolerance=5e-6,
    )  # fmt: skip
    off = (flow.log_density.mean(1) - log_density(z, times[0])) / (N * math.log(2))
    assert float(off.abs().max()) < 1e-4
    torch.testing.assert_close(flow.prior, log_density(flow.end, 1.0))


# --- pairs ----------------------------------------------------------------------------------------

PAIRS = ConditionalGaussian(GAUSSIAN, lambda x: x[..., ::2, :], 0.05)
X, Y = PAIRS.sample(3, seed=3)


def growth(t: Tensor, first: float, last: float) -> tuple[Tensor, float]:
    """A geometric noise level, and its logarithmic derivative."""
    rate = math.log(last / first)
    return first * (rate * t).exp(), rate


def test_pictures_given_measurements() -> None:
    """A flow of the picture alone, its condition clean: log p(x | y)."""

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        level, rate = growth(t, 0.01, 100.0)
        return rate * (z - PAIRS.denoiser()(z, level, Y, 0 * level).x.mean)

    def conditional(x: Tensor, sigma: float) -> Tensor:
        return PAIRS.log_joint(x, sigma, Y, 0.0) - PAIRS.log_evidence(Y)

    probes = axes(range(3), (N, 1, SIDE, SIDE))
    flow = flow_log_likelihood(velocity, X, (0.0, 1.0), lambda x: conditional(x, 100.0), probes)
    off = (flow.log_density.mean(1) - conditional(X, 0.01)) / (N * math.log(2))
    assert float(off.abs().max()) < 1e-4


def test_pairs_of_two_speeds() -> None:
    """A flow of both blocks, each at its own level: log p(x, y)."""
    size = N + Y[0].numel()

    def blocks(z: Tensor) -> tuple[Tensor, Tensor]:
        return z[:, :N].reshape(X.shape), z[:, N:].reshape(Y.shape)

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        (x, y), (sx, rate_x), (sy, rate_y) = blocks(z), growth(t, 0.01, 50.0), growth(t, 0.01, 1.0)
        known = PAIRS.denoiser()(x, sx, y, sy)
        assert known.y is not None
        moved = rate_x * (x - known.x.mean), rate_y * (y - known.y)
        return torch.cat([part.flatten(1) for part in moved], 1)

    def density(z: Tensor, sx: float, sy: float) -> Tensor:
        x, y = blocks(z)
        return PAIRS.log_joint(x, sx, y, sy)

    z = torch.cat([X.flatten(1), Y.flatten(1)], 1)
    flow = flow_log_likelihood(
        velocity, z, (0.0, 1.0), lambda z: density(z, 50.0, 1.0), axes(range(3), (size, size))
    )
    off = (flow.log_density.mean(1) - density(z, 0.01, 0.01)) / (size * math.log(2))
    assert float(off.abs().max()) < 1e-4


# --- negative controls ----------------------------------------------------------------------------

PROCESS = Process(VE(0.01, 100.0), center=0.5, scale=0.5)


def test_a_missing_trace_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_module, "signs", blind)
    assert worst(ask(PROCESS)) > 1


@pytest.mark.usefixtures("exact_trace")
def test_a_wrong_offset_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """7, which is right for densities on [-1, 1], is not for those on [0, 1]."""
    monkeypatch.setattr(dequantisation_module, "BINS", 128)
    assert worst(ask(PROCESS)) == pytest.approx(1, abs=1e-4)


@pytest.mark.usefixtures("exact_trace")
def test_a_wrong_prior_is_noticed() -> None:
    def narrow(x: Tensor, sigma: float) -> Tensor:
        return GAUSSIAN.log_likelihood(x, 0.9 * sigma)

    assert worst(ask(PROCESS, prior=narrow)) > 1e-2


# --- grey levels ----------------------------------------------------------------------------------


def test_the_probabilities_of_all_grey_levels_sum_to_one() -> None:
    """Of pictures of one pixel, for which one probe of signs is exact."""
    mean, std = torch.full((1, 1, 1), 0.5).double(), 0.08
    problem = GaussianProblem(mean, torch.tensor([[std**2]]))
    greys = (torch.arange(256.0) / 255).reshape(256, 1, 1, 1)
    process = Process(VP(), center=0.5, scale=0.5)
    sums = [
        float((2 ** -torch.tensor(flow_likelihood(
            process, problem.denoiser(), greys, seed=seed, batch_size=256
        ).pictures)).sum())
        for seed in range(3)
    ]  # fmt: skip
    # Jensen's inequality makes it a little less: by half the variance of a log density in a bin.
    assert np.mean(sums) == pytest.approx(1, abs=0.01)


def test_noise_fills_the_bins() -> None:
    greys = (torch.arange(256.0) / 255).reshape(1, 1, 16, 16).expand(400, -1, -1, -1)
    x = dequantised(greys, range(400))
    assert torch.equal((256 * x).floor(), (255 * greys.double()).round())
    within = 256 * x - (256 * x).floor()
    assert float(within.mean()) == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / x.numel()))
    assert float(within.var()) == pytest.approx(1 / 12, rel=0.02)
    assert torch.equal(dequantised(greys[:2], [7, 8])[1:], dequantised(greys[:1], [8]))
    assert not torch.equal(x[0], x[1])
    with pytest.raises(InputError, match="grey levels away"):
        dequantised(greys[:1] + 0.3 / 255, [0])


# --- probes ---------------------------------------------------------------------------------------

LEAN = gaussian_pictures(0.05)  # a Jacobian that is nearly diagonal


def spread_of_a_probe() -> float:
    """Standard deviation of the bits per dimension of one picture over its probes."""
    result = flow_likelihood(
        PROCESS, LEAN.denoiser(), LEAN.sample(1, 0), probes=60, dequantise=False, tolerance=1e-3
    )
    return float(np.std(result.estimates[0]))


def test_signs_vary_less_than_normal_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    of_signs = spread_of_a_probe()
    monkeypatch.setattr(flow_module, "signs", normal)
    assert 0 < 10 * of_signs < spread_of_a_probe()


def test_signs() -> None:
    probes = signs([3, 4, 5], (2, 500))
    assert set(probes.flatten().tolist()) == {-1.0, 1.0}
    assert torch.equal(signs([4], (2, 500))[0], probes[1])
    assert float(probes.mean()) == pytest.approx(0, abs=4 / 3000**0.5)
    assert abs(float((probes[0, 0] * probes[0, 1]).mean())) < 4 / 500**0.5


def test_standard_errors_are_honest() -> None:
    """Of probes: estimates by other probes scatter as each of them says."""
    count, probes = 50, 4
    result = ask(PROCESS, probes=count * probes, tolerance=1e-4)
    parts = [
        replace(result, estimates=tuple(row[i::count] for row in result.estimates))
        for i in range(count)
    ]
    off = np.array([part.total for part in parts]) - float(closed_form(result.levels[0]).mean())
    said = np.array([part.probe_error for part in parts])
    assert abs(off.mean()) < 4 * off.std() / count**0.5
    assert 0.7 < off.std(ddof=1) / np.sqrt((said**2).mean()) < 1.4
    # Negative control: errors that forget how many probes there were.
    assert not off.std(ddof=1) / np.sqrt(probes * (said**2).mean()) > 0.7


def test_errors_of_a_result() -> None:
    result = FlowLikelihood((0.1, 1.0), ((1.0, 3.0), (4.0, 5.0), (6.0, 6.0)), (0.0,) * 3, (7,) * 3)
    assert result.pictures == (2.0, 4.5, 6.0)
    assert result.total == pytest.approx(12.5 / 3)
    assert result.standard_error == pytest.approx(np.std([2, 4.5, 6], ddof=1) / 3**0.5)
    assert result.probe_errors == pytest.approx((1.0, 0.5, 0.0))
    assert result.probe_error == pytest.approx(1.25**0.5 / 3)
    content = result.to_dict()
    assert content["bits_per_dimension"] == result.total
    assert content["estimates"] == result.estimates
    single = FlowLikelihood((0.1, 1.0), ((1.0,),), (0.0,), (7,))
    assert (single.standard_error, single.probe_errors, single.probe_error) == (None, None, None)


# --- batches and questions ------------------------------------------------------------------------


def test_batch_mates_do_not_matter() -> None:
    pictures = (PICTURES.clamp(0, 1) * 255).round() / 255
    names = [f"cell-{i}" for i in range(6)]

    def asked(some: list[int], **settings: Any) -> FlowLikelihood:
        return flow_likelihood(
            PROCESS, GAUSSIAN.denoiser(), pictures[some], keys=[names[i] for i in some],
            probes=2, **settings,
        )  # fmt: skip

    everyone = asked([0, 1, 2, 3, 4, 5])
    few = asked([4, 1])
    for i, j in enumerate([4, 1]):
        assert few.estimates[i] == pytest.approx(everyone.estimates[j], rel=1e-9)
        assert few.evaluations[i] == everyone.evaluations[j]
    split = asked([0, 1, 2, 3, 4, 5], batch_size=4)
    assert split.pictures == pytest.approx(everyone.pictures, rel=1e-9)
    assert asked([4, 1], seed=1).pictures != pytest.approx(few.pictures, rel=1e-4)
    assert len(set(everyone.evaluations)) > 1  # each walked in steps of its own


def test_progress_adds_up() -> None:
    told: list[float] = []
    ask(PROCESS, probes=1, batch_size=4, tolerance=1e-3, advance=told.append)
    assert len(told) > 6
    assert min(told) >= 0
    assert sum(told) == pytest.approx(1)


def test_levels_of_a_process() -> None:
    assert flow_levels(Process(VE(0.01, 50.0), scale=0.5)) == pytest.approx((0.005, 25), rel=1e-3)
    assert flow_levels(Process(EDM(), scale=0.5)) == pytest.approx((5e-6, 40))
    assert ask(PROCESS, levels=(0.1, 9.0), probes=1).levels == (0.1, 9.0)


PARTS = torch.tensor([0, 1, 1]).reshape(1, 3, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x0": PICTURES[0]}, "x0: shape .* give pictures"),
        ({"x0": PICTURES[:0]}, "x0: shape .* give pictures"),
        ({"x0": torch.full_like(PICTURES, 0.3 / 255), "dequantise": True}, "grey levels away"),
        ({"keys": ["a", "b"]}, "keys: 2 different names for 6 pictures"),
        ({"probes": 0}, "probes: 0; give at least 1"),
        ({"process": Process(Multispeed((VP(), VE(0.1, 9.0)), PARTS))}, "'multispeed' schedule"),
        ({"levels": (0.0, 1.0)}, "levels: 0, 1; give 0 < first < last"),
        ({"levels": (2.0, 1.0)}, "levels: 2, 1; give 0 < first < last"),
        ({"tolerance": 0.0}, "tolerance: 0.0; give a positive number"),
        ({"tolerance": math.nan}, "tolerance: nan; give a positive number"),
    ],
)
def test_senseless_questions(changes: dict[str, Any], message: str) -> None:
    question: dict[str, Any] = {
        "process": PROCESS, "denoiser": GAUSSIAN.denoiser(), "x0": PICTURES, "dequantise": False,
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        flow_likelihood(**question | changes)


# --- the solver -----------------------------------------------------------------------------------

RATES = torch.tensor([[0.5], [3.0], [20.0]]).double()


def oscillation(z: Tensor, t: Tensor) -> Tensor:
    """Circles at a speed that changes, one rate for each sample: angle ``rate (t + t^2 / 2)``."""
    return RATES[: len(z)] * (1 + t[:, None]) * torch.stack([-z[:, 1], z[:, 0]], 1)


def on_circles(t: float) -> Tensor:
    angle = RATES[:, 0] * (t + t**2 / 2)
    return torch.stack([angle.cos(), angle.sin()], 1)


@pytest.mark.parametrize(("start", "end"), [(0.0, 2.0), (1.5, -0.5)])
def test_both_directions_of_time(start: float, end: float) -> None:
    solution = integrate(oscillation, on_circles(start), start, end, 1e-8)
    torch.testing.assert_close(solution.state, on_circles(end), rtol=0, atol=1e-6)
    slow, medium, fast = solution.evaluations.tolist()
    assert slow < medium < fast


def test_the_order_is_five() -> None:
    """Per step the error is of order 6 or the tolerance: steps grow as its fifth root."""
    tolerances = [1e-6, 1e-11]
    start = on_circles(0.0)[:2]
    solutions = [integrate(oscillation, start, 0.0, 2.0, tol) for tol in tolerances]
    ratio = solutions[1].evaluations[1] / solutions[0].evaluations[1]
    assert float(ratio) == pytest.approx(10, rel=0.15)
    errors = [float((s.state - on_circles(2.0)[:2]).abs().max()) for s in solutions]
    assert errors[1] < 1e-4 * errors[0] < 1e-8


def test_no_way_to_go() -> None:
    solution = integrate(oscillation, on_circles(0.0), 1.0, 1.0, 1e-6)
    assert torch.equal(solution.state, on_circles(0.0))
    assert solution.evaluations.tolist() == [1, 1, 1]


def rough(z: Tensor, t: Tensor) -> Tensor:
    """As a network in low precision."""
    return oscillation(z, t).bfloat16().double()


def broken(z: Tensor, t: Tensor) -> Tensor:
    return z * math.nan


@pytest.mark.parametrize("velocity", [rough, broken])
def test_tolerances_that_cannot_be_met(
    monkeypatch: pytest.MonkeyPatch, velocity: Callable[[Tensor, Tensor], Tensor]
) -> None:
    monkeypatch.setattr("certes.diffusion.ode._MOST", 300)
    with pytest.raises(InputError, match=r"tolerance: 1e-06 is not met in 300 steps"):
        integrate(velocity, on_circles(0.0), 0.0, 2.0, 1e-6)
    smooth = integrate(oscillation, on_circles(0.0), 0.0, 2.0, 1e-6)
    assert int(smooth.evaluations.max()) < 300 * 6
