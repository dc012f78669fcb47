"""The figure of a likelihood: what each bit of a picture buys, and at which noise it is spent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from certes.data.files import atomic_path
from certes.diffusion.likelihood import Bound

# matplotlib's own types are full of unknowns, and importing it takes half a second.
Axes = Any

# Of the variances, by name, so that figures compare; dashes, because two of them often coincide.
_LINES: dict[str, dict[str, Any]] = {
    "small": {"color": "#0072b2"},
    "large": {"color": "#d55e00"},
    "learned": {"color": "#009e73"},
    "calibrated": {"color": "#222222", "ls": (0, (4, 3))},
}
_MUTED = "#6b6b6b"
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "lines.linewidth": 1.6,
}


def rate_distortion_figure(path: str | Path, bounds: Sequence[Bound], *, title: str) -> None:
    """Draw bounds of the same pictures with different variances as a PNG, atomically.

    To the left the rate-distortion curve (Ho et al. 2020, figure 5): the error of the estimate of
    ``x_0`` against the bits sent before it. To the right what each step costs at its noise level.

    Args:
        path: where to write.
        bounds: one line each.
        title: of which pictures, by which model.
    """
    import matplotlib.figure

    with cast(Any, matplotlib).rc_context(_STYLE):
        figure: Any = matplotlib.figure.Figure(figsize=(10, 4.2), dpi=110, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        curve, steps = figure.subplots(1, 2)
        _draw_curve(curve, bounds)
        _draw_steps(steps, bounds)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png")


def _draw_curve(axis: Axes, bounds: Sequence[Bound]) -> None:
    for bound in bounds:
        rates, errors = zip(*bound.rate_distortion(), strict=True)
        line = _LINES[bound.variance]
        axis.plot(rates, errors, label=_legend(bound), **line)
        axis.plot(rates[-1], errors[-1], "o", ms=4, color=line["color"])
    axis.set_title("Rate and distortion")
    axis.set_xlabel("sent so far, bits per dimension")
    axis.set_ylabel("RMSE of the estimated picture, grey levels")
    axis.set_xlim(left=0)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.legend(frameon=False, title="variance: total = rate + the rest without loss")


def _legend(bound: Bound) -> str:
    error = "" if bound.standard_error is None else f" ± {bound.standard_error:.3f}"
    parts = f"{bound.rate:.3f} + {bound.distortion:.3f}"
    return f"{bound.variance}: {bound.total:.3f}{error} = {parts}"


def _draw_steps(axis: Axes, bounds: Sequence[Bound]) -> None:
    for bound in bounds:
        noise = [255 * (level.noise_from * level.noise_to) ** 0.5 for level in bound.levels]
        bits = [level.bits / level.steps for level in bound.levels]
        errors = [(level.standard_error or 0.0) / level.steps for level in bound.levels]
        low, high = ([b + sign * e for b, e in zip(bits, errors, strict=True)] for sign in (-1, 1))
        line = _LINES[bound.variance]
        axis.fill_between(noise, low, high, color=line["color"], alpha=0.2, lw=0)
        axis.plot(noise, bits, label=bound.variance, **line)
    axis.set_title("What a step costs (band: standard error over pictures)")
    axis.set_xlabel("noise, grey levels; the walk goes to the left")
    axis.set_ylabel("KL of one step, bits per dimension")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.legend(frameon=False)
