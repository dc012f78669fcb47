"""The panel of a restoration: what a person looks at to judge it, and to trust it or not.

Top to bottom: the whole pictures and the width of the interval at every pixel; the same for a
detail in which one can see pixels; a profile through that detail with its interval as a band; and,
where the truth is known, where the interval misses it and how often it holds it.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from certes.data.files import atomic_path
from certes.errors import InputError
from certes.evaluation.metrics import psnr
from certes.evaluation.sheets import white_of
from certes.intervals.bounds import Bounds

# matplotlib's own types are full of unknowns, and importing it takes half a second.
Axes = Any
Figure = Any

INK, MUTED, ACCENT, TRUTH = "#222222", "#6b6b6b", "#0072b2", "#d55e00"
MARK, MISSING = "#56b4e9", "#27496d"
WIDTH_COLOURS = "magma"
NO_GUARANTEE = "These intervals are not calibrated: they carry no guarantee."
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}


@dataclass(frozen=True)
class Scene:
    """What a panel shows: one picture, (C, H, W) each; all but `degraded` have the same size.

    `degraded` may be smaller (super-resolution); NaN marks its missing pixels (inpainting).
    """

    degraded: Float[Tensor, "c_in h_in w_in"]
    lower: Float[Tensor, "c h w"]
    estimate: Float[Tensor, "c h w"]
    upper: Float[Tensor, "c h w"]
    truth: Float[Tensor, "c h w"] | None

    @property
    def width(self) -> Float[Tensor, "h w"]:
        """Interval width per pixel, the mean over channels."""
        return (self.upper - self.lower).mean(dim=0)

    @property
    def aspect(self) -> float:
        """Height over width, within what a panel can show beside its other rows."""
        height, width = self.estimate.shape[1:]
        return min(max(height / width, 0.3), 2.0)

    @property
    def inside(self) -> Bool[Tensor, "c h w"]:
        """Where the interval holds the truth."""
        assert self.truth is not None
        return (self.lower <= self.truth) & (self.truth <= self.upper)

    @property
    def misses(self) -> Int[Tensor, "h w"]:
        """1 where the truth lies above the interval, -1 where below, 0 where it holds it.

        Of colours: the side of more of the channels that miss, above where they are as many.
        """
        assert self.truth is not None
        above = (self.truth > self.upper).sum(dim=0)
        below = (self.truth < self.lower).sum(dim=0)
        return torch.where((above > 0) & (above >= below), 1, -below.sign())

    @property
    def white(self) -> float:
        """The value drawn as white."""
        return white_of(self.estimate)


def restoration_panel(
    path: str | Path,
    degraded: Float[Tensor, "c_in h_in w_in"],
    bounds: Bounds,
    *,
    title: str,
    truth: Float[Tensor, "c h w"] | None = None,
    nominal: float | None = None,
    guarantee: str | None = None,
) -> None:
    """Draw one restored picture as a PNG, atomically.

    Args:
        path: where to write.
        degraded: what was restored, in [0, 1]; NaN where a pixel is missing.
        bounds: of this one picture, (1, C, H, W).
        title: what was done to which picture.
        truth: the original, where it is known.
        nominal: the share of values that the interval is meant to hold, for example 0.9.
        guarantee: what is guaranteed, in words; raw intervals have none, and the panel says so.

    Raises: InputError when `bounds` has several pictures or `truth` another size.
    """
    scene = _scene(degraded, bounds, truth)
    import matplotlib.figure

    with cast(Any, matplotlib).rc_context(STYLE):
        columns = 3 if truth is None else 4
        heights = (3.0 * scene.aspect + 0.3, 3.3, 2.6)
        size = (3.3 * columns, sum(heights) + 1)
        figure: Figure = matplotlib.figure.Figure(figsize=size, dpi=110, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        legend = _legend(scene, guarantee, line=48 * columns)
        figure.supxlabel(legend, x=0.01, ha="left", fontsize=8.5, color=MUTED)
        _draw(figure.subfigures(3, 1, height_ratios=heights), scene, columns, nominal)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png")


def _scene(degraded: Tensor, bounds: Bounds, truth: Tensor | None) -> Scene:
    if len(bounds.estimate) != 1:
        raise InputError(f"bounds: {len(bounds.estimate)} pictures, wanted 1: one panel for each")
    if truth is not None and truth.shape != bounds.estimate.shape[1:]:
        raise InputError(
            f"truth: shape {tuple(truth.shape)}, wanted {tuple(bounds.estimate.shape[1:])}"
        )
    planes = (bounds.lower[0], bounds.estimate[0], bounds.upper[0])
    lower, estimate, upper = (p.detach().float().cpu() for p in planes)
    return Scene(
        degraded.float().cpu(), lower, estimate, upper, None if truth is None else truth.cpu()
    )


def _legend(scene: Scene, guarantee: str | None, line: int) -> str:
    white = scene.white
    stretch = (
        "Pictures are shown as they are."
        if white == 1.0
        else f"Pictures are brightened for display: white is {white:.2g} and above "
        "(the restoration's 99.8th percentile), the same in all."
    )
    missing = " Blue pixels are missing." if scene.degraded.isnan().any() else ""
    paragraphs = [
        stretch + missing,
        "Interval width: upper minus lower bound of each pixel, in image units "
        "(the full range of the file is 1). Wider means less sure.",
        guarantee or NO_GUARANTEE,
    ]
    return "\n".join(textwrap.fill(p, line) for p in paragraphs)


def _draw(rows: list[Figure], scene: Scene, columns: int, nominal: float | None) -> None:
    whole, detail, plots = rows
    box = _detail_box(scene.estimate)
    _draw_pictures(whole.subplots(1, columns), scene, None, box)
    _draw_pictures(detail.subplots(1, columns), scene, box, None)
    if scene.truth is None:
        _draw_profile(plots.subplots(), scene, box)
    else:
        profile, misses, coverage = plots.subplots(1, 3, width_ratios=[2.1, 1, 1.4])
        _draw_profile(profile, scene, box)
        _draw_misses(misses, scene)
        _draw_coverage(coverage, scene, nominal)


@dataclass(frozen=True)
class Box:
    """A square of pixels, and the row in it that the profile follows (from the top of it)."""

    top: int
    left: int
    side: int
    row: int


def _detail_box(estimate: Float[Tensor, "c h w"]) -> Box:
    """A quarter of the picture's shorter side, where the restoration has most structure."""
    side = max(8, min(estimate.shape[1:]) // 4)
    grey = estimate.mean(dim=0)[None, None]
    stride = max(1, side // 4)
    mean, square = (
        torch.nn.functional.avg_pool2d(v, side, stride)[0, 0] for v in (grey, grey.square())
    )
    best = int((square - mean.square()).argmax())
    top, left = best // mean.shape[1] * stride, best % mean.shape[1] * stride
    middle = slice(side // 4, side - side // 4)
    rows = grey[0, 0, top : top + side, left : left + side][middle].var(dim=1)
    return Box(top, left, side, row=side // 4 + int(rows.argmax()))


def _draw_pictures(axes: Any, scene: Scene, crop: Box | None, mark: Box | None) -> None:
    pictures = {"Input": scene.degraded, "Restoration": scene.estimate}
    if scene.truth is not None:
        pictures["Truth"] = scene.truth
    for axis, (name, picture) in zip(axes, pictures.items(), strict=False):
        _show(axis, picture, scene, crop)
        axis.set_title(f"{name} (detail)" if crop else name + _score(name, picture, scene))
    shown = _cut(scene.width[None], scene, crop)[0]
    widest = float(np.quantile(scene.width.numpy(), 0.998)) or 1e-3
    image = axes[-1].imshow(shown.numpy(), cmap=WIDTH_COLOURS, vmin=0, vmax=widest)
    axes[-1].set_title("Interval width" + (" (detail)" if crop else ""))
    axes[-1].figure.colorbar(image, ax=axes[-1], shrink=0.8, extend="max", label="image units")
    for axis in axes:
        axis.set_axis_off()
    _mark_all(axes, scene, crop, mark)


def _mark_all(axes: Any, scene: Scene, crop: Box | None, mark: Box | None) -> None:
    """Outline the detail in the whole pictures, or the profile's row in the details."""
    for i, axis in enumerate(axes):
        scale = scene.degraded.shape[-1] / scene.estimate.shape[-1] if i == 0 else 1.0
        if mark is not None:
            _outline(axis, mark, scale)
        elif crop is not None:
            axis.axhline((crop.row + 0.5) * scale - 0.5, color=MARK, lw=1)


def _score(name: str, picture: Tensor, scene: Scene) -> str:
    if scene.truth is None or name == "Truth" or picture.shape != scene.truth.shape:
        return ""
    value = float(psnr(picture[None], scene.truth[None]))
    return "" if np.isnan(value) else f"   {value:.1f} dB"


def _show(axis: Axes, picture: Tensor, scene: Scene, crop: Box | None) -> None:
    shown = _cut(picture, scene, crop) / scene.white
    colours = shown.expand(3, -1, -1).movedim(0, -1).clamp(0, 1)
    missing = torch.tensor([int(MISSING[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    axis.imshow(torch.where(colours.isnan(), missing, colours).numpy(), interpolation="nearest")


def _cut(picture: Tensor, scene: Scene, crop: Box | None) -> Tensor:
    """The part of `picture` in `crop`, which is given in pixels of the restoration."""
    if crop is None:
        return picture
    scale = picture.shape[-1] / scene.estimate.shape[-1]
    top, left, side = (round(v * scale) for v in (crop.top, crop.left, crop.side))
    return picture[:, top : top + max(side, 1), left : left + max(side, 1)]


def _outline(axis: Axes, box: Box, scale: float) -> None:
    from matplotlib.patches import Rectangle

    corner = (box.left * scale - 0.5, box.top * scale - 0.5)
    side = box.side * scale
    axis.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=MARK, linewidth=1.2))


def _draw_profile(axis: Axes, scene: Scene, box: Box) -> None:
    channel = 1 if len(scene.estimate) == 3 else 0
    columns = np.arange(box.left, box.left + box.side)
    cut = (channel, box.top + box.row, slice(box.left, box.left + box.side))
    lower, estimate, upper = (p[cut].numpy() for p in (scene.lower, scene.estimate, scene.upper))
    axis.fill_between(columns, lower, upper, color=ACCENT, alpha=0.25, lw=0, label="interval")
    axis.plot(columns, estimate, color=ACCENT, lw=1.5, label="restoration")
    if scene.truth is not None:
        axis.plot(columns, scene.truth[cut].numpy(), color=TRUTH, lw=1.2, label="truth")
    axis.set_title("Along the blue line of the detail" + (" (green channel)" if channel else ""))
    axis.set_xlabel("column, pixels")
    axis.set_ylabel("image units")
    axis.margins(x=0)
    bare(axis)
    axis.legend(frameon=False, ncols=3, loc="upper right")
    axis.set_ylim(top=axis.get_ylim()[1] * 1.15)


def _draw_misses(axis: Axes, scene: Scene) -> None:
    """Where the truth is outside, and on which side."""
    from matplotlib.colors import ListedColormap

    colours = ListedColormap([ACCENT, "#f2f2f2", TRUTH])
    axis.imshow(scene.misses.numpy(), cmap=colours, vmin=-1, vmax=1, interpolation="nearest")
    axis.set_title("Missed pixels")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_xlabel("truth above", color=TRUTH, loc="left", fontsize=8.5)
    axis.text(1, -0.03, "truth below", color=ACCENT, fontsize=8.5, ha="right", va="top",
              transform=axis.transAxes)  # fmt: skip


def _draw_coverage(axis: Axes, scene: Scene, nominal: float | None) -> None:
    """How often the interval holds the truth: over all pixels, and where it is narrow or wide."""
    inside = scene.inside.double().flatten()
    order = (scene.upper - scene.lower).flatten().argsort()
    quarters = [inside[part].mean() for part in order.tensor_split(4)]
    shares = [float(v) for v in (inside.mean(), *quarters)]
    names = ["all", "narrowest\nquarter", "2nd", "3rd", "widest\nquarter"]
    bars = axis.bar(names, shares, color=[ACCENT] + ["#9cc3de"] * 4)
    axis.bar_label(bars, [f"{100 * v:.0f} %" for v in shares], fontsize=8, label_type="center")
    if nominal is not None:
        axis.axhline(nominal, color=TRUTH, lw=1.2, ls="--", label=f"wanted: {100 * nominal:.0f} %")
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 1.02))
    axis.set_title("Truth inside the interval, share of pixels")
    axis.set_ylim(0, 1.3)
    axis.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    bare(axis)


def bare(axis: Axes) -> None:
    """Leave out the frame where there is no scale."""
    axis.spines[["top", "right"]].set_visible(False)
