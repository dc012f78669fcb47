"""Twisted sequential Monte Carlo: its densities, its resampling, and exactness as K grows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import MixtureProblem
from certes.restoration import restore
from certes.restoration.measurement import Measurement, SpectralMeasurement, measure
from certes.restoration.operators import Denoise, Inpaint, SuperResolution
from certes.restoration.samplers import SAMPLERS, twisted
from certes.restoration.samplers.twisted import sample_twisted, twisted_levels

from ..laws import field, last
from .posed import drawn, judged, moments, noise_free, posed

SHAPE = (1, 2, 3)


def random(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def belief(rows: int, seed: int = 0) -> twisted._Belief:
    plain, informed, variance = random(3, rows, 6, seed=seed)
    return twisted._Belief(plain, informed, 0.1 + variance, torch.zeros(rows).double())


A = torch.tensor([[torch.inf, 0.4, 0.2, 0.1, 0.03, 0.9]]).double()


def known(rows: int) -> SpectralMeasurement:
    return SpectralMeasurement(Denoise(SHAPE), random(rows, 6, seed=9), A)


def test_the_twisting_function_is_a_density_of_what_is_measured() -> None:
    look, guess = known(4), belief(4)
    normal = Normal(guess.plain, (A**2 + guess.variance).sqrt())
    expected = normal.log_prob(look.values)[:, 1:].sum(1)
    torch.testing.assert_close(twisted._twist(look, guess.plain, guess.variance), expected)


@pytest.mark.parametrize("first", [True, False])
def test_a_proposal_is_weighed_by_its_densities(first: bool) -> None:
    """Chain over proposal, both one step of SDE-DPM-Solver++(2M) with their own estimate."""
    t, s, before = torch.tensor([0.5, 0.3, 0.9]).double()
    path, guess, e = random(4, 6, seed=3), belief(4), random(4, 6, seed=4)
    past = None if first else (before, belief(4, seed=7))
    moved, ratio = twisted._proposed(path, guess, past, t, s, e)

    def step(now: Tensor, earlier: Tensor) -> Normal:
        middle = now
        if not first:
            middle = now + (t / s).log() / (2 * (before / t).log()) * (now - earlier)
        keep = (s / t) ** 2
        return Normal(keep * path + (1 - keep) * middle, s * (1 - keep).sqrt())

    earlier = belief(4, seed=7)
    chain, proposal = step(guess.plain, earlier.plain), step(guess.informed, earlier.informed)
    torch.testing.assert_close(moved, proposal.mean + proposal.stddev * e)
    expected = (chain.log_prob(moved) - proposal.log_prob(moved)).sum(1)
    torch.testing.assert_close(ratio, expected)


def test_the_last_step_weighs_nothing() -> None:
    """Prior times likelihood over proposal and twist is 1, whatever was drawn."""
    look, guess = known(4), belief(4)
    end, again = (twisted._ended(look, guess, random(4, 6, seed=seed)) for seed in (5, 6))
    a, variance = A[:, 1:], guess.variance[:, 1:]
    plain, y = guess.plain[:, 1:], look.values[:, 1:]
    gain = variance / (variance + a**2)
    proposal = Normal(plain + gain * (y - plain), (gain * a**2).sqrt())
    for drawn_end in (end, again):
        x = drawn_end[:, 1:]
        weight = Normal(plain, variance.sqrt()).log_prob(x) + Normal(x, a).log_prob(y)
        weight = (weight - proposal.log_prob(x)).sum(1)
        torch.testing.assert_close(weight, twisted._twist(look, guess.plain, guess.variance))
    unseen = guess.plain[:, 0] + guess.variance[:, 0].sqrt() * random(4, 6, seed=5)[:, 0]
    torch.testing.assert_close(end[:, 0], unseen)


def test_resampling_is_systematic_and_keeps_pictures_apart() -> None:
    shares = torch.tensor([[0.5, 0.01], [0.26, 0.01], [0.24, 0.97], [0.0, 0.01]]).double()
    counts = torch.zeros(4, 2)
    for uniform in (torch.arange(400).double() + 0.5) / 400:
        rows = twisted._systematic(shares, uniform.repeat(2)).reshape(4, 2)
        assert torch.equal(rows % 2, torch.tensor([[0, 1]]).expand(4, 2))
        drawn_now = torch.stack([(rows // 2 == copy).sum(0) for copy in range(4)])
        assert bool(((drawn_now - 4 * shares).abs() < 1 + 1e-9).all())
        counts += drawn_now
    torch.testing.assert_close(counts / 1600, shares.float(), rtol=0, atol=1e-3)
    even = torch.full((4, 2), 0.25).double()
    for uniform in (0.0, 0.3, 1 - 1e-12):
        offsets = torch.full((2,), uniform, dtype=torch.float64)
        assert torch.equal(twisted._systematic(even, offsets), torch.arange(8))
    # Who has no share is never drawn.
    none = torch.tensor([[0.0], [1.0], [0.0]]).double()
    assert twisted._systematic(none, torch.zeros(1)).tolist() == [1, 1, 1]


def test_only_uneven_clouds_are_drawn_anew() -> None:
    """Effective sizes of 2.0002 (of 4: just enough) and of 1.2."""
    shares = torch.tensor([[0.4999, 0.9], [0.4999, 0.1], [1e-4, 0.0], [1e-4, 0.0]]).double()
    rows, logs = twisted._survivors(shares.log(), torch.full((2,), 0.5).double())
    assert rows.reshape(4, 2)[:, 0].tolist() == [0, 2, 4, 6]
    assert rows.reshape(4, 2)[:, 1].tolist() == [1, 1, 1, 1]
    torch.testing.assert_close(logs[:, 0], shares[:, 0].log())
    assert logs[:, 1].tolist() == [0.0] * 4


def test_variances_are_those_of_what_is_seen_and_of_everything() -> None:
    """Means over eight pixels see the slow part of a field, which is the less certain one."""
    H, problem = SuperResolution((1, 8, 8), 4), field((1, 8, 8), 0.15, 2.0)
    look = measure(H, torch.zeros(1, *H.out_shape).double(), torch.tensor([0.05]).double())
    x, level = torch.full((1, 1, 8, 8), 0.5).double(), torch.tensor([0.1]).double()
    covariance = problem.denoiser().covariance(problem.denoiser()(x, level), level)
    variance = twisted._variance(look, covariance, torch.zeros(1, 64).double())
    V = H.V(torch.eye(64).double())
    exact = torch.einsum("kchw,kchw->k", V, covariance.apply(V))
    assert float(variance[0, 0]) == pytest.approx(float(exact[:4].mean()), rel=0.3)
    assert float(variance[0, -1]) == pytest.approx(float(exact.mean()))
    assert variance[0, 0] > 3 * variance[0, -1]


PAIR = (1, 1, 2)
LEFT = Inpaint(PAIR, torch.tensor([[1, 0]]))
Y = torch.tensor([0.38, 0.0]).double().reshape(1, *PAIR)


@pytest.fixture(scope="module")
def mixture() -> MixtureProblem:
    """What the left pixel tells of the right one is no linear matter."""
    means = torch.tensor([[0.3, 0.2], [0.6, 0.8]]).double().reshape(2, *PAIR)
    shapes = torch.tensor([[[4.0, 2.0], [2.0, 9.0]], [[100.0, -30.0], [-30.0, 25.0]]]) * 1e-4
    return MixtureProblem(torch.tensor([0.5, 0.5]), means, shapes.double())


ROWS, MANY = 2400, 60


def bright(sampler: str, problem: MixtureProblem, copies: int) -> tuple[float, float]:
    """How often the right pixel comes out bright, less how often it should; standard error."""
    count, method = ROWS // copies, SAMPLERS[sampler]
    look = Measurement(LEFT, Y.repeat(count, 1, 1, 1), torch.full((count,), 0.05).double())
    grid = method.grid(method.view(look), 30)
    view, noise = method.view(look.repeat(copies)), NoiseSource(range(ROWS))
    end = last(method.draw(view, problem.denoiser(), grid, noise)).x.reshape(copies, count, 2)
    shares = (end[..., 1] > 0.5).double().mean(0)
    known = problem.posterior(Y, LEFT, 0.05)
    normal = Normal(known.means[0, :, 0, 0, 1], known.covariances[:, 1, 1].sqrt())
    exact = 1 - float((known.weights[0] * normal.cdf(torch.tensor(0.5).double())).sum())
    assert 0.1 < exact < 0.3
    # Particles of one cloud are not independent; clouds are.
    return float(shares.mean()) - exact, float(shares.std()) / count**0.5


def test_the_error_falls_with_the_number_of_particles(mixture: MixtureProblem) -> None:
    one, few, (many, error) = (bright("twisted", mixture, k) for k in (1, 4, MANY))
    assert one[0] > 2 * few[0] > 0
    assert error < 0.015
    assert abs(many) < 3 * error


@pytest.mark.parametrize("sampler", ["pinned", "conditional", "ddrm"])
def test_samplers_that_draw_alone_miss_that_posterior(
    sampler: str, mixture: MixtureProblem
) -> None:
    """Negative control."""
    off, error = bright(sampler, mixture, 1)
    assert off > 6 * error


def test_particles_without_weights_miss_it_too(
    mixture: MixtureProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: the same proposals, all kept."""
    keep = "_systematic"
    monkeypatch.setattr(twisted, keep, lambda shares, uniform: torch.arange(shares.numel()))
    off, error = bright("twisted", mixture, MANY)
    assert off > 6 * error


