"""Variations of a latent are draws from p(x_0 | x_t), known for Gaussian pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from certes.diffusion.solvers.sampling import SIGMA_MAX, ReverseChain
from certes.errors import InputError
from certes.generation.variations import latents, variations

from .laws import SHAPE, Recorder, correlated, diagonal, fits, given

EXACT = ReverseChain("ancestral", steps=6, variance="learned")
FINE = ReverseChain("dpm_solver_2m_sde", steps=60)
COUNT = 4000

CASES = pytest.mark.parametrize(
    ("problem", "chain"), [(diagonal(), EXACT), (correlated(), FINE)], ids=["ancestral", "2m sde"]
)


def latent(problem) -> torch.Tensor:
    return problem.sample(1, seed=5)


@CASES
@pytest.mark.parametrize("level", [0.1, 0.5])
def test_variations_are_draws_given_the_latent(problem, chain, level: float) -> None:
    x_t = latent(problem) + level
    drawn = variations(problem.denoiser(), x_t, level, COUNT, chain=chain)
    assert drawn.shape == (COUNT, 1, *SHAPE)
    assert fits(drawn[:, 0], *given(problem, x_t, level))


@CASES
def test_from_pure_noise_they_are_draws_of_the_prior(problem, chain) -> None:
    drawn = variations(problem.denoiser(), latent(problem), 1000.0, COUNT, chain=chain)
    assert fits(drawn[:, 0], problem.mean, problem.covariance)
    assert not fits(drawn[:, 0], *given(problem, latent(problem), 0.5))


def test_the_law_notices_a_chain_that_is_too_sure() -> None:
    """Negative control: fixed-small variances in six steps."""
    problem, chain = diagonal(), ReverseChain("ancestral", steps=6, variance="small")
    drawn = variations(problem.denoiser(), latent(problem), 0.5, COUNT, chain=chain)
    assert not fits(drawn[:, 0], *given(problem, latent(problem), 0.5))


def test_the_law_notices_another_latent() -> None:
    """Negative control: the ends of another latent."""
    problem, x_t = diagonal(), latent(diagonal())
    drawn = variations(problem.denoiser(), x_t + 0.1, 0.1, COUNT, chain=EXACT)
    assert not fits(drawn[:, 0], *given(problem, x_t, 0.1))


def test_chains_pass_their_levels_with_the_law_of_noised_pictures() -> None:
    problem, levels = diagonal(), [100.0, 1.0, 0.2, 0.05]
    chain = ReverseChain("ancestral", 12, "learned")
    frozen = latents(problem.denoiser(), SHAPE, levels, COUNT, chain=chain)
    assert frozen.shape == (4, COUNT, *SHAPE)
    eye = torch.eye(6, dtype=torch.float64)
    for x_t, level in zip(frozen, levels, strict=True):
        assert fits(x_t, problem.mean, problem.covariance + level**2 * eye)
        assert not fits(x_t, problem.mean, problem.covariance + (1.3 * level) ** 2 * eye)
    ends = variations(problem.denoiser(), frozen[2], 0.2, 1, chain=EXACT)
    assert fits(ends[0], problem.mean, problem.covariance)


def test_latents_are_of_one_chain() -> None:
    """From its latent at a low level a chain has little left to do; another's is elsewhere."""
    problem = correlated()
    frozen = latents(problem.denoiser(), SHAPE, [1e-2, 1e-3], 50)
    assert (frozen[0] - frozen[1]).std() == pytest.approx(1e-2, rel=0.2)
    assert (frozen[0] - frozen[1].roll(1, 0)).std() > 0.1


def test_the_grid_stops_at_every_level_and_is_nearly_even() -> None:
    levels = [23.6, 2.55, 0.51, 0.143]
    denoiser = Recorder(correlated().denoiser())
    latents(denoiser, SHAPE, levels, chain=ReverseChain(steps=40))
    passed = denoiser.levels
    assert passed[0] == pytest.approx(SIGMA_MAX)
    # The chain stops at the last level: it is never asked about that one.
    for level in levels[:-1]:
        assert min(abs(level / other - 1) for other in passed) < 1e-6
    steps = -np.diff(np.log([*passed, levels[-1]]))
    even = np.log(SIGMA_MAX / 0.002) / 39
    assert (steps > 0.7 * even).all()
    assert (steps < 1.3 * even).all()


def test_a_variation_depends_on_its_seed_alone() -> None:
    denoiser, x_t = correlated().denoiser(), correlated().sample(3, 1)
    many = variations(denoiser, x_t, 0.3, 4, seed=7)
    few = variations(denoiser, x_t[:1], 0.3, 2, seed=7)
    torch.testing.assert_close(few[:, 0], many[:2, 0], rtol=0, atol=1e-12)
    assert (variations(denoiser, x_t, 0.3, 4, seed=8) - many).abs().mean() > 0.01
    assert (many[0] - many[1]).abs().mean() > 0.01


def test_without_noise_nothing_is_left_to_vary() -> None:
    x = correlated().sample(2, 1)
    assert torch.equal(variations(Recorder(correlated().denoiser()), x, 0, 3), torch.stack([x] * 3))


@pytest.mark.parametrize("solver", ["ddim", "dpm_solver_2m", "unipc"])
def test_a_deterministic_chain_has_one_end(solver) -> None:
    denoiser, chain = correlated().denoiser(), ReverseChain(solver)
    with pytest.raises(InputError, match=f"solver: '{solver}' adds no noise"):
        variations(denoiser, correlated().sample(1, 1), 0.3, 2, chain=chain)
    with pytest.raises(InputError, match="adds no noise"):
        latents(denoiser, SHAPE, [1.0], chain=chain)


@pytest.mark.parametrize("levels", [[], [0.0], [1.0, 0.0], [0.1, 1.0], [1.0, 1.0], [float("nan")]])
def test_levels_must_descend(levels: list[float]) -> None:
    with pytest.raises(InputError, match=r"levels: .* descending"):
        latents(correlated().denoiser(), SHAPE, levels)


def test_too_few_steps_for_the_levels() -> None:
    with pytest.raises(InputError, match="steps: 3 are too few"):
        latents(correlated().denoiser(), SHAPE, [1.0, 0.5, 0.4], chain=ReverseChain(steps=3))


def test_refused() -> None:
    x, denoiser = correlated().sample(1, 1), correlated().denoiser()
    with pytest.raises(InputError, match="count: 0"):
        variations(denoiser, x, 0.3, 0)
    with pytest.raises(InputError, match=r"level: -1"):
        variations(denoiser, x, -1, 1)
