r"""What is known of the noise of a measurement, when it is more than one number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from certes.errors import InputError

_NEIGHBOURHOOD = 5  # pixels a side, over which the signal is averaged to know its noise


@dataclass(frozen=True)
class NoiseEstimate:
    """Noise levels that were estimated.

    Args:
        level: standard deviation of each measurement's noise, image units.
        deviation: standard error of each of them, image units.
    """

    level: Float[Tensor, " b"]
    deviation: Float[Tensor, " b"]

    def draw(self, deviates: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        r"""A level that may as well be the true one, for each standard normal deviate.

        Log-normal, so that no level is negative, with the estimate for its median and the stated
        deviation: with r that deviation over the level, the logarithm has the variance
        :math:`\log \frac{1 + \sqrt{1 + 4 r^2}}{2}`.
        """
        relative = self.deviation / self.level.clamp(min=torch.finfo(self.level.dtype).tiny)
        spread = ((1 + (1 + 4 * relative**2).sqrt()) / 2).log().sqrt()
        return self.level * torch.exp(spread * deviates)


@dataclass(frozen=True)
class SignalNoise:
    r"""Noise that grows with the signal, as photons make it: :math:`Var[y | x] = g x + r^2`.

    Args:
        gain: :math:`g`, image units: the share of the range that one photon takes.
        read: :math:`r`, image units: what is left in the dark.

    Raises:
        InputError: for negative numbers, or none above 0.
    """

    gain: float
    read: float

    def __post_init__(self) -> None:
        if not (self.gain >= 0 and self.read >= 0 and self.gain + self.read > 0):
            raise InputError(
                f"gain, read: {self.gain}, {self.read}; give numbers of at least 0, not both zero"
            )


def noise_map(noise: SignalNoise, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The standard deviation of every value, read off the measurement itself.

    The signal is the mean over a neighbourhood, whose own noise hardly counts in the square root.

    Args:
        noise: the law.
        y: measured pictures, image units.

    Raises:
        InputError: if the measurements are no pictures.
    """
    if y.ndim != 4:
        raise InputError(
            f"noise: that grows with the signal, of measurements of shape {tuple(y.shape)}; it is "
            "read off pictures (B, C, H, W): give the standard deviation of every value instead"
        )
    side = min(_NEIGHBOURHOOD, *(size - (size + 1) % 2 for size in y.shape[-2:]))
    signal = avg_pool2d(y, side, stride=1, padding=side // 2, count_include_pad=False)
    return (noise.gain * signal.clamp(min=0) + noise.read**2).sqrt()
