"""Conditions, samples and truths side by side, for a person to look at during training."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from certes.conditional.estimators import Estimator
from certes.conditional.sampling import draw_given
from certes.data.mosaic import mosaic
from certes.data.pictures import Picture, write_picture
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.solvers.sampling import ReverseChain
from certes.networks.conditional import ConditionalNetworkDenoiser

CALLS = 20
_DRAWS = 2


def save_pairs_grid(
    denoiser: ConditionalNetworkDenoiser,
    estimator: Estimator,
    x: Float[Tensor, "b c h w"],
    y: Float[Tensor, "b cy h w"],
    out: Path,
    step: int,
) -> UInt8[Tensor, "height width c"]:
    """Write ``samples-STEP.png``: a row for each pair, of condition, two samples and truth.

    The noise is the same at every step, so that the grids of a run can be compared.

    Args:
        denoiser: the network so far.
        estimator: what it is trained as.
        x: true pictures.
        y: their conditions, as the network sees them.
        out: the folder.
        step: names the file.

    Returns:
        The grid.
    """
    rows = len(x)
    seeds = stream_seeds(0, [f"preview {i}" for i in range(rows * _DRAWS)])
    noise = NoiseSource(seeds, denoiser.device)
    chain = ReverseChain(steps=CALLS)
    *_, last = draw_given(denoiser, estimator, y.repeat(_DRAWS, 1, 1, 1), x.shape[1:], noise, chain)
    samples = last.x.reshape(_DRAWS, *x.shape)
    shown = y[:, : x.shape[1]] if y.shape[1] >= x.shape[1] else y[:, :1].expand_as(x)
    grid = mosaic(torch.stack([shown, *samples, x], dim=1).flatten(0, 1).cpu().clamp(0, 1), 4)
    write_picture(out / f"samples-{step}.png", grid, Picture("samples", grid, None, "uint8"))
    return (grid * 255).round().byte().movedim(0, -1)
