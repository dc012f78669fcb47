"""A grid of samples from the network in training, for a person to look at."""

from __future__ import annotations

from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from certes.data.mosaic import mosaic
from certes.data.pictures import Picture, write_picture
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.solvers.sampling import ReverseChain, draw_samples
from certes.networks.denoiser import NetworkDenoiser

COLUMNS = 4


def save_sample_grid(
    denoiser: NetworkDenoiser, size: int, out: Path, step: int, count: int = 16, calls: int = 20
) -> UInt8[Tensor, "height width c"]:
    """Write ``samples-STEP.png`` into ``out``: ``count`` samples in rows of four.

    The noise is the same at every step, so that the grids of a run can be compared.

    Args:
        denoiser: the network so far.
        size: side of a sample, pixels.
        out: the folder.
        step: names the file.
        count: samples.
        calls: network calls for each sample.

    Returns:
        The grid.
    """
    seeds = stream_seeds(0, [f"preview {i}" for i in range(count)])
    noise = NoiseSource(seeds, denoiser.device)
    shape = (denoiser.channels, size, size)
    chain = ReverseChain(steps=calls)
    *_, last = draw_samples(denoiser, shape, noise, chain, denoiser.center)
    grid = mosaic(last.x.cpu().clamp(0, 1), COLUMNS)
    write_picture(out / f"samples-{step}.png", grid, Picture("samples", grid, None, "uint8"))
    return (grid * 255).round().byte().movedim(0, -1)
