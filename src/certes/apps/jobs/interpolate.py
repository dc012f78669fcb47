"""Interpolate between two of the user's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.apps.chain_options import ChainOptions, MixingName
from certes.apps.console import progress
from certes.apps.generator import Generator, load_generator, sigma
from certes.apps.outputs import all_or_nothing
from certes.data.pictures import Picture, read_picture, write_picture
from certes.errors import InputError, ModelError
from certes.evaluation.sheets import Sheet, picture_sheet
from certes.generation.interpolation import interpolate
from certes.generation.levels import INTERPOLATION_STEPS, ddpm_levels

Grid = Float[Tensor, "levels lambdas c h w"]


@dataclass(frozen=True)
class Interpolation:
    """What to do with two pictures; fields as the arguments of `interpolate`."""

    generator: Generator
    levels: Sequence[float]
    lambdas: Sequence[float]
    mixing: MixingName

    def run(self, first: Picture, second: Picture, out: Path) -> dict[str, Any]:
        """Write every picture of the grid and a sheet of all; returns what was done."""
        grid = self._grid(first.pixels[None], second.pixels[None])
        like = replace(first, alpha=None)
        with all_or_nothing(out) as folder:
            files: list[str] = []
            for row, of_level in enumerate(grid):
                for column, pixels in enumerate(of_level):
                    path = folder / f"level-{row}.lambda-{column:02d}{first.suffix}"
                    write_picture(path, pixels, like)
                    files.append(path.name)
            self._show(folder / "interpolation.png", grid, first, second)
        return {
            **self.generator.described(),
            "first": first.name,
            "second": second.name,
            "mixing": str(self.mixing),
            "levels": list(self.levels),
            "lambdas": list(self.lambdas),
            "files": [*files, "interpolation.png"],
        }

    def _grid(self, first: Tensor, second: Tensor) -> Grid:
        generator = self.generator
        noisy = sum(level > 0 for level in self.levels)
        with progress("interpolating", 1) as advance:
            report = generator.report(advance, max(1, noisy * len(self.lambdas)))
            rows = [
                interpolate(
                    generator.model,
                    first,
                    second,
                    self.lambdas,
                    level,
                    self.mixing.value,
                    generator.seed,
                    generator.chain,
                    report,
                )
                for level in self.levels
            ]
        return torch.stack(rows)[:, :, 0]

    def _show(self, path: Path, grid: Grid, first: Picture, second: Picture) -> None:
        left, right = (p.pixels.expand(len(grid), 1, *p.pixels.shape) for p in (first, second))
        sheet = Sheet(
            torch.cat([left, grid, right], dim=1),
            rows=[sigma(level) for level in self.levels],
            columns=["first", *(f"λ = {share:.2g}" for share in self.lambdas), "second"],
            title=f"Interpolation from {first.name} to {second.name} ({self.generator.model.name})",
            note="Noise of standard deviation σ (pictures have values in [0, 1]) was added "
            f"to both, they were mixed in the share λ ({self.mixing}), and the model removed the "
            "noise. λ = 0 and 1 are reconstructions of the two. The more noise, the more the model "
            "makes up; at σ = 0 it is the plain blend. All noise is the same in every column.",
        )
        picture_sheet(path, sheet)


def plan_interpolation(
    options: ChainOptions, levels: Sequence[float] | None, count: int, mixing: MixingName
) -> Interpolation:
    """Load the model and settle what will be drawn.

    Raises: CertesError for a model that cannot be had, or settings that make no sense.
    """
    generator = load_generator(options)
    wanted = levels or ddpm_levels(INTERPOLATION_STEPS, generator.model.scale)
    lambdas = [i / (count - 1) for i in range(count)]
    return Interpolation(generator, sorted(wanted, reverse=True), lambdas, mixing)


def read_pair(first: Path, second: Path, channels: int) -> tuple[Picture, Picture]:
    """Read two pictures of the same size.

    Raises: InputError, ModelError when they cannot be mixed or the model cannot see them.
    """
    a, b = read_picture(first), read_picture(second)
    for path, picture in ((first, a), (second, b)):
        if len(picture.pixels) != channels:
            raise ModelError(
                f"{path}: {len(picture.pixels)} colour channel(s), the model has {channels}; "
                "convert the picture or choose another model"
            )
    if a.pixels.shape != b.pixels.shape:
        sizes = [f"{p.pixels.shape[2]} x {p.pixels.shape[1]}" for p in (a, b)]
        raise InputError(
            f"{second}: {sizes[1]} pixels, but {first} has {sizes[0]}: cut or scale one of them"
        )
    return a, b
