r"""Variations that share a latent: :math:`x_t` is frozen, the rest of the chain drawn anew.

Ho et al. 2020 (arXiv:2006.11239), section 4.3 and figure 7. Each variation is a draw from
:math:`p(x_0 | x_t)`: with little noise in :math:`x_t` they share all but details, at the start of
the chain nothing. ``x_t`` is in the denoiser's coordinates: :math:`x_0 + \sigma e`, image units.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.grids import Grid
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.solvers.sampling import SIGMA_MAX, SIGMA_MIN, ReverseChain
from certes.errors import InputError
from certes.generation.chains import Callback, center_of, decode, device_of
from certes.networks.tiling import fitted


def variations(
    model: Denoiser,
    x_t: Float[Tensor, "b c h w"],
    level: float,
    count: int,
    seed: int = 0,
    chain: ReverseChain | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "count b c h w"]:
    """Draw pictures from :math:`p(x_0 | x_t)`.

    Args:
        model: what knows the pictures.
        x_t: what they share: noisy pictures ``x_0 + level e``, image units, for instance from
            :func:`latents`, or a picture with noise added.
        level: the noise standard deviation of ``x_t``, image units; 0 returns ``x_t``.
        count: how many of each.
        seed: variation k of picture i depends on ``seed``, k and i alone.
        chain: how it is walked, by a solver that adds noise; default: :class:`ReverseChain` as it
            comes.
        callback: called with the solver's state after every network call.

    Raises:
        InputError: if the solver is deterministic, the level negative, or ``count`` not positive.
    """
    chain = _stochastic(chain)
    if count < 1:
        raise InputError(f"count: {count}; give at least 1")
    if level == 0:
        return x_t.expand(count, *x_t.shape).clone()
    keys = [f"variation/{k}/{i}" for k in range(count) for i in range(len(x_t))]
    rows = x_t.repeat(count, 1, 1, 1)
    ends = decode(model, rows, level, stream_seeds(seed, keys), chain, callback)
    return ends.reshape(count, *x_t.shape)


def latents(
    model: Denoiser,
    shape: tuple[int, int, int],
    levels: Sequence[float],
    count: int = 1,
    seed: int = 0,
    chain: ReverseChain | None = None,
) -> Float[Tensor, "levels count c h w"]:
    """Draw chains from nothing but noise, and freeze each where it passes these noise levels.

    Args:
        model: what knows the pictures.
        shape: the shape (c, h, w) of one picture.
        levels: noise standard deviations, image units, descending.
        count: how many chains; chain i depends on ``seed`` and i alone.
        seed: of the noise.
        chain: how it is walked, by a solver that adds noise.

    Returns:
        :math:`x_t`, image units.

    Raises:
        InputError: if the solver is deterministic, or the levels do not descend or are too many for
            the steps of the chain.
    """
    chain, denoiser, device = _stochastic(chain), fitted(model, shape), device_of(model)
    grid, stops = _grid_through(levels, chain.steps)
    seeds = stream_seeds(seed, [f"latent/{i}" for i in range(count)])
    noise = NoiseSource(seeds, device)
    x = center_of(model) + float(grid[0]) * noise.normal(shape)
    walk = islice(chain(denoiser, x, grid, noise), stops[-1])
    passed = [x, *(state.x for state in walk)]
    return torch.stack([passed[stop] for stop in stops]).cpu()


def _stochastic(chain: ReverseChain | None) -> ReverseChain:
    chain = chain or ReverseChain()
    if not chain.stochastic:
        raise InputError(
            f"solver: {chain.solver!r} adds no noise, so that all variations would be the same; "
            "give 'ancestral' or 'dpm_solver_2m_sde'"
        )
    return chain


def _grid_through(levels: Sequence[float], steps: int) -> tuple[Grid, list[int]]:
    """As evenly spaced in log noise as can be, through every level; and their places in it."""
    positive = all(0 < level < float("inf") for level in levels)
    if not levels or not positive or list(levels) != sorted(set(levels), reverse=True):
        raise InputError(f"levels: {list(levels)}; give noise levels above 0, descending")
    start, end = max(SIGMA_MAX, levels[0]), min(SIGMA_MIN, levels[-1] / 2)
    knots = np.log([start] * (levels[0] < start) + list(levels) + [end])
    places = np.rint((steps - 1) * (knots[0] - knots) / (knots[0] - knots[-1]))
    if not bool((np.diff(places) >= 1).all()):
        raise InputError(
            f"steps: {steps} are too few to pass the levels {list(levels)} one by one; "
            "give more steps, or fewer levels"
        )
    logs = np.interp(np.arange(steps), places, knots)
    grid = torch.as_tensor(np.append(np.exp(logs), 0.0))
    return grid, [int(place) for place in places[-1 - len(levels) : -1]]
