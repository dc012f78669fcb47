"""Draw pictures from a model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from certes import __version__
from certes.apps.console import Advance, progress
from certes.apps.outputs import all_or_nothing
from certes.data.pictures import Picture, write_picture
from certes.diffusion.grids import log_sigma_grid
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.process import Process
from certes.diffusion.schedules import EDM
from certes.diffusion.solvers.dpm_solver import dpm_solver_2m
from certes.networks.model import Model, load
from certes.restoration.posterior_sampler import SIGMA_MAX, SIGMA_MIN

_BATCH = 16
_SIZE = 64
_GAP = 2  # pixels between the pictures of the grid


def sample_model(
    source: str, count: int, size: int | None, steps: int, seed: int, device: str | None, out: Path
) -> dict[str, Any]:
    """Draw `count` samples and write them; returns what was done.

    Raises: ModelError for a model that cannot be had.
    """
    model = load(source, device)
    side = size or model.denoiser.net.config.sample_size or _SIZE
    with progress("sampling", 1) as advance:
        drawn = torch.cat(list(_samples(model, count, side, steps, seed, advance)))
    with all_or_nothing(out) as folder:
        for i, pixels in enumerate(drawn):
            _write(folder / f"sample-{i:03d}.png", pixels)
        _write(folder / "samples.png", _side_by_side(drawn))
    return {
        "version": __version__,
        "model": model.name,
        "model_hash": model.hash,
        "count": count,
        "size": side,
        "steps": steps,
        "seed": seed,
        "files": [f"sample-{i:03d}.png" for i in range(count)] + ["samples.png"],
    }


def _samples(
    model: Model, count: int, side: int, steps: int, seed: int, advance: Advance
) -> Iterator[Float[Tensor, "b c h w"]]:
    process = Process(EDM(), center=model.denoiser.center)
    levels = log_sigma_grid(SIGMA_MAX, SIGMA_MIN, steps)
    seeds = stream_seeds(seed, [f"sample/{i}" for i in range(count)])
    for start in range(0, count, _BATCH):
        noise = NoiseSource(seeds[start : start + _BATCH], model.device)
        x = process.prior((model.channels, side, side), noise, levels[0])
        for state in dpm_solver_2m(process, model, levels, x, noise):
            advance(len(x) / (count * steps))
            x = state.x
        yield process.decode(x).clamp(0, 1).cpu()


def _side_by_side(pictures: Float[Tensor, "n c h w"]) -> Float[Tensor, "c h2 w2"]:
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    framed = pad(pictures, (0, _GAP, 0, _GAP))
    full = torch.cat([framed, framed.new_zeros(rows * columns - len(framed), *framed.shape[1:])])
    lines = [torch.cat(list(line), dim=-1) for line in torch.split(full, columns)]
    return torch.cat(lines, dim=-2)[..., :-_GAP, :-_GAP]


def _write(path: Path, pixels: Float[Tensor, "c h w"]) -> None:
    write_picture(path, pixels, Picture(path.stem, pixels, None, "uint8"))
