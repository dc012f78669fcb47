"""Drawing pictures given conditions: any solver, shown conditions by any policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from certes.conditional.estimators import Estimator
from certes.conditional.policies import GivenCondition, policy_named
from certes.diffusion.denoiser import ConditionalDenoiser
from certes.diffusion.grids import Grid, log_sigma_grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.solvers.sampling import SIGMA_MIN, ReverseChain
from certes.diffusion.solvers.state import State

# The brightness about which pictures lie; noise drowns the difference.
_CENTER = 0.5


def levels_of(estimator: Estimator, steps: int) -> Grid:
    """The noise levels of x that a reverse process visits: evenly spaced in log-SNR, then zero.

    Their number is free, whatever the estimator was trained with.

    Args:
        estimator: its x begins at the noise of its last time.
        steps: how many levels before zero.
    """
    ends = estimator.x.noise_level(torch.tensor([0.0, 1.0]))
    return log_sigma_grid(float(ends[1]), max(float(ends[0]), SIGMA_MIN), steps)


def draw_given(
    denoiser: ConditionalDenoiser,
    estimator: Estimator,
    y: Float[Tensor, " b *out"],
    shape: Sequence[int],
    noise: NoiseSource,
    chain: ReverseChain,
    policy: str = "fresh",
) -> Iterator[State]:
    """Draw a picture for each condition; the last state holds them, image units.

    Args:
        denoiser: what knows pairs.
        estimator: how its blocks diffuse.
        y: conditions, as the denoiser sees them.
        shape: (c, h, w) of a picture.
        noise: one stream for each condition.
        chain: how the reverse process is walked.
        policy: which noisy conditions it is shown (:mod:`certes.conditional.policies`).

    Raises:
        InputError: for an unknown policy.
    """
    made = policy_named(policy)
    grid = levels_of(estimator, chain.steps)
    e = noise.normal(tuple(shape), y.dtype)
    given = GivenCondition(denoiser, made(y, estimator.y_level, noise))
    return chain(given, _CENTER + float(grid[0]) * e, grid, noise)
