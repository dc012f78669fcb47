"""The bound is the closed form on Gaussian pictures, whatever is predicted and varies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special
import torch
from torch import Tensor, nn

from certes.diffusion.bases import CosineBasis
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.likelihood import (
    Bound,
    bound_times,
    log_probability,
    variational_bound,
)
from certes.diffusion.likelihood import bound as bound_module
from certes.diffusion.likelihood import terms as terms_module
from certes.diffusion.likelihood.steps import strata
from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.problems import GaussianProblem
from certes.diffusion.process import Process
from certes.diffusion.residuals import ResidualSpectrum
from certes.diffusion.schedules import EDM, VE, VP, Cosine, DiscreteBetas, Schedule, SubVP
from certes.diffusion.schedules import linear_betas as ddpm_table
from certes.errors import CertesError, ModelError
from certes.networks import NetworkDenoiser

CENTER, SCALE = 0.5, 0.5
SIDE, PIXELS, COPIES = 2, 4, 600
TABLE = DiscreteBetas(tuple(1e-4 + 0.4 * (i / 19) ** 4 for i in range(20)))
SCHEDULES = [Cosine(), VP(), SubVP(), VE(0.01, 150.0), EDM(), TABLE]
FIXED, ALL = ["small", "large"], ["small", "large", "learned", "calibrated"]


def eight_bit(x: Tensor) -> Tensor:
    return (x.clamp(0, 1) * 255).round() / 255


def gaussian_pictures(side: int) -> GaussianProblem:
    """Correlated pixels of unequal variances, 4 standard deviations from black and white."""
    generator = torch.Generator().manual_seed(5)
    n = side**2
    a = torch.randn(n, n, generator=generator, dtype=torch.float64) / math.sqrt(n)
    root = 0.06 * torch.linspace(0.6, 1.6, n).double()[:, None] * (a + torch.eye(n))
    mean = 0.5 + 0.02 * torch.randn(1, side, side, generator=generator, dtype=torch.float64)
    return GaussianProblem(mean, root @ root.T + 4e-4 * torch.eye(n))


PROBLEM = gaussian_pictures(SIDE)
PICTURE = eight_bit(PROBLEM.sample(1, seed=0))
CROWD = PICTURE.expand(COPIES, -1, -1, -1)


# --- what the bound should be: dense matrices, the formulas of the papers, quadrature -------------


@dataclass(frozen=True)
class Posterior:
    """``x_0`` given ``x_t``, and how far off its mean is when the picture is ``PICTURE``; all in
    process units, one number a pixel.
    """

    variance: np.ndarray
    bias: np.ndarray  # of the estimate, expected
    spread: np.ndarray  # standard deviation of the estimate

    @property
    def squared_error(self) -> np.ndarray:
        return self.bias**2 + self.spread**2


def posterior(level: float) -> Posterior:
    """At the noise level sigma / alpha, process units."""
    covariance = PROBLEM.covariance.numpy() / SCALE**2
    gain = covariance @ np.linalg.inv(covariance + level**2 * np.eye(PIXELS))
    away = (PICTURE - PROBLEM.mean).numpy().ravel() / SCALE
    return Posterior(
        variance=np.diag(covariance - gain @ covariance),
        bias=(gain - np.eye(PIXELS)) @ away,
        spread=level * np.sqrt(np.diag(gain @ gain.T)),
    )


def spread_of(variance: str, known: Posterior) -> np.ndarray:
    """Variance of ``x_0`` as the denoisers below say it: of each pixel, or one number a level."""
    whole = np.full(PIXELS, known.variance.mean())
    return {"learned": known.variance, "calibrated": whole}.get(variance, 0 * whole)


def expected_divergence(schedule: Schedule, t: Tensor, s: Tensor, variance: str) -> float:
    """Bits per dimension of one step: Kingma et al. 2021, eq. 25-27 and appendix A, with E of the
    squared error in place of its value.
    """
    (at, st), (a_s, ss) = ((float(schedule.alpha(u)), float(schedule.sigma(u))) for u in (t, s))
    forward = st**2 - (at / a_s * ss) ** 2
    q, b = forward * ss**2 / st**2, a_s * forward / st**2
    known = posterior(st / at)
    p = forward if variance == "large" else q + b**2 * spread_of(variance, known)
    kl = (np.log(p / q) + (q + b**2 * known.squared_error) / p - 1) / 2
    return float(kl.mean() / math.log(2))


def expected_decoding(schedule: Schedule, times: Tensor, variance: str) -> float:
    """Bits per dimension of the last step, by Gauss-Hermite quadrature over its estimate."""
    before, last = times[-3], times[-2]
    level = float(schedule.noise_level(last))
    known = posterior(level)
    spread = spread_of(variance, known)
    if variance in FIXED:  # the posterior variance of the step before, for both
        at, st = float(schedule.alpha(before)), float(schedule.sigma(before))
        a_s, ss = float(schedule.alpha(last)), float(schedule.sigma(last))
        spread = np.full(PIXELS, (st**2 - (at / a_s * ss) ** 2) * ss**2 / st**2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    off = 127.5 * np.abs(known.bias + known.spread * nodes[:, None])  # grey levels
    width = 127.5 * np.sqrt(spread)
    mass = scipy.special.ndtr((0.5 - off) / width) - scipy.special.ndtr((-0.5 - off) / width)
    return float(-(weights @ np.log2(mass).mean(axis=1)) / weights.sum())


def expected_prior(schedule: Schedule, t: Tensor) -> float:
    signal, noise = float(schedule.alpha(t)) ** 2, float(schedule.sigma(t)) ** 2
    square = ((PICTURE - CENTER) / SCALE).square().mean().item()
    total = signal + noise
    return (math.log(total / noise) + (noise + signal * square) / total - 1) / (2 * math.log(2))


def agrees(bound: Bound, schedule: Schedule, times: Tensor) -> bool:
    """Whether every part, and the total, is the closed form within its standard errors."""
    steps = list(pairwise(times[:-1]))
    wanted = [expected_divergence(schedule, t, s, bound.variance) for t, s in steps]
    groups = strata(schedule, times, len(bound.levels))
    wanted = [sum(wanted[group.start : group.stop]) for group in groups]
    wanted.append(expected_decoding(schedule, times, bound.variance))
    prior = expected_prior(schedule, times[0])
    total = prior + sum(wanted)
    parts = zip([*bound.levels, bound.decoder], wanted, strict=True)
    near = [abs(part.bits - value) < 4.5 * error(part) for part, value in parts]
    near.append(abs(bound.total - total) < 4 * error(bound))
    return all(near) and bound.prior == pytest.approx(prior, rel=1e-6)


def error(estimate: Any) -> float:
    assert estimate.standard_error is not None
    return estimate.standard_error


# --- denoisers ------------------------------------------------------------------------------------


class ExactNet(nn.Module):
    """What a perfectly trained network of a table answers, in its own units."""

    def __init__(self, prediction: str, outputs: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(in_channels=1, out_channels=outputs, multiple=1, dropout=0.0)
        self.conv_in = nn.Conv2d(1, 1, 1, dtype=torch.float64)
        self.prediction = prediction
        mean = (PROBLEM.mean - CENTER) / SCALE
        self.latent = GaussianProblem(mean, PROBLEM.covariance / SCALE**2)

    def forward(self, x_t: Tensor, index: Tensor) -> Tensor:
        betas = torch.tensor(TABLE.betas, dtype=torch.float64)
        bars = torch.cat([torch.ones(1), (1 - betas).cumprod(0)]).double()
        i = index.round().long()
        beta, bar, before = (v[:, None, None, None] for v in (betas[i], bars[i + 1], bars[i]))
        alpha, sigma = bar.sqrt(), (1 - bar).sqrt()
        answer = self.latent.denoiser()(x_t / alpha, (sigma / alpha).flatten())
        z0 = answer.mean
        e = (x_t - alpha * z0) / sigma
        x0_weight = before.sqrt() * beta / (1 - bar)
        mean = x0_weight * z0 + (1 - beta).sqrt() * (1 - before) / (1 - bar) * x_t
        prediction, factor = {
            "noise": (e, alpha / sigma),
            "x0": (z0, 1.0),
            "v": (alpha * e - sigma * z0, 1 / sigma),
            "score": (-e / sigma, alpha / sigma**2),
            "mean": (mean, x0_weight),
        }[self.prediction]
        log_variance = (answer.variance * factor**2).log().expand_as(z0)
        return torch.cat([prediction, log_variance], dim=1)[:, : self.config.out_channels]


def network(prediction: str, outputs: int) -> NetworkDenoiser:
    """With two outputs it says a variance; with one, only its measured residuals are known."""
    levels = SCALE * TABLE.noise_level(torch.arange(1, 21) / 20)
    variances = [SCALE**2 * posterior(float(level) / SCALE).variance.mean() for level in levels]
    spectra = torch.tensor(variances)[:, None, None, None].expand(-1, 1, 4, 4)
    spectrum = ResidualSpectrum(levels, spectra)
    net = ExactNet(prediction, outputs)
    return NetworkDenoiser(net, TABLE, Parametrisation(prediction), CENTER, SCALE, spectrum)  # pyright: ignore[reportArgumentType]


class Oracle(Denoiser):
    """Knows the picture, and is off by a constant."""

    def __init__(self, x0: Tensor, off: float = 0.0, confined: bool = False) -> None:
        self.x0, self.off, self.confined = x0, off, confined

    def __call__(self, x: Tensor, sigma: Tensor) -> Denoised:
        return Denoised((self.x0 + self.off).expand_as(x))

    def covariance(self, denoised: Denoised, sigma: Tensor) -> Any:
        raise NotImplementedError


def process(schedule: Schedule) -> Process:
    return Process(schedule, center=CENTER, scale=SCALE)


def of_table(denoiser: Denoiser, variances: Any, **settings: Any) -> dict[Any, Bound]:
    times = bound_times(TABLE, SCALE, TABLE.steps)
    return variational_bound(process(TABLE), denoiser, CROWD, times, variances, **settings)


# --- the bound ------------------------------------------------------------------------------------

TIMES = bound_times(TABLE, SCALE, TABLE.steps)


@pytest.mark.parametrize("prediction", ["noise", "x0", "v", "score", "mean"])
def test_every_parametrisation_and_variance(prediction: str) -> None:
    bounds = of_table(network(prediction, 2), [*FIXED, "learned"])
    bounds |= of_table(network(prediction, 1), ["calibrated"])
    assert list(bounds) == ALL
    for bound in bounds.values():
        assert agrees(bound, TABLE, TIMES)
        assert len(bound.levels) == TABLE.steps - 1


def test_the_approximation_of_the_paper_is_close() -> None:
    exact = of_table(PROBLEM.denoiser(), ["small"])["small"]
    paper = of_table(PROBLEM.denoiser(), ["small"], decoder="paper")["small"]
    assert paper.rate == exact.rate
    assert paper.distortion == pytest.approx(exact.distortion, rel=1e-2)
    assert paper.distortion != exact.distortion


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
def test_every_schedule(schedule: Schedule) -> None:
    times = bound_times(schedule, SCALE, 20)
    bounds = variational_bound(
        process(schedule), PROBLEM.denoiser(), CROWD, times, [*FIXED, "learned"]
    )
    assert all(agrees(bound, schedule, times) for bound in bounds.values())


def test_other_bases() -> None:
    """A rotation of pictures changes nothing where all coefficients fare alike."""
    turned = Process(TABLE, CosineBasis(), CENTER, SCALE)
    bounds = variational_bound(turned, PROBLEM.denoiser(), CROWD, TIMES, FIXED)
    assert all(agrees(bound, TABLE, TIMES) for bound in bounds.values())
    with pytest.raises(ModelError, match="runs in pixels"):
        variational_bound(turned, PROBLEM.denoiser(), CROWD, TIMES, ["learned"])


Reverse = Callable[..., Tensor]


def unpatched(reverse: Reverse) -> Reverse:
    """The last step of "large" with its own variance, not that of the step before."""

    def broken(p: Any, d: Any, a: Any, t: Tensor, s: Tensor, variance: str) -> Tensor:
        if variance == "small":
            return reverse(p, d, a, s, 0 * s, "large")
        return reverse(p, d, a, t, s, variance)

    return broken


def shifted(reverse: Reverse) -> Reverse:
    """Variances of the entry before."""

    def broken(p: Any, d: Any, a: Any, t: Tensor, s: Tensor, variance: str) -> Tensor:
        step = 1 / TABLE.steps if float(s) > 0.06 else 0
        return reverse(p, d, a, t - step, s - step, variance)

    return broken


@pytest.mark.parametrize(("fault", "variance"), [(unpatched, "large"), (shifted, "small")])
def test_wrong_variances_are_noticed(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[[Reverse], Reverse], variance: Any
) -> None:
    """Negative controls of the tests above."""
    assert agrees(of_table(PROBLEM.denoiser(), [variance])[variance], TABLE, TIMES)
    monkeypatch.setattr(terms_module, "reverse_variance", fault(terms_module.reverse_variance))
    assert not agrees(of_table(PROBLEM.denoiser(), [variance])[variance], TABLE, TIMES)


def test_many_steps_approach_the_entropy() -> None:
    """Of pictures rounded to grey levels: that of the density, in units of a grey level."""
    problem = gaussian_pictures(6)
    pictures = eight_bit(problem.sample(96, seed=1))
    table = ddpm_table()
    bounds = variational_bound(
        process(table),
        problem.denoiser(),
        pictures,
        bound_times(table, SCALE),
        ["learned", "small"],
        batch_size=96,
    )
    exact = math.log2(255) - problem.log_likelihood(pictures) / (36 * math.log(2))
    learned, small = (torch.tensor(bounds[v].pictures) - exact for v in bounds)
    noise = float(learned.std()) / math.sqrt(96)
    assert abs(float(learned.mean())) < 4 * noise < 0.12
    # Negative control: what variances that ignore the estimate's error waste is seen.
    assert float(small.mean()) > 4 * noise


def test_the_schedule_of_the_paper() -> None:
    """Its last entry, its prior term "about 1e-5", and what its two fixed variances differ by."""
    table = ddpm_table()
    assert float(table.alpha(1.0)) ** 2 == pytest.approx(4.0358e-5, rel=1e-4)
    picture = torch.full((1, 1, 2, 2), 185 / 255, dtype=torch.float64)
    bounds = variational_bound(
        process(table), Oracle(picture), picture, bound_times(table, SCALE), ["small", "large"]
    )
    square = (2 * 185 / 255 - 1) ** 2
    prior = 4.0358e-5 * (square + 4.0358e-5 / 2) / (2 * math.log(2))
    assert bounds["small"].prior == pytest.approx(prior, rel=1e-3)
    assert 5.8e-6 < prior < 1e-5
    # With the picture known, the divergences are those of the variances alone.
    assert bounds["small"].rate == pytest.approx(prior, rel=1e-3)
    assert bounds["large"].rate - prior == pytest.approx(0.486, abs=5e-4)
    assert bounds["large"].distortion == bounds["small"].distortion


# --- fewer steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1, 6])
def test_stratified_estimate_is_unbiased(levels: int) -> None:
    bounds = of_table(PROBLEM.denoiser(), [*FIXED, "learned"], levels=levels)
    for bound in bounds.values():
        assert len(bound.levels) == levels
        assert sum(level.steps for level in bound.levels) == TABLE.steps - 1
        assert agrees(bound, TABLE, TIMES)


def test_a_biased_choice_of_steps_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: always the first step of a group."""
    monkeypatch.setattr(
        bound_module,
        "drawn_steps",
        lambda groups, seed, names: torch.tensor([[g.start for g in groups]] * len(names)),
    )
    bounds = of_table(PROBLEM.denoiser(), ["small"], levels=6)
    assert not agrees(bounds["small"], TABLE, TIMES)


