r"""The denoiser: everything a diffusion model knows about a clean picture given a noisy one.

A denoiser answers one question, in image units and in the canonical (variance-exploding) form

.. math:: x = x_0 + \sigma e, \qquad e \sim N(0, I),

namely :math:`E[x_0 \mid x]`, and, where it can, :math:`Cov[x_0 \mid x]`. A process with
:math:`\alpha(t) \ne 1` divides by :math:`\alpha` first, so that no denoiser knows a schedule and no
solver knows a network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from certes.diffusion.covariance import Covariance


@dataclass(frozen=True)
class Denoised:
    """What a denoiser says of the clean picture.

    Args:
        mean: :math:`E[x_0 | x]`, image units.
        variance: :math:`Var[x_0 | x]` for every pixel, image units squared, or ``None``.
    """

    mean: Float[Tensor, "b c h w"]
    variance: Float[Tensor, "b c h w"] | None = None


class Denoiser(ABC):
    """A callable ``(x, sigma) -> Denoised`` that also knows the covariance of its own error."""

    inflation: float = 1.0
    """How much wider than its samples spread its errors are; 1 for an exact denoiser.

    A trained network's samples differ from each other by less than from the truth, because they
    share its mistakes. Samples are spread about their mean by this factor (multiplicative
    inflation, Anderson and Anderson 1999), measured on training pictures.
    """

    confined: bool = False
    """Whether its pictures lie in [0, 1], as those of files do and those of a Gaussian do not."""

    @property
    def device(self) -> torch.device | None:
        """Where it computes; ``None``: where its pictures are, as exact denoisers do."""
        return None

    @abstractmethod
    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        """Estimate the clean pictures.

        Args:
            x: noisy pictures ``x_0 + sigma e``, image units.
            sigma: noise standard deviation of each picture, image units.
        """

    @abstractmethod
    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        """``Cov[x_0 | x]`` for the answer ``denoised`` at the noise levels ``sigma``."""


@dataclass(frozen=True)
class JointlyDenoised:
    """What is known of a clean picture and of what was measured of it.

    Args:
        x: of the picture.
        y: :math:`E[y | x_t, y_t]`, image units, or ``None`` where nobody estimates it.
    """

    x: Denoised
    y: Float[Tensor, " b *out"] | None = None


class ConditionalDenoiser(ABC):
    r"""Everything a conditional model knows: a denoiser of pairs with a noise level for each block.

    With :math:`x_t = x_0 + \sigma^x e` and :math:`y_t = y + \sigma^y h` it answers
    :math:`E[x_0 \mid x_t, y_t]` in image units (Batzolis et al. 2021, arXiv:2111.13606). A clean
    condition is :math:`\sigma^y = 0`.
    """

    confined: bool = False
    """As for :class:`Denoiser`."""

    @abstractmethod
    def __call__(
        self,
        x: Float[Tensor, "b c h w"],
        sigma_x: Float[Tensor, " b"],
        y: Float[Tensor, " b *out"],
        sigma_y: Float[Tensor, " b"],
    ) -> JointlyDenoised:
        """Estimate the clean pictures.

        Args:
            x: noisy pictures, image units.
            sigma_x: noise standard deviation of each, image units.
            y: conditions, one for each picture, with noise too.
            sigma_y: noise standard deviation of each, image units.
        """
