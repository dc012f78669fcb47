"""Bits per dimension of held-out pictures: the same network with four variances, PNG and WebP.

    python benchmarks/likelihood.py [--data ../shared/data/nuclei/test/images] [--levels 40]

For every bundled model, on the centre crop of each held-out picture, none of which was trained on
or served to measure the network's errors. The variances share every network call and every draw, so
that their differences are known far better than either; the alternatives to ``calibrated`` are
DDPM's fixed variances and what the network predicts. PNG and WebP are the files that the crops make
(optimised, lossless, headers counted); the bound is what an ideal coder would need.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from _report import Report
from PIL import Image
from rich.progress import Progress

from certes.apps.jobs.likelihood import known_variances
from certes.data.bundled import bundled_pictures
from certes.data.pictures import Picture, find_pictures, read_picture
from certes.diffusion.likelihood import Bound, bound_times, variational_bound
from certes.diffusion.process import Process
from certes.networks.model import Model, bundled_models, load

SIDE = 64
HELD_OUT = {"nuclei": Path("../shared/data/nuclei/test/images")}
FILES = {
    "PNG": {"format": "PNG", "optimize": True},
    "WebP": {"format": "WEBP", "lossless": True, "quality": 100, "method": 6},
}


def held_out(name: str, folder: Path | None) -> list[Picture]:
    """The pictures of a folder, or the bundled ones where it is not there."""
    place = folder or HELD_OUT.get(name)
    if place is not None and place.is_dir():
        return [read_picture(path) for path in find_pictures([place])]
    return bundled_pictures(name)


def centres(pictures: list[Picture]) -> torch.Tensor:
    """Centre crops, (B, C, SIDE, SIDE)."""
    crops = []
    for picture in pictures:
        top, left = ((side - SIDE) // 2 for side in picture.pixels.shape[1:])
        crops.append(picture.pixels[:, top : top + SIDE, left : left + SIDE])
    return torch.stack(crops)


def bits_as_file(x0: torch.Tensor, options: dict[str, object]) -> float:
    """Mean bits per dimension of the files that the pictures make."""
    sizes = []
    for picture in x0:
        samples = (picture.movedim(0, -1) * 255).round().to(torch.uint8).numpy()
        buffer = io.BytesIO()
        Image.fromarray(samples.squeeze(-1) if samples.shape[-1] == 1 else samples).save(
            buffer, **options
        )
        sizes.append(8 * len(buffer.getvalue()) / samples.size)
    return float(np.mean(sizes))


def evaluate(model: Model, x0: torch.Tensor, levels: int) -> dict[str, Bound]:
    """The bound with every variance that the model knows."""
    network = model.denoiser
    with Progress(transient=True) as bars:
        bar = bars.add_task(model.name, total=1.0)
        return variational_bound(
            Process(network.schedule, center=network.center, scale=network.scale),
            model,
            x0.to(model.device),
            bound_times(network.schedule, network.scale),
            known_variances(model),
            levels=levels,
            advance=lambda share: bars.advance(bar, share),
        )


def paired(bound: Bound, best: Bound) -> tuple[float, float]:
    """How much more than the best, and the standard error of that over pictures."""
    more = np.subtract(bound.pictures, best.pictures)
    return float(more.mean()), float(more.std(ddof=1) / len(more) ** 0.5)


def compare(report: Report, model: Model, x0: torch.Tensor, levels: int) -> None:
    """Print what each variance and each file format needs, and claim what the first gains."""
    bounds = evaluate(model, x0, levels)
    for name, bound in bounds.items():
        print(
            f"{model.name}: {name}: {bound.total:.4f} ± {bound.standard_error:.4f} bits/dim "
            f"(rate {bound.rate:.4f}, last step {bound.distortion:.4f})"
        )
    best = bounds.pop("calibrated")
    on = f"{model.name}, {len(x0)} held-out {SIDE}x{SIDE} crops"
    for name, bound in bounds.items():
        more, error = paired(bound, best)
        report.claim(
            f"{on}: bits/dim that the {name} variance needs more than the calibrated one, of "
            f"{best.total:.3f} (± s.e. {error:.4f}, same network calls)",
            round(more, 4), "above 0 by two standard errors", more > 2 * error,
        )  # fmt: skip
    for name, options in FILES.items():
        size = bits_as_file(x0, options)
        report.claim(
            f"{on}: bits/dim of lossless {name} files less those of the calibrated bound "
            f"({size:.3f} - {best.total:.3f})",
            round(size - best.total, 3), "above 0", size > best.total,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="held-out pictures, for the only model given")
    parser.add_argument("--model", nargs="*", default=bundled_models())
    parser.add_argument("--levels", type=int, default=40)
    options = parser.parse_args()
    report = Report("likelihood")
    for name in options.model:
        pictures = centres(held_out(name, options.data))
        compare(report, load(name), pictures, options.levels)
    report.save()


if __name__ == "__main__":
    main()