def test_standard_errors_are_honest() -> None:
    """The spread of estimates that differ in their seed is what each of them says it is."""
    crowd = CROWD[:40]
    bounds = [
        variational_bound(
            process(TABLE), PROBLEM.denoiser(), crowd, TIMES, ["small"], levels=4, seed=seed
        )["small"]
        for seed in range(80)
    ]
    spread = np.std([bound.total for bound in bounds], ddof=1)
    said = np.mean([error(bound) for bound in bounds])
    assert 0.75 < spread / said < 1.3
    assert 0.75 < np.std([b.rate for b in bounds], ddof=1) / said_rate(bounds) < 1.3


def said_rate(bounds: list[Bound]) -> float:
    """Draws of different levels are independent."""
    squares = [sum(error(level) ** 2 for level in bound.levels) for bound in bounds]
    return math.sqrt(np.mean(squares))


def test_batch_mates_do_not_matter() -> None:
    pictures = eight_bit(PROBLEM.sample(5, seed=3))
    names = [f"cell-{i}" for i in range(5)]

    def bits(some: list[int], **settings: Any) -> list[float]:
        bounds = variational_bound(
            process(TABLE), PROBLEM.denoiser(), pictures[some], TIMES, ["small"],
            keys=[names[i] for i in some], levels=4, **settings,
        )  # fmt: skip
        return list(bounds["small"].pictures)

    everyone = bits([0, 1, 2, 3, 4])
    assert bits([3, 1]) == pytest.approx([everyone[3], everyone[1]], rel=1e-12)
    assert bits([0, 1, 2, 3, 4], batch_size=2) == pytest.approx(everyone, rel=1e-12)
    assert bits([0, 1, 2, 3, 4], seed=1) != pytest.approx(everyone, rel=1e-3)


