"""Denoising: the picture itself was measured, with noise."""

from __future__ import annotations

import torch

from certes.restoration.operators.base import checked_shape
from certes.restoration.operators.pixelwise import Pixelwise


class Denoise(Pixelwise):
    """H = I.

    Args:
        shape: (C, H, W) of a picture.
    """

    name = "denoise"

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(torch.ones(checked_shape(shape), dtype=torch.float64))
