"""Pixels of few grey levels."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators.base import checked_shape
from certes.restoration.operators.rounded import LinearValues, RoundedOperator, rounded_down


class Quantise(RoundedOperator):
    """Every pixel rounded to the nearest of evenly spaced values from 0 to 1.

    Args:
        shape: (C, H, W) of a picture.
        levels: how many values there are: 4 for 2 bits, 256 for 8.

    Raises:
        InputError: fewer than 2 levels, or not a whole number of them.
    """

    name = "quantise"

    def __init__(self, shape: tuple[int, int, int], levels: int) -> None:
        shape = checked_shape(shape)
        if int(levels) != levels or levels < 2:
            raise InputError(f"levels is {levels}; wanted a whole number, 2 or more")
        self.levels = int(levels)
        channels, n = shape[0], math.prod(shape)
        steps = torch.full((n,), 1 / (self.levels - 1), dtype=torch.float64)
        kinds = torch.arange(channels).repeat_interleave(n // channels)
        super().__init__(Pixels(shape), steps, torch.zeros_like(steps), kinds)

    def encode(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        """The number of each pixel's level, from 0."""
        top = self.levels - 1
        return rounded_down(x.flatten(1) * top, 0.5).clamp(0, top)

    def decode(self, codes: Float[Tensor, "b m"]) -> Float[Tensor, "b c h w"]:
        """The levels themselves."""
        return (codes / (self.levels - 1)).reshape(-1, *self.in_shape)

    def codes_of(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        """The number of each pixel's level: a decoded picture shows them all."""
        return self.encode(y)

    def _parameters(self) -> dict[str, Any]:
        return {"levels": self.levels}


class Pixels(LinearValues):
    """The pixels of a picture in one row.

    Args:
        shape: (C, H, W) of a picture.
    """

    name = "pixels"

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape, (math.prod(shape),))

    def independent(self, variance: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        """The variances themselves."""
        return variance.flatten(1)

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        return x.flatten(1)

    def _adjoint(self, y: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        return y.reshape(-1, *self.in_shape)
