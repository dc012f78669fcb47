"""True pictures that a user names beside degraded ones, and how restorations compare with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from certes.apps.sources import Source
from certes.data.pictures import Picture, find_pictures, read_picture
from certes.errors import InputError
from certes.evaluation.metrics import psnr
from certes.evaluation.report import ImageReport
from certes.intervals.bounds import Bounds

Truths = Callable[[str], Picture | None]


def find_truths(path: Path | None, count: int) -> Truths:
    """How to find the truth of a picture by its name: in a file, in a folder, or nowhere.

    Raises: InputError for one file and several inputs; what is returned raises it for a truth that
        is not there or cannot be read.
    """
    if path is None:
        return lambda name: None
    if path.is_dir():
        by_name = {p.stem: p for p in find_pictures([path])}
        return lambda name: _truth_named(name, by_name, path)
    if count > 1:
        raise InputError(f"truth: {path} is one file for {count} inputs; give a folder of truths")
    return lambda name: read_picture(path)


def _truth_named(name: str, by_name: dict[str, Path], folder: Path) -> Picture:
    """The picture of that name, or of the name before `certes degrade` added to it."""
    path = by_name.get(name) or by_name.get(name.removesuffix(".degraded"))
    if path is None:
        raise InputError(f"truth: {folder} holds no picture named {name}; add it, or leave it out")
    return read_picture(path)


def fitting(truth: Picture, source: Source[Any]) -> Float[Tensor, "c h w"]:
    """The pixels of the truth, which the restoration of `source` can be compared with.

    Raises: InputError when it has another size.
    """
    pixels = source.origin.inner(truth.pixels)
    wanted = source.origin.restored_shape(source.y)
    if tuple(pixels.shape) != wanted:
        raise InputError(
            f"truth: {truth.name} has shape {tuple(truth.pixels.shape)}, the restoration of "
            f"{source.picture.name} will have {wanted} (channels, height, width)"
        )
    return pixels


def measured(
    name: str, bounds: Bounds, truth: Float[Tensor, "c h w"] | None, seconds: float, nfe: int
) -> ImageReport:
    """What a report says of a restoration: its width, and how it compares with the truth, if known.

    Args:
        name: of the picture.
        bounds: as its user gets them.
        truth: the true picture.
        seconds, nfe: what the restoration took.
    """
    width = float(bounds.width.double().mean())
    if truth is None:
        return ImageReport(name, width, seconds, nfe)
    return ImageReport(
        name,
        width,
        seconds,
        nfe,
        psnr=float(psnr(bounds.estimate, truth[None])),
        coverage=float(bounds.contains(truth[None]).double().mean()),
    )
