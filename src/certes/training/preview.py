"""A grid of samples from the network in training, for a person to look at."""

from __future__ import annotations

from pathlib import Path

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from certes.data.files import atomic_path
from certes.diffusion.grids import log_sigma_grid
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.process import Process
from certes.diffusion.schedules import EDM
from certes.diffusion.solvers.dpm_solver import dpm_solver_2m
from certes.networks.denoiser import NetworkDenoiser

# Image units: where nothing of a picture is left to see, and half a grey level.
SIGMA_MAX = 5.0
SIGMA_MIN = 0.002
COLUMNS = 4


def save_sample_grid(
    denoiser: NetworkDenoiser, size: int, out: Path, step: int, count: int = 16, calls: int = 20
) -> UInt8[Tensor, "height width c"]:
    """Write ``samples-STEP.png`` into ``out``: ``count`` samples side by side in rows of four.

    The noise is the same at every step, so that the grids of a run can be compared.

    Args:
        denoiser: the network so far.
        size: side of a sample, pixels.
        out: the folder.
        step: names the file.
        count: samples, a multiple of four.
        calls: network calls for each sample.

    Returns:
        The grid.
    """
    noise = NoiseSource(stream_seeds(0, [f"preview {i}" for i in range(count)]))
    e = noise.normal((denoiser.channels, size, size)).to(denoiser.device)
    levels = log_sigma_grid(SIGMA_MAX, SIGMA_MIN, calls)
    start = 0.5 + SIGMA_MAX * e
    *_, last = dpm_solver_2m(Process(EDM()), denoiser, levels, start, noise)
    grid = side_by_side((last.x.cpu().clamp(0, 1) * 255).round().byte())
    with atomic_path(out / f"samples-{step}.png") as temporary:
        Image.fromarray(grid.squeeze(-1).numpy()).save(temporary)
    return grid


def side_by_side(pictures: UInt8[Tensor, "b c h w"]) -> UInt8[Tensor, "height width c"]:
    """Pictures in rows of :data:`COLUMNS`, channels last."""
    b, c, h, w = pictures.shape
    rows = pictures.reshape(b // COLUMNS, COLUMNS, c, h, w).permute(0, 3, 1, 4, 2)
    return rows.reshape(b // COLUMNS * h, COLUMNS * w, c)
