"""Pictures and small figures for the page, as PNG files, data URLs, HTML and SVG."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image, ImageDraw
from torch import Tensor

from certes.apps.web.answers import Answer, Region
from certes.evaluation.panels import ACCENT, MISSING, MUTED, TRUTH, WIDTH_COLOURS
from certes.evaluation.sheets import white_of

_SHOWN = 640
_BINS = 16
_MARK = (86, 180, 233)

Pixels = UInt8[ndarray, "h w 3"]


def enlargement(height: int, width: int) -> int:
    """How many screen pixels a side one pixel gets, so that small pictures can be clicked on."""
    return max(1, _SHOWN // max(height, width))


def as_pixels(
    picture: Float[Tensor, "c h w"], white: float, size: tuple[int, int] | None = None
) -> Pixels:
    """A picture for a screen, enlarged without smoothing.

    Args:
        picture: 1 or 3 channels, image units; NaN is drawn blue.
        white: the value drawn as white.
        size: (height, width) that the picture is brought to first.
    """
    if size is not None and tuple(picture.shape[1:]) != size:
        picture = torch.nn.functional.interpolate(picture[None], size=size, mode="nearest")[0]
    rgb = (picture[:3] if len(picture) >= 3 else picture[:1].expand(3, -1, -1)) / white
    missing = torch.tensor([int(MISSING[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    shown = torch.where(rgb.isnan(), missing[:, None, None], rgb.clamp(0, 1))
    return _enlarged((255 * shown).round().byte().movedim(0, -1).numpy())


def display_white(picture: Float[Tensor, "c h w"]) -> float:
    """The value to draw as white: dark pictures are brightened, as panels do."""
    return white_of(picture.nan_to_num())


def widest(width: Float[Tensor, "h w"]) -> float:
    """The upper end of the colour bar."""
    return float(np.quantile(width.numpy(), 0.998)) or 1e-3


def width_map(width: Float[Tensor, "h w"], marked: Region | None = None) -> Pixels:
    """The width of the interval at every pixel, in colours; a pixel or a region is outlined."""
    levels = np.clip(width.numpy() / widest(width), 0, 1)
    shown = _enlarged((255 * _colours()(levels)[..., :3]).round().astype(np.uint8))
    if marked is None:
        return shown
    k = enlargement(*width.shape)
    image = Image.fromarray(shown)
    box = (k * marked.left - 2, k * marked.top - 2, k * (marked.right + 1) + 1,
           k * (marked.bottom + 1) + 1)  # fmt: skip
    ImageDraw.Draw(image).rectangle(box, outline=_MARK, width=2)
    return np.asarray(image)


def save_png(pixels: Pixels, path: Path) -> Path:
    """Write a PNG."""
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def picture_html(pixels: Pixels, words: str) -> str:
    """A picture with its words, all in one piece of HTML: no file is needed for it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    said = html.escape(words)
    return (
        f'<figure class="certes-figure"><img alt="{said}" src="data:image/png;base64,{data}">'
        f"<figcaption>{said}</figcaption></figure>"
    )


def colour_bar(width: Float[Tensor, "h w"]) -> str:
    """The legend of `width_map`: colours, their numbers, and what they mean."""
    top = widest(width)
    stops = ", ".join(
        "#" + "".join(f"{round(255 * v):02x}" for v in _colours()(i / 8)[:3]) for i in range(9)
    )
    ticks = "".join(f"<span>{top * i / 4:.3g}</span>" for i in range(4))
    return (
        '<div class="certes-bar" role="img" aria-label="colour bar of the interval width">'
        f'<div class="certes-bar-colours" style="background:linear-gradient(90deg,{stops})"></div>'
        f'<div class="certes-bar-ticks">{ticks}<span>{top:.3g} and above</span></div></div>'
        '<p class="certes-muted">Interval width, upper minus lower bound, in image units (the full '
        f"range of the file is 1); on average {float(width.mean()):.3g}. Dark is sure, bright is "
        "not.</p>"
    )


def histogram(answer: Answer) -> str:
    """The samples of a number, its interval as a band, its estimate and, if known, the truth."""
    if not answer.samples:
        return '<p class="certes-muted">This model draws no samples.</p>'
    truth = [] if answer.truth is None else [answer.truth]
    values = [answer.lower, answer.upper, *answer.samples, *truth]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 1e-3
    low, high = low - margin, high + margin
    counts, _ = np.histogram(answer.samples, bins=_BINS, range=(low, high))
    return _svg(answer, [int(c) for c in counts], low, high)


def _svg(answer: Answer, counts: list[int], low: float, high: float) -> str:
    wide, tall = 320.0, 110.0
    step, unit = wide / len(counts), tall / max(1, *counts)

    def at(value: float) -> float:
        return wide * (value - low) / (high - low)

    left, right = at(answer.lower), at(answer.upper)
    parts = [
        f'<rect x="{left:.1f}" y="0" width="{max(1.0, right - left):.1f}" height="{tall}" '
        f'fill="{ACCENT}" opacity="0.14"/>'
    ]
    parts += [
        f'<rect class="bin" x="{i * step + 1:.1f}" y="{tall - n * unit:.1f}" '
        f'width="{step - 2:.1f}" height="{n * unit:.1f}" fill="{ACCENT}"/>'
        for i, n in enumerate(counts)
        if n
    ]
    parts.append(_line(at(answer.estimate), tall, "currentColor", ""))
    if answer.truth is not None:
        parts.append(_line(at(answer.truth), tall, TRUTH, 'stroke-dasharray="4 3"'))
    parts.append(f'<line x1="0" x2="{wide}" y1="{tall}" y2="{tall}" stroke="{MUTED}"/>')
    for x, anchor, value in ((0.0, "start", low), (wide, "end", high)):
        parts.append(
            f'<text x="{x}" y="{tall + 14}" text-anchor="{anchor}" font-size="11" '
            f'fill="currentColor">{value:.3f}</text>'
        )
    known = "" if answer.truth is None else f'; <b style="color:{TRUTH}">dashed</b>: the truth'
    return (
        f'<svg class="certes-histogram" viewBox="0 0 {wide:.0f} {tall + 18:.0f}" role="img" '
        f'aria-label="histogram of {len(answer.samples)} samples">{"".join(parts)}</svg>'
        f'<p class="certes-muted">{len(answer.samples)} samples, counted; pale band: the interval; '
        f"line: the estimate{known}.</p>"
    )


def _line(x: float, tall: float, colour: str, more: str) -> str:
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{tall}" stroke="{colour}" '
        f'stroke-width="1.8" {more}/>'
    )


def _enlarged(pixels: Pixels) -> Pixels:
    k = enlargement(*pixels.shape[:2])
    return pixels.repeat(k, axis=0).repeat(k, axis=1)


def _colours() -> Any:
    import matplotlib

    return cast(Any, matplotlib).colormaps[WIDTH_COLOURS]