@pytest.mark.parametrize("task", ["inpaint", "super-resolve"])
def test_large_clouds_are_calibrated_on_fields(task: str) -> None:
    case = posed(task)
    clouds = [judged(moments(drawn("twisted", case, 20, count)), case) for count in (10, 900)]
    assert 0.86 < clouds[1].coverage < 0.93
    assert abs(clouds[1].spread - 1) < 0.1
    assert clouds[1].error < 0.35 < clouds[0].error


def test_noise_free_measurements_are_met() -> None:
    for task in ("inpaint", "deblur"):
        case = noise_free(task)
        samples = drawn("twisted", case, 8, 5)
        H = case.measurement.operator
        misfit = H(samples.reshape(5, *H.in_shape)) - case.measurement.y
        assert misfit.abs().max() < 1e-10


def test_particles_keep_their_own_noise_level() -> None:
    """Levels that differ from copy to copy are resampled with the copies that they belong to."""
    problem, H = field(SHAPE, 0.15, 1.5), Denoise(SHAPE)
    wrong = torch.full((64,), 1e-3).double()
    wrong[0] = 0.5
    # A measurement far from what the prior allows: only the noisy copy can explain it.
    look = Measurement(H, torch.full((64, *SHAPE), 2.0).double(), wrong, copies=64)
    grid = twisted_levels(Measurement(H, look.y[:1], torch.tensor([0.5]).double()), 10)
    end = last(sample_twisted(look, problem.denoiser(), grid, NoiseSource(range(64)))).x
    assert end.max() < 1.5
    assert float(end.std(0).mean()) > 1e-3


def test_one_particle_is_enough_to_run_and_batches_do_not_matter(mixture: MixtureProblem) -> None:
    y = Y.float().repeat(2, 1, 1, 1)
    options = {"noise": 0.05, "steps": 6, "sampler": "twisted"}
    one = restore(y, LEFT, mixture.denoiser(), samples=1, **options)
    assert bool(one.samples.isfinite().all())
    many, split = (
        restore(y, LEFT, mixture.denoiser(), samples=12, batch_size=size, **options).samples
        for size in (None, 1)
    )
    torch.testing.assert_close(many, split, rtol=0, atol=2e-5)
