"""Colorization: a colour picture was measured in grey."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators.axes import DenseAxis
from certes.restoration.operators.base import DecomposedOperator, checked_shape


class Colorize(DecomposedOperator):
    r"""A weighted sum of the channels of every pixel.

    .. math:: y_{ij} = \sum_c w_c x_{cij}

    All singular values are :math:`\|w\|`; V turns the colour space of every pixel so that its
    first axis is :math:`\pm w / \|w\|`, and the remaining planes of coefficients are chroma.

    Args:
        shape: (C, H, W) of a colour picture.
        weights: (C,), of any sign, not all zero; by default 1 / C each, the mean. Luminance after
            ITU-R BT.601 is (0.299, 0.587, 0.114).

    Raises:
        InputError: weights that are not one per channel, not finite, or all zero.
    """

    name = "colorize"

    def __init__(
        self, shape: tuple[int, int, int], weights: Float[Tensor, " c"] | None = None
    ) -> None:
        shape = checked_shape(shape)
        channels, height, width = shape
        if weights is None:
            weights = torch.full((channels,), 1 / channels, dtype=torch.float64)
        self.weights = _checked_weights(weights, channels)
        self._colours = DenseAxis(self.weights[None])
        s = self._colours.singular_values
        super().__init__(shape, (1, height, width), s.expand(height * width))

    def _V(self, coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        pixels = coefficients.reshape(len(coefficients), self.in_shape[0], -1).mT
        return self._colours.v(pixels).mT.reshape(-1, *self.in_shape)

    def _Vt(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        return self._colours.vt(x.flatten(2).mT).mT.flatten(1)

    def _U(self, coefficients: Float[Tensor, "b m"]) -> Float[Tensor, "b 1 h w"]:
        return self._colours.u(coefficients[..., None]).reshape(-1, *self.out_shape)

    def _Ut(self, y: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b m"]:
        return self._colours.ut(y.flatten(1)[..., None])[..., 0]

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
        return self._colours.apply(x.flatten(2).mT).mT.reshape(-1, *self.out_shape)

    def _adjoint(self, y: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b c h w"]:
        return self._colours.adjoint(y.flatten(2).mT).mT.reshape(-1, *self.in_shape)

    def _parameters(self) -> dict[str, Any]:
        return {"weights": cast(Any, self.weights).tolist()}


def _checked_weights(weights: Float[Tensor, " c"], channels: int) -> Float[Tensor, " c"]:
    if tuple(weights.shape) != (channels,):
        raise InputError(
            f"weights has shape {tuple(weights.shape)}; wanted one for each of the {channels} "
            f"channels, ({channels},)"
        )
    weights = weights.detach().to("cpu", torch.float64)
    if not bool(weights.isfinite().all()) or not bool(weights.any()):
        raise InputError("weights are all zero or not finite; wanted at least one that is not zero")
    return weights
