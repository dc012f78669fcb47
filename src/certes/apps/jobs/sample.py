"""Draw pictures from a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.apps.chain_options import ChainOptions
from certes.apps.console import progress
from certes.apps.generator import Generator, load_generator, sigma, write_drawn
from certes.apps.outputs import all_or_nothing
from certes.data.mosaic import mosaic
from certes.evaluation.sheets import Sheet, picture_sheet
from certes.function_space.model import FunctionModel
from certes.function_space.sampling import sample_functions
from certes.generation.levels import VARIATION_STEPS, ddpm_levels
from certes.generation.progressive import Progression, progressive_estimates
from certes.generation.variations import latents, variations

_SIZE = 64
_FRAMES = 10  # as many as fit side by side on a page


def sample_model(
    options: ChainOptions, count: int, size: int | None, progressive: bool, out: Path
) -> dict[str, Any]:
    """Draw `count` samples and write them, with their estimates on the way if `progressive`.

    Returns what was done.

    Raises: CertesError for a model that cannot be had, or settings that make no sense.
    """
    generator = load_generator(options)
    shape = _shape(generator, size)
    with progress("sampling", 1) as advance:
        report = generator.report(advance, count)
        frames = _FRAMES if progressive else 1
        model, seed, chain = generator.model, generator.seed, generator.chain
        if isinstance(model, FunctionModel) and not progressive:
            # The same seed gives the same functions at every resolution.
            pictures = sample_functions(
                model, shape[1:], model.pitch, count, seed, chain=chain, callback=report
            )
            drawn = Progression([0.0], pictures[None])
        else:
            drawn = progressive_estimates(model, shape, count, seed, frames, chain, report)
    names = [f"sample-{i:03d}" for i in range(count)]
    result = {**generator.described(), "count": count, "size": shape[-1]}
    with all_or_nothing(out) as folder:
        named = zip(names, drawn.samples, strict=True)
        files = [write_drawn(folder / f"{name}.png", pixels) for name, pixels in named]
        columns = math.ceil(math.sqrt(count))
        files.append(write_drawn(folder / "samples.png", mosaic(drawn.samples, columns)))
        if progressive:
            files += _write_progression(folder, names, drawn, generator.model.name)
            result["levels"] = list(drawn.levels)
    return {**result, "files": files}


def _write_progression(
    folder: Path, names: Sequence[str], drawn: Progression, model: str
) -> list[str]:
    by_sample = drawn.estimates.movedim(1, 0)
    files = [
        write_drawn(folder / f"{name}.frame-{frame:02d}.png", pixels)
        for name, estimates in zip(names, by_sample, strict=True)
        for frame, pixels in enumerate(estimates)
    ]
    sheet = Sheet(
        by_sample,
        rows=[str(i) for i in range(len(by_sample))],
        columns=[sigma(level) for level in drawn.levels],
        title=f"Progressive generation ({model})",
        note="Each row is a sample: what the model takes it for (the estimate of x₀) at moments "
        "of the chain. σ is the standard deviation of the noise that is left (pictures have "
        "values in [0, 1]); the last column is the sample.",
    )
    picture_sheet(folder / "progressive.png", sheet)
    return [*files, "progressive.png"]


def vary_model(
    options: ChainOptions, count: int, size: int | None, levels: Sequence[float] | None, out: Path
) -> dict[str, Any]:
    """Freeze one chain at some noise levels, and draw `count` ends from each.

    Returns what was done.

    Raises: CertesError for a model that cannot be had, or settings that make no sense.
    """
    generator = load_generator(options)
    model, shape, chain = generator.model, _shape(generator, size), generator.chain
    wanted = sorted(levels or ddpm_levels(VARIATION_STEPS, model.scale), reverse=True)
    frozen = latents(model, shape, wanted, 1, generator.seed, chain)
    with progress("sampling", 1) as advance:
        report = generator.report(advance, count * len(wanted))
        drawn = torch.cat(
            [
                variations(model, x_t, level, count, generator.seed, chain, report).movedim(1, 0)
                for x_t, level in zip(frozen, wanted, strict=True)
            ]
        )
    result = {**generator.described(), "count": count, "size": shape[-1], "levels": wanted}
    with all_or_nothing(out) as folder:
        files = [
            write_drawn(folder / f"level-{row}.variation-{i:03d}.png", pixels)
            for row, of_level in enumerate(drawn)
            for i, pixels in enumerate(of_level)
        ]
        _show_variations(folder / "variations.png", generator, frozen[:, 0], drawn, wanted)
    return {**result, "files": [*files, "variations.png"]}


def _show_variations(
    path: Path,
    generator: Generator,
    frozen: Float[Tensor, "levels c h w"],
    drawn: Float[Tensor, "levels count c h w"],
    levels: Sequence[float],
) -> None:
    seen = [_visible(generator, x_t, level) for x_t, level in zip(frozen, levels, strict=True)]
    sheet = Sheet(
        torch.cat([torch.stack(seen)[:, None], drawn], dim=1),
        rows=[sigma(level) for level in levels],
        columns=["shared xₜ", *(str(i) for i in range(drawn.shape[1]))],
        title=f"Variations that share a latent ({generator.model.name})",
        note="In each row the chain was frozen at xₜ, whose noise has the standard deviation σ "
        "(pictures have values in [0, 1]), and the rest of it drawn anew. xₜ is "
        "shown with its contrast reduced to that of a picture.",
    )
    picture_sheet(path, sheet)


def _visible(
    generator: Generator, x_t: Float[Tensor, "c h w"], level: float
) -> Float[Tensor, "c h w"]:
    """Noise in the variance-preserving coordinates of the paper, where it looks like noise."""
    center, scale = generator.model.center, generator.model.scale
    return (center + (x_t - center) / math.hypot(1, level / scale)).clamp(0, 1)


def _shape(generator: Generator, size: int | None) -> tuple[int, int, int]:
    side = size or generator.model.side or _SIZE
    return generator.model.channels, side, side
