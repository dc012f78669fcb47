r"""The mollifier: a Gaussian blur of functions, exact in the cosine basis, at any resolution.

.. math:: T x = V\, diag(g)\, V^T x, \qquad
          g_{kl} = e^{-(\omega_k^2 + \omega_l^2)\, w^2 / 2}, \quad \omega_k = \pi k / (H p)

with the cosine basis :math:`V` (mirror boundaries), :math:`H` rows of pitch :math:`p`, and the
width :math:`w`. Lengths are physical: the unit is a pixel of the pictures that a model was trained
on, so that a picture of twice the resolution has :math:`p = 1/2` and is blurred over the same
length. White noise of a function has one variance for each unit of area: on a grid of pitch
:math:`p` it is :math:`\xi / p`, :math:`\xi \sim N(0, I)`.

Paper: Bond-Taylor & Willcocks 2024 (Infinity-Diff, arXiv:2303.18242), section 3.2. There the blur
is a truncated kernel or a transform under ``no_grad``; this one is differentiable and its own
adjoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.errors import InputError

Picture = Float[Tensor, "*batch c h w"]

_BASIS = CosineBasis()
_TABLES_KEPT = 32


def frequencies(size: int, pitch: float) -> Float[Tensor, " k"]:
    r"""Angular frequencies :math:`\pi k / (size \cdot pitch)` of the cosines of one axis, float64.

    Args:
        size: pixels along the axis.
        pitch: length of a pixel.
    """
    return torch.arange(size, dtype=torch.float64) * (math.pi / (size * pitch))


def squared_frequencies(shape: tuple[int, int], pitch: float) -> Float[Tensor, "h w"]:
    r""":math:`\omega_k^2 + \omega_l^2` of every coefficient of a picture, float64.

    Args:
        shape: rows and columns.
        pitch: length of a pixel.
    """
    rows, columns = (frequencies(size, pitch) for size in shape)
    return rows[:, None] ** 2 + columns[None, :] ** 2


@dataclass(frozen=True)
class Mollifier:
    """A blur of functions; called on pictures, it blurs them.

    Args:
        width: standard deviation of the Gaussian, physical; 0 is no blur at all, which makes of
            mollified diffusion the ordinary one.

    Raises:
        InputError: for a negative width.
    """

    width: float

    def __post_init__(self) -> None:
        if not 0 <= self.width < math.inf:
            raise InputError(f"width: {self.width}; a mollifier's width is 0 or more")

    def symbol(self, shape: tuple[int, int], pitch: float = 1.0) -> Float[Tensor, "h w"]:
        """:math:`g`: what every cosine coefficient is multiplied by, float64.

        Args:
            shape: rows and columns.
            pitch: length of a pixel.
        """
        return (-squared_frequencies(shape, pitch) * self.width**2 / 2).exp()

    def __call__(self, x: Picture, pitch: float = 1.0) -> Picture:
        """``T x`` of pictures whose pixels have this pitch."""
        if self.width == 0:
            return x
        shape = (x.shape[-2], x.shape[-1])
        return filtered(x, self.symbol(shape, pitch))

    def variance(self, shape: tuple[int, int], pitch: float = 1.0) -> Float[Tensor, "h w"]:
        r"""Variance of mollified white noise at every pixel, float64.

        .. math:: Var[T \xi / p](x) = p^{-2} \sum_{kl} V_{x,kl}^2\, g_{kl}^2

        It is :math:`1 / (4 \pi w^2)` far from borders, about 1.8 times that at an edge (mirrored
        noise is correlated with itself) and the square of that in a corner.
        """
        rows, columns = (_axis_variance(size, pitch, self.width) for size in shape)
        return rows[:, None] * columns[None, :]

    def typical_deviation(self) -> float:
        """Standard deviation of mollified white noise, of one unit of area, far from borders.

        On a grid of pitch 1, where there is a sum of finitely many cosines and not an integral.
        """
        return float(self.variance((_FAR, _FAR))[_FAR // 2, _FAR // 2].sqrt())


# Pixels of a grid whose middle knows nothing of its borders.
_FAR = 64


def filtered(x: Picture, gains: Float[Tensor, "*b h w"]) -> Picture:
    """A picture whose cosine coefficients are multiplied by gains (of the picture's two axes)."""
    return _BASIS.inverse(_BASIS.forward(x) * gains.to(x))


@lru_cache(maxsize=_TABLES_KEPT)
def squared_cosines(size: int) -> Float[Tensor, "x k"]:
    r""":math:`V_{xk}^2` of one axis, float64: what coefficients' variances add to a pixel's.

    Args:
        size: pixels along the axis.
    """
    k = torch.arange(size, dtype=torch.float64)
    squares = 2 / size * (math.pi / size * k[None, :] * (k[:, None] + 0.5)).cos() ** 2
    squares[:, 0] = 1 / size
    return squares


@lru_cache(maxsize=_TABLES_KEPT)
def _axis_variance(size: int, pitch: float, width: float) -> Float[Tensor, " k"]:
    """The sum over one axis; both axes' product is the variance."""
    symbol = (-(frequencies(size, pitch) ** 2) * width**2).exp()
    return squared_cosines(size) @ symbol / pitch
