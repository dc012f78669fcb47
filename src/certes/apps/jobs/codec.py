"""Compress and decompress pictures."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from certes import __version__
from certes.apps.console import progress
from certes.apps.outputs import all_or_nothing
from certes.data.files import atomic_path
from certes.data.pictures import Picture, read_picture, write_picture, write_tiff_stack
from certes.data.raster import FULL_SCALE
from certes.errors import InputError
from certes.evaluation.metrics import psnr
from certes.evaluation.panels import restoration_panel
from certes.generation.codec import Decoded, Encoded, Reconstruction, decode, encode
from certes.intervals.bounds import Bounds
from certes.intervals.quantiles import order_statistic
from certes.networks.model import load


@dataclass(frozen=True)
class Drawing:
    """How pictures are drawn from what was received; fields as the command's options."""

    reconstruction: Reconstruction
    samples: int
    steps: int
    alpha: float
    seed: int


def compress_picture(
    path: Path,
    out: Path,
    source: str,
    lossless: bool,
    bits_per_pixel: float | None,
    quality: float | None,
    device: str | None,
) -> dict[str, Any]:
    """Compress a picture into `out`; returns what was spent.

    Raises: CertesError for a picture, a limit or a model that will not do.
    """
    if lossless and (bits_per_pixel, quality) != (None, None):
        raise InputError(
            "lossless: given with --bits-per-pixel or --quality; give one of the three"
        )
    picture = read_picture(path)
    if picture.alpha is not None:
        raise InputError(f"{path}: has alpha, which is not sent: save the picture without it")
    model, start = load(source, device), time.perf_counter()
    with progress("compressing", 1) as advance:
        sent = encode(
            picture.pixels,
            model,
            bits_per_pixel=bits_per_pixel,
            quality=quality,
            dtype=picture.dtype,
            callback=lambda _, steps: advance(1 / steps),
        )
    with atomic_path(out) as temporary:
        temporary.write_bytes(sent.data)
    return {
        "version": __version__,
        "model": model.name,
        "model_hash": model.hash,
        "picture": path.name,
        "seconds": time.perf_counter() - start,
        **_spent(sent, picture),
    }


def _spent(sent: Encoded, picture: Picture) -> dict[str, Any]:
    pixels = picture.pixels[0].numel()
    return {
        "bytes": len(sent.data),
        "bits_per_pixel": 8 * len(sent.data) / pixels,
        "ideal_bits_per_pixel": sent.ideal_bits / pixels,
        "exact": sent.exact,
        "psnr": None if sent.exact else _psnr_of_file(sent, picture),
        "steps": sent.steps,
        "level": _finite(sent.level),
    }


def _psnr_of_file(sent: Encoded, picture: Picture) -> float | None:
    """Of the estimate in the sample type of the file; None where that makes it equal."""
    scale = FULL_SCALE[picture.dtype]
    written = sent.estimate if scale == 1 else (sent.estimate * scale).round() / scale
    return _finite(float(psnr(written[None], picture.pixels[None])))


def decompress_picture(
    path: Path,
    out: Path,
    source: str,
    drawing: Drawing,
    device: str | None,
) -> dict[str, Any]:
    """Write the picture that a stream tells of, and its intervals if wanted; returns what it is.

    Raises: CertesError for a file that is damaged or from another model.
    """
    if drawing.samples:
        order_statistic(drawing.samples, drawing.alpha)  # refuses such an alpha before any work
    data, model = path.read_bytes(), load(source, device)
    with progress("decompressing", 1) as advance:
        got = decode(data, model, callback=lambda _, steps: advance(1 / steps))
    pixels = got.knowledge.reconstruct(
        drawing.reconstruction, steps=drawing.steps, seed=drawing.seed
    )
    bounds = _bounds(got, drawing) if drawing.samples else None
    with all_or_nothing(out.parent) as folder:
        write_picture(folder / out.name, pixels, Picture(out.stem, pixels, None, got.dtype))
        if bounds is not None:
            _write_intervals(folder, out.stem, got, bounds, nominal=1 - drawing.alpha)
    return {
        "version": __version__,
        "model": model.name,
        "model_hash": model.hash,
        "complete": got.complete,
        "exact": got.exact,
        "steps": got.steps,
        "steps_sent": got.sent,
        "level": _finite(got.level),
        "reconstruction": drawing.reconstruction,
        "mean_width": None if bounds is None else float(bounds.width.double().mean()),
    }


def _bounds(got: Decoded, drawing: Drawing) -> Bounds:
    with progress("drawing", drawing.samples) as advance:
        posterior = got.knowledge.posterior(
            drawing.samples,
            steps=drawing.steps,
            seed=drawing.seed,
            alpha=drawing.alpha,
            callback=lambda _: advance(1),
        )
    return posterior.bounds(drawing.alpha)


def _write_intervals(folder: Path, name: str, got: Decoded, bounds: Bounds, nominal: float) -> None:
    pages = {"lower": bounds.lower, "estimate": bounds.estimate, "upper": bounds.upper}
    stack = {title: page[0] for title, page in pages.items()}
    write_tiff_stack(folder / f"{name}.intervals.tif", stack)
    restoration_panel(
        folder / f"{name}.panel.png",
        _received(got),
        bounds,
        title=f"{name}: what {got.steps} of {got.sent} steps tell",
        nominal=nominal,
    )


def _received(got: Decoded) -> Float[Tensor, "c h w"]:
    """The picture as it came: under noise, but for the pixels that are known."""
    knowledge = got.knowledge
    return knowledge.estimate.where(knowledge.known, knowledge.x).flatten(0, 1).clamp(0, 1)


def _finite(value: float) -> float | None:
    """For JSON, which knows no infinity."""
    return value if math.isfinite(value) else None
