"""Which frequencies of a picture are measured: masks in the order of the transform."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from certes.errors import InputError


def frequency_mask(
    distance: Float[Tensor, "h w"], ratio: float, centre: float, seed: int
) -> Bool[Tensor, "h w"]:
    """The lowest frequencies, and others at random: variable density in two steps.

    Args:
        distance: of each frequency from zero, in any unit.
        ratio: share of the frequencies that are measured, in (0, 1].
        centre: share of all frequencies, the lowest ones, that are always among them; at most
            ``ratio``.
        seed: the same seed gives the same mask.

    Raises:
        InputError: shares that are none, or measure nothing.
    """
    size, generator = distance.numel(), torch.Generator().manual_seed(seed)
    measured, always = _measured(ratio, size), _checked_centre(centre, ratio, size)
    # Ranks: negative for the centre, random above.
    rank = torch.randperm(size, generator=generator)
    rank[distance.flatten().argsort(stable=True)[:always]] = -1
    known = torch.zeros(size, dtype=torch.bool)
    known[rank.argsort(stable=True)[:measured]] = True
    return known.reshape(distance.shape)


def cartesian_mask(
    height: int, width: int, ratio: float, centre: float, seed: int
) -> Bool[Tensor, "h w"]:
    """Whole columns of frequencies, as a scanner reads them line by line.

    Args:
        height: H.
        width: W.
        ratio: share of the columns that are measured, in (0, 1]; 1 / acceleration.
        centre: share of all columns, those around frequency zero, that are always among them.
        seed: the same seed gives the same mask.

    Returns:
        In the order of :func:`torch.fft.fft2`, frequency zero in the corner.

    Raises:
        InputError: shares that are none, or measure nothing.
    """
    columns = frequency_mask(fourier_distance(1, width), ratio, centre, seed)
    return columns.expand(height, width).clone()


def fourier_distance(height: int, width: int) -> Float[Tensor, "h w"]:
    """Cycles per pixel of every frequency of :func:`torch.fft.fft2`."""
    rows, columns = (_signed(size) / size for size in (height, width))
    return torch.hypot(rows[:, None], columns)


def cosine_distance(height: int, width: int) -> Float[Tensor, "h w"]:
    """Half cycles per pixel of every frequency of the discrete cosine transform."""
    rows, columns = (torch.arange(size, dtype=torch.float64) / size for size in (height, width))
    return torch.hypot(rows[:, None], columns)


def _measured(ratio: float, size: int) -> int:
    """How many of ``size`` values make up the share ``ratio``, or an ``InputError``."""
    if not 0 < ratio <= 1 or round(ratio * size) == 0:
        hint = f" ({1 / ratio:.3g} for one in {ratio:g})" if ratio > 1 else ""
        raise InputError(
            f"ratio: {ratio} of {size} coefficients; give the share that is measured, in (0, 1]"
            f"{hint}, at least one coefficient"
        )
    return round(ratio * size)


def _checked_centre(centre: float, ratio: float, size: int) -> int:
    if not 0 <= centre <= ratio:
        raise InputError(
            f"centre: {centre}; give the share of all frequencies, the lowest ones, that is always "
            f"measured: from 0 to the ratio, {ratio}"
        )
    return round(centre * size)


def _signed(size: int) -> Float[Tensor, " size"]:
    """Frequencies 0, 1, ..., -2, -1."""
    k = torch.arange(size, dtype=torch.float64)
    return torch.where(k <= size // 2, k, k - size)
