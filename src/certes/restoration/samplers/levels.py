"""Where the reverse diffusion of a restoration begins and ends."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.grids import Grid, log_sigma_grid
from certes.diffusion.solvers.sampling import SIGMA_MIN
from certes.restoration.measurement import Measurement

# Image units: nothing of a picture is left to see. (Its mean brightness, which is, comes from the
# measurement, so that this is lower than where sampling without one must start.)
SIGMA_MAX = 5.0
# The last step adds no noise, so it must be short against what the measurement leaves open.
_SHARE = 1 / 8
_FLOOR = 0.0002


def finest_level(noise: Float[Tensor, " *looks"]) -> float:
    """The last noise level before zero, image units.

    Args:
        noise: standard deviations of what was measured; zeros, which leave nothing open there, and
            infinities do not count.
    """
    noisy = noise[noise > 0]
    finest = _SHARE * float(noisy.min()) if noisy.numel() else SIGMA_MIN
    return min(max(finest, _FLOOR), SIGMA_MIN)


def whole_descent(measurement: Measurement, steps: int) -> Grid:
    """From pure noise down to a level that is short against the measurement's."""
    return log_sigma_grid(SIGMA_MAX, finest_level(measurement.noise), steps)
