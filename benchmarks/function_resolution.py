"""One model of functions, drawn at many resolutions.

    python benchmarks/function_resolution.py

The bundled model `nuclei-functions` saw 64 x 64 training pixels, a quarter of them at a time. It
draws the same 96 functions (coupled noise, 20 network calls) at 32, 64, 128 and 256 pixels a side.
Judged by the Frechet distance of features of the bundled U-Net model `nuclei` (no FID) to 1024
held-out crops, at matched size: pictures finer than 64 pixels are averaged over areas, real ones
are averaged for 32 (where functions are drawn finer and averaged, too). Beside it, in the same run:

- the U-Net model `nuclei` drawn at the same numbers of pixels and averaged: it takes more pixels
  for more of the world, not for finer pictures of it;
- how far functions drawn at one resolution are from the same functions at 64 pixels, below the
  coarser Nyquist frequency;
- the error of the network as an operator: the same field shown at r = 1, 2, 3, 4, band-limited to
  12 of 64 frequencies, at three noise levels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from _functions import REAL, averaged, distance, held_out, kept_pictures
from _report import Report
from torch import Tensor

import certes
from certes.data.mosaic import mosaic
from certes.data.pictures import Picture, write_picture
from certes.diffusion.bases import CosineBasis
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.solvers.sampling import ReverseChain, draw_samples
from certes.function_space.model import FunctionModel
from certes.function_space.sampling import sample_functions

SIZE, DRAWN = 64, 96
SIDES = (32, 64, 128, 256)
U_NET_SIDES = (64, 128)
FINER, FIELDS, BAND = (2, 3, 4), 8, 13
LEVELS = (0.05, 0.2, 1.0)
_BASIS = CosineBasis()


def main() -> None:
    torch.set_num_threads(1)
    model, other = certes.load("nuclei-functions"), certes.load("nuclei")
    assert isinstance(model, FunctionModel)
    assert isinstance(other, certes.Model)
    report = Report("function_resolution")
    drawn = {side: functions(model, side) for side in SIDES}
    _distances(report, drawn, other)
    _agreement(report, drawn)
    _operator(report, model)
    show(drawn)
    report.save()


def functions(model: FunctionModel, side: int) -> Tensor:
    """The same functions at every resolution."""
    return kept_pictures(
        f"drawn-{model.hash}-{side}",
        lambda: sample_functions(model, (side, side), SIZE / side, DRAWN),
    )


def u_net_pictures(model: certes.Model, side: int) -> Tensor:
    """What a model of pictures draws on as many pixels."""

    def draw() -> Tensor:
        parts: list[Tensor] = []
        for first in range(0, DRAWN, 32):
            seeds = stream_seeds(0, [f"u-net {first + i}" for i in range(32)])
            states = draw_samples(model, (1, side, side), NoiseSource(seeds), ReverseChain())
            *_, last = states
            parts.append(last.x.clamp(0, 1))
        return torch.cat(parts)

    return kept_pictures(f"drawn-{model.hash}-{side}", draw)


def _distances(report: Report, drawn: dict[int, Tensor], other: certes.Model) -> None:
    others = held_out(REAL + DRAWN, SIZE)
    real = others[:REAL]
    floor = distance(others[REAL:], real)
    report.claim("Frechet distance of other held-out crops, 64", str(floor), "told", True)
    at: dict[int, float] = {}
    for side in SIDES:
        size = min(side, SIZE)
        found = distance(averaged(drawn[side], size), averaged(real, size))
        at[side] = found.frechet
        text = f"Frechet distance of functions drawn at {side}, matched size {size}"
        report.claim(text, str(found), "told", True)
    for side in (32, 128, 256):
        ratio = at[side] / at[SIZE]
        report.claim(
            f"Frechet distance at {side} over that at 64", round(ratio, 3), "< 1.25", ratio < 1.25
        )
    for side in U_NET_SIDES:
        found = distance(averaged(u_net_pictures(other, side), SIZE), real)
        text = f"Frechet distance of the U-Net's own pictures of {side} pixels, averaged to 64"
        report.claim(text, str(found), "told: its features judge itself", True)


def _agreement(report: Report, drawn: dict[int, Tensor]) -> None:
    """Relative to what varies from function to function."""
    reference = _BASIS.forward(drawn[SIZE])
    for side in SIDES:
        if side <= SIZE:
            continue
        finer = _BASIS.forward(drawn[side])[..., :SIZE, :SIZE] * (SIZE / side)
        error = float((finer - reference).norm() / (reference - reference.mean(dim=0)).norm())
        report.claim(
            f"functions drawn at {side}, from the same at 64, below its Nyquist frequency",
            round(error, 4),
            "<= 0.05",
            error <= 0.05,
        )


def _operator(report: Report, model: FunctionModel) -> None:
    """The same field at several resolutions, through the network."""
    worst = 0.0
    for level in LEVELS:
        clean = _BASIS.forward(held_out(FIELDS, SIZE))[..., :BAND, :BAND]
        white = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        known = estimate(model, clean + level * white, 1, level)
        errors: list[float] = []
        for finer in FINER:
            other = estimate(model, clean + level * white, finer, level)
            errors.append(float((other - known).norm() / known.norm()))
        worst = max(worst, *errors)
        report.claim(
            f"operator error at noise {level:g}, r = {FINER}, band-limited to 12 of 64",
            ", ".join(f"{error:.4f}" for error in errors),
            "each < 0.01",
            max(errors) < 0.01,
        )


def estimate(model: FunctionModel, coefficients: Tensor, finer: int, level: float) -> Tensor:
    """The network's answer to a function, on a lattice so many times as fine: its coefficients."""
    side = SIZE * finer
    field = coefficients.new_zeros(len(coefficients), 1, side, side)
    field[..., :BAND, :BAND] = coefficients * finer
    fine, x = model.at(1 / finer), _BASIS.inverse(field)
    blurred = fine.denoiser.reading.mollifier(x, 1 / finer)
    answer = fine.blurred(blurred, x.new_full((len(x),), level * finer))
    return _BASIS.forward(answer)[..., :SIZE, :SIZE] / finer


def show(drawn: dict[int, Tensor]) -> None:
    """The same six functions at every resolution, busiest first, for a person to look at."""
    busy = drawn[SIZE].flatten(1).var(1).argsort(descending=True)[:24:4]
    rows = [
        torch.nn.functional.interpolate(drawn[side][busy], size=256, mode="nearest")
        for side in SIDES
    ]
    grid = mosaic(torch.cat(rows), columns=6)
    path = Path(__file__).parents[1] / "docs" / "img" / "functions-resolutions.png"
    write_picture(path, grid, Picture("functions", grid, None, "uint8"))


if __name__ == "__main__":
    main()
