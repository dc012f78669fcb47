"""The numbers that JPEG programs share: quantisation steps, colour and cosine transform.

Tables of ITU-T T.81 (1992), annex K.1, scaled as the Independent JPEG Group's library does, whose
"quality" all common programs mean; colour of JFIF (ITU-T T.871). Colour and cosines are in the
fixed point of libjpeg (its accurate integer transform: Loeffler, Ligtenberg, Moschytz 1989, with 13
binary places), so that whole numbers come out as the library's own.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

COSINE_ONE = 2.0**13
"""What the integers of ``cosines`` stand for as 1."""

_COLOUR_ONE = 2**16
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *[(99,) * 8] * 4,
)
# The left halves of the cosines: even ones are symmetric, odd ones antisymmetric.
_COSINES = (
    (8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260),
    (10703, 4433, -4433, -10703),
    (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633),
    (4433, -10704, 10704, -4433),
    (2260, -6436, 9633, -11363),
)


def luma_table(quality: int) -> Float[Tensor, "8 8"]:
    """Steps of the luminance's cosine coefficients, grey levels; rows are vertical frequencies.

    Args:
        quality: 1 to 100.
    """
    return _scaled(_LUMA, quality)


def chroma_table(quality: int) -> Float[Tensor, "8 8"]:
    """Steps of the two colour differences' cosine coefficients, as ``luma_table``."""
    return _scaled(_CHROMA, quality)


def luma_chroma() -> Float[Tensor, "3 3"]:
    """The matrix from (R, G, B) to (Y, Cb, Cr), the latter two about 0."""
    rows = [[19595, 38470, 7471], [-11058, -21710, 32768], [32768, -27439, -5329]]
    return torch.tensor(rows, dtype=torch.float64) / _COLOUR_ONE


def colours() -> Float[Tensor, "3 3"]:
    """The matrix from (Y, Cb, Cr), the latter two about 0, to (R, G, B)."""
    one = _COLOUR_ONE
    rows = [[one, 0, 91881], [one, -22554, -46802], [one, 116130, 0]]
    return torch.tensor(rows, dtype=torch.float64) / one


def cosines() -> Float[Tensor, "8 8"]:
    r"""Whole numbers near :math:`2^{13} \sqrt 8` times the orthonormal transform's matrix."""
    left = torch.tensor(_COSINES, dtype=torch.float64)
    signs = (-1.0) ** torch.arange(8, dtype=torch.float64)[:, None]
    return torch.cat([left, signs * left.flip(1)], dim=1)


def _scaled(table: tuple[tuple[int, ...], ...], quality: int) -> Float[Tensor, "8 8"]:
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = (torch.tensor(table) * percent + 50) // 100
    return steps.clamp(1, 255).double()
