"""A grid of samples from the network in training, for a person to look at."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from certes.data.files import atomic_path
from certes.diffusion.grids import log_sigma_grid
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.process import Process
from certes.diffusion.schedules import EDM
from certes.diffusion.solvers.dpm_solver import dpm_solver_2m
from certes.networks.denoiser import NetworkDenoiser


def save_sample_grid(
    denoiser: NetworkDenoiser, size: int, out: Path, step: int, count: int = 16, calls: int = 20
) -> None:
    """Write ``samples-STEP.png`` into ``out``: ``count`` samples side by side in rows of four."""
    raise NotImplementedError