# --- grids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
@pytest.mark.parametrize("scale", [0.5, 0.15])
def test_grids_descend_to_a_grey_level(schedule: Schedule, scale: float) -> None:
    times = bound_times(schedule, scale, 20)
    assert len(times) == 21
    assert bool((times[1:] < times[:-1]).all())
    assert float(times[-1]) == 0
    if schedule is not TABLE:
        levels = 255 * scale * schedule.noise_level(times)
        assert float(levels[-2]) == pytest.approx(1.275, rel=1e-3)
        assert float(levels[0]) == pytest.approx(
            min(157.4 * 127.5, 255 * scale * float(top(schedule))), rel=1e-3
        )


def top(schedule: Schedule) -> float:
    return math.inf if isinstance(schedule, EDM) else float(schedule.noise_level(1.0))


def test_a_table_is_taken_entry_by_entry() -> None:
    table = ddpm_table()
    every = bound_times(table, 0.5)
    torch.testing.assert_close(every, torch.arange(1000, -1, -1) / 1000.0, check_dtype=False)
    some = table.index(bound_times(table, 0.5, 10)[:-1])
    assert some.tolist() == pytest.approx([999, 888, 777, 666, 555, 444, 333, 222, 111, 0])


@pytest.mark.parametrize("levels", [None, 1, 7, 40, 998, 5000])
def test_strata_take_every_step_once(levels: int | None) -> None:
    table = ddpm_table()
    groups = strata(table, bound_times(table, 0.5), levels)
    assert [step for group in groups for step in group] == list(range(999))
    assert len(groups) == min(levels or 999, 999)
    assert all(groups)


