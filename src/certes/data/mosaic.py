"""Pictures of one size side by side, as one picture."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

GAP = 2


def mosaic(
    pictures: Float[Tensor, "n c h w"], columns: int, gap: int = GAP, fill: float = 0.0
) -> Float[Tensor, "c height width"]:
    """Lay pictures out row by row.

    Args:
        pictures: at least one.
        columns: pictures in a row; the last row may have fewer.
        gap: pixels between neighbours; there are none around the whole.
        fill: the value of gaps and of empty places.
    """
    n, c, h, w = pictures.shape
    rows = -(-n // columns)
    full = pad(pictures, (0, gap, 0, gap, 0, 0, 0, rows * columns - n), value=fill)
    tiles = full.reshape(rows, columns, c, h + gap, w + gap).permute(2, 0, 3, 1, 4)
    whole = tiles.reshape(c, rows * (h + gap), columns * (w + gap))
    return whole[:, : rows * (h + gap) - gap, : columns * (w + gap) - gap]
