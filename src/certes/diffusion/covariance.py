r"""Covariances :math:`P = Cov[x_0 \mid x_t]` as linear maps, never as matrices.

The linear-Gaussian conditional mean of a picture given a measurement needs ``P v``, nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor


class Covariance(ABC):
    """A symmetric positive semi-definite map on pictures, one for each item of a batch."""

    @abstractmethod
    def apply(self, v: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """``P v``, image units squared times the units of ``v``."""

    @abstractmethod
    def diagonal(self) -> Float[Tensor, "b c h w"]:
        """The variance of every pixel (broadcastable to the pictures), image units squared."""