# --- results --------------------------------------------------------------------------------------


def test_the_curve_is_that_of_table_4() -> None:
    """The rate before each estimate, and its error on [0, 255]."""
    bound = of_table(PROBLEM.denoiser(), ["small"])["small"]
    curve = bound.rate_distortion()
    assert len(curve) == TABLE.steps
    rates, errors = zip(*curve, strict=True)
    assert rates[0] == bound.prior
    assert rates[1] == pytest.approx(bound.prior + bound.levels[0].bits)
    assert rates[-1] == pytest.approx(bound.rate)
    assert list(rates) == sorted(rates)
    wanted = [
        127.5 * math.sqrt(posterior(float(TABLE.noise_level(t))).squared_error.mean())
        for t in TIMES[:-1]
    ]
    assert list(errors) == pytest.approx(wanted, rel=0.1)
    assert bound.total == pytest.approx(np.mean(bound.pictures))
    assert bound.total == pytest.approx(bound.rate + bound.distortion)
    assert bound.levels[0].noise_to == bound.levels[1].noise_from
    assert bound.decoder.noise_to == 0


def test_estimates_are_confined_like_their_pictures() -> None:
    white = torch.ones(2, 1, 2, 2, dtype=torch.float64)
    for confined, rmse in ((True, 0.0), (False, 25.5)):
        denoiser = Oracle(white[:1], 0.1, confined)
        bound = variational_bound(process(TABLE), denoiser, white, TIMES, ["small"])["small"]
        assert bound.decoder.rmse == pytest.approx(rmse, abs=1e-9)


