"""Inpainting: some pixels were not measured."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from certes.restoration.operators.base import checked_shape
from certes.restoration.operators.constants import Constant
from certes.restoration.operators.masks import checked_mask
from certes.restoration.operators.pixelwise import Pixelwise


class Inpaint(Pixelwise):
    """Known pixels as they are, zeros elsewhere; a measurement is a picture with holes.

    What a measurement holds at unknown pixels is ignored, be it NaN. Singular values are 1 at known
    and 0 at unknown pixels (m = n), in the order of the pixels.

    Args:
        shape: (C, H, W) of a picture.
        mask: (H, W), (1, H, W) or (C, H, W); True or 1 where the pixel is known. One mask serves
            the whole batch.

    Raises:
        InputError: a mask of another size, with other values than 0 and 1, or with no known pixel.
    """

    name = "inpaint"

    def __init__(self, shape: tuple[int, int, int], mask: Shaped[Tensor, "*c h w"]) -> None:
        self.mask: Bool[Tensor, "c h w"] = checked_mask(mask, checked_shape(shape))
        super().__init__(self.mask.double())
        self._known = Constant(self.mask)

    def observed(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """``y`` with zeros at unknown pixels."""
        y = self._checked("y", y, self.out_shape)
        return torch.where(self._known.like(y) > 0, y, 0.0)

    def _Ut(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        # Holes may be marked by NaN, and NaN times a singular value of zero would not be zero.
        return self._Vt(torch.where((self._known.like(y) > 0) | y.isfinite(), y, 0.0))

    def _parameters(self) -> dict[str, Any]:
        return {"known": round(float(self.mask.double().mean()), 6)}
