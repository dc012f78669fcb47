"""Where the reverse diffusion of a restoration begins and ends."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.solvers.sampling import SIGMA_MIN

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