def test_one_picture_has_no_standard_error() -> None:
    bound = variational_bound(process(TABLE), PROBLEM.denoiser(), PICTURE, TIMES, ["small"])
    content = bound["small"].to_dict()
    assert content["standard_error"] is None
    assert content["levels"][0]["standard_error"] is None
    assert content["bits_per_dimension"] == bound["small"].total


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x0": PICTURE + 0.4 / 255}, "0.4 grey levels away from those of an 8-bit picture"),
        ({"x0": PICTURE + 1}, "grey levels away"),
        ({"x0": PICTURE * torch.nan}, "grey levels away"),
        ({"x0": PICTURE[0]}, "x0: shape .* give pictures"),
        ({"x0": PICTURE[:0]}, "x0: shape .* give pictures"),
        ({"times": TIMES[-2:]}, "times: shape .* at least three"),
        ({"times": TIMES.flip(0)}, "strictly descending"),
        ({"variances": ["tiny"]}, "variance: 'tiny'"),
        ({"decoder": "better"}, "decoder: 'better'; give one of exact, paper"),
        ({"levels": 0}, "levels: 0; give at least 1"),
        ({"keys": ["a", "b"]}, "keys: 2 different names for 1 pictures"),
        ({"variances": ["learned"], "denoiser": network("x0", 1)}, "'learned' needs a denoiser"),
    ],
)
def test_senseless_questions(changes: dict[str, Any], message: str) -> None:
    question: dict[str, Any] = {
        "process": process(TABLE), "denoiser": PROBLEM.denoiser(), "x0": PICTURE, "times": TIMES,
        "variances": ["small"],
    }  # fmt: skip
    with pytest.raises(CertesError, match=message):
        variational_bound(**question | changes)


