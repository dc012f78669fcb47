"""Frames are the estimates of the chain, at the levels they name, as sure as they should be."""

from __future__ import annotations

import pytest
import torch

from certes.diffusion.solvers.sampling import SIGMA_MAX, ReverseChain
from certes.errors import InputError
from certes.generation import chains
from certes.generation.progressive import progressive_estimates

from .laws import SHAPE, Recorder, correlated, diagonal


def test_frames_are_the_answers_at_their_levels() -> None:
    denoiser = Recorder(correlated().denoiser())
    drawn = progressive_estimates(
        denoiser, SHAPE, 2, frames=4, chain=ReverseChain("ancestral", steps=10)
    )
    calls = [1, 4, 6, 9]
    assert drawn.levels == pytest.approx([denoiser.levels[i] for i in calls])
    assert denoiser.levels[0] == pytest.approx(SIGMA_MAX)
    assert drawn.levels[-1] == pytest.approx(0.002)
    for frame, call in zip(drawn.estimates, calls, strict=True):
        sigma = torch.full((2,), denoiser.levels[call])
        assert torch.equal(frame, denoiser.denoiser(denoiser.asked[call], sigma).mean)


@pytest.mark.parametrize("solver", ["ancestral", "ddim", "dpm_solver_2m", "unipc"])
def test_the_last_frame_is_the_sample(solver) -> None:
    """An exact chain ends where its last estimate says; one frame and many give the same."""
    chain = ReverseChain(solver, steps=5)
    states = []
    one = progressive_estimates(
        correlated().denoiser(), SHAPE, 3, frames=1, chain=chain, callback=states.append
    )
    many = progressive_estimates(correlated().denoiser(), SHAPE, 3, frames=50, chain=chain)
    assert len(states) == len(many.levels) == len(many.estimates) == 5
    assert torch.equal(one.samples, many.samples)
    torch.testing.assert_close(states[-1].x, one.samples)


def surprise(variance) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared change from each frame to the sample, over what p(x_0 | x_t) expects."""
    problem = diagonal()
    chain = ReverseChain("ancestral", 12, variance)
    drawn = progressive_estimates(problem.denoiser(), SHAPE, 2000, frames=6, chain=chain)
    square = (drawn.estimates[:-1] - drawn.samples).double().square().mean(dim=1).flatten(1)
    level = torch.tensor(drawn.levels[:-1], dtype=torch.float64)[:, None] ** 2
    prior = problem.covariance.diagonal()
    return square, prior * level / (prior + level) - 0.002**2


def test_estimates_miss_the_sample_by_what_they_leave_open() -> None:
    square, expected = surprise("learned")
    assert ((square / expected - 1).abs() < 5 * (2 / 2000) ** 0.5).all()


def test_the_miss_notices_a_wrong_chain() -> None:
    """Negative control: fixed-small variances in a few steps are too sure."""
    square, expected = surprise("small")
    assert (square / expected - 1).min() < -0.3


def test_a_picture_depends_on_its_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = correlated().denoiser()
    five = progressive_estimates(denoiser, SHAPE, 5, seed=1)
    two = progressive_estimates(denoiser, SHAPE, 2, seed=1)
    torch.testing.assert_close(two.estimates, five.estimates[:, :2], rtol=0, atol=1e-6)
    other = progressive_estimates(denoiser, SHAPE, 2, seed=2)
    assert (other.samples - two.samples).abs().min() > 1e-4
    monkeypatch.setattr(chains, "_BATCH_VALUES", 13)
    batched = progressive_estimates(denoiser, SHAPE, 5, seed=1)
    torch.testing.assert_close(batched.estimates, five.estimates, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("count", "frames"), [(0, 1), (1, 0)])
def test_refused(count: int, frames: int) -> None:
    with pytest.raises(InputError, match="at least 1 of each"):
        progressive_estimates(correlated().denoiser(), SHAPE, count, frames=frames)
