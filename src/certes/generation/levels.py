"""Noise levels by the name that the paper gives them: steps of its chain of 1000."""

from __future__ import annotations

from collections.abc import Sequence

from certes.diffusion.schedules import linear_betas
from certes.diffusion.solvers.sampling import SIGMA_MAX
from certes.errors import InputError

VARIATION_STEPS = (1000, 750, 500, 250)
"""Where figure 7 of the paper splits the chain."""

INTERPOLATION_STEPS = tuple(range(0, 1001, 125))
"""The depths of figure 9 of the paper."""


def ddpm_levels(steps: Sequence[int], scale: float = 0.5) -> list[float]:
    r"""The noise levels :math:`\sigma / \alpha` after ``steps`` of DDPM's 1000 diffusion steps.

    With the linear table from 1e-4 to 0.02 (Ho et al. 2020). At most :data:`SIGMA_MAX`, where
    nothing of a picture is left.

    Args:
        steps: whole numbers from 0 (clean) to 1000.
        scale: image units for one unit of the model: ``model.scale``; 1/2 for the paper's
            pictures in [-1, 1].

    Returns:
        Noise standard deviations, image units.

    Raises:
        InputError: if a step is outside the chain.
    """
    table = linear_betas()
    if not all(0 <= step <= table.steps for step in steps):
        raise InputError(f"steps: {list(steps)}; give numbers from 0 to {table.steps}")
    levels = [scale * float(table.noise_level(step / table.steps)) for step in steps]
    return [min(level, SIGMA_MAX) for level in levels]
