r"""From a sample of :math:`T x_0` to a sample of :math:`x_0`: what the blur took is drawn.

A filter W gives a blurred sample's coefficient back times :math:`g_k W_k`, less than 1 where the
blur leaves little. What is missing is as uncertain as it was before anything was measured, so that
a draw of variance

.. math:: \lambda_k\, (1 - g_k^2 W_k^2)

restores the coefficient's prior variance :math:`\lambda_k`; without it samples differ too little
from each other, and intervals are too narrow. (:math:`\lambda_k (1 - g_k W_k)^2` is the squared
error of the filter, which is less: error and filtered sample are correlated.)
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.noise import NoiseSource
from certes.function_space.fields import Spectrum
from certes.function_space.mollifier import filtered, squared_frequencies
from certes.function_space.unmollify import WienerFilter

Picture = Float[Tensor, "b c h w"]

_BASIS = CosineBasis()


@dataclass(frozen=True)
class Unblurring:
    """Un-mollification of pictures of one size.

    Args:
        gain: W of each cosine coefficient, float64.
        deviation: of what is missing of it, image units.
        center: image value about which the filter works.
    """

    gain: Float[Tensor, "h w"]
    deviation: Float[Tensor, "h w"]
    center: float

    def estimate(self, blurred: Picture) -> Picture:
        """The filtered picture, image units."""
        return self.center + filtered(blurred - self.center, self.gain)

    def sample(self, blurred: Picture, noise: NoiseSource) -> Picture:
        """The filtered picture with a draw of what is missing, image units.

        Args:
            blurred: a sample of ``T x_0``, image units.
            noise: one stream for each picture.
        """
        white = noise.normal(blurred.shape[1:], blurred.dtype)
        return self.estimate(blurred) + _BASIS.inverse(white * self.deviation.to(white))


def unblurring(
    wiener: WienerFilter,
    spectrum: Spectrum,
    shape: tuple[int, int],
    pitch: float = 1.0,
    center: float = 0.5,
    scale: float = 0.5,
) -> Unblurring:
    r"""Prepare un-mollification for a size and a pitch.

    Args:
        wiener: the filter, whose gain has a limit: a sample's errors must not be what it shows.
        spectrum: :math:`\lambda` of squared frequencies, network units squared times area.
        shape: rows and columns.
        pitch: length of a pixel.
        center, scale: image value that the network sees as 0, and image units for one of its own.
    """
    gain = wiener.gain(shape, pitch)
    kept = wiener.mollifier.symbol(shape, pitch) * gain
    power = spectrum(squared_frequencies(shape, pitch)) * (scale / pitch) ** 2
    return Unblurring(gain, (power * (1 - kept**2).clamp(min=0)).sqrt(), center)