@pytest.mark.parametrize(("schedule", "steps"), [(TABLE, 21), (TABLE, 1), (Cosine(), 0)])
def test_grids_of_senseless_length(schedule: Schedule, steps: int) -> None:
    with pytest.raises(CertesError, match=f"steps: {steps}; give at least 2"):
        bound_times(schedule, 0.5, steps)


# --- the decoder ----------------------------------------------------------------------------------

GREYS = (torch.arange(256, dtype=torch.float64) / 255).reshape(256, 1, 1, 1)


@pytest.mark.parametrize("mean", [-0.3, 0.0, 0.4987, 1.0, 1.2])
@pytest.mark.parametrize("std", [1e-3, 0.02, 3.0])
@pytest.mark.parametrize("decoder", ["exact", "paper"])
def test_bins_sum_to_one(mean: float, std: float, decoder: Any) -> None:
    at = torch.full_like(GREYS, mean)
    logs = log_probability(GREYS, at, torch.tensor(std, dtype=torch.float64), decoder)
    assert float(logs.exp().sum()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("level", [0, 1, 100, 128, 254, 255])
@pytest.mark.parametrize("std", [0.02, 0.1])
def test_bins_far_from_the_mean(level: int, std: float) -> None:
    """Against hundreds of digits: no floor, no cancellation, in both tails."""
    for mean in (0.0, 0.5, 1.0):
        at = torch.full((1, 1, 1, 1), mean, dtype=torch.float64)
        found = log_probability(
            GREYS[level : level + 1], at, torch.tensor(std, dtype=torch.float64)
        )
        with mpmath.workdps(700):
            low = -mpmath.inf if level == 0 else (mpmath.mpf(level) - 0.5) / 255
            high = mpmath.inf if level == 255 else (mpmath.mpf(level) + 0.5) / 255
            wide = mpmath.mpf(std)
            mass = mpmath.erf((high - mean) / wide / mpmath.sqrt(2))
            mass -= mpmath.erf((low - mean) / wide / mpmath.sqrt(2))
            wanted = float(mpmath.log(mass / 2))
        assert float(found) == pytest.approx(wanted, rel=1e-9)


def test_the_decoder_of_the_paper() -> None:
    """In its own units and letters: tanh for the normal distribution, 1e-12 at least."""
    x = 2 * GREYS.numpy().ravel() - 1
    mean, std = 0.3, 0.0074
    cdf = [
        0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3)))
        for u in ((x - mean + 1 / 255) / std, (x - mean - 1 / 255) / std)
    ]
    wanted = np.where(x < -0.999, cdf[0], np.where(x > 0.999, 1 - cdf[1], cdf[0] - cdf[1]))
    at = torch.full_like(GREYS, (mean + 1) / 2)
    found = log_probability(GREYS, at, torch.tensor(std / 2, dtype=torch.float64), "paper")
    np.testing.assert_allclose(
        found.numpy().ravel(), np.log(np.maximum(wanted, 1e-12)), rtol=1e-6, atol=1e-9
    )


def test_the_decoder_has_gradients() -> None:
    """Open bins and far tails included: networks are trained through it."""
    mean = torch.linspace(-0.2, 1.2, 256).double().reshape(GREYS.shape).requires_grad_()
    std = torch.full_like(GREYS, 0.03).requires_grad_()

    def total(mean: Tensor, std: Tensor) -> Tensor:
        return log_probability(GREYS[::17], mean[::17], std[::17])

    assert torch.autograd.gradcheck(total, (mean, std))
