"""Restoration with a model of functions: finer pictures, scattered pixels, calibrated intervals.

    python benchmarks/function_restoration.py

Busiest 64 x 64 crops of the test pictures of nuclei: 70 to calibrate on, 52 others to judge
(alpha = delta = .1, K = 4 samples, 20 network calls). Three measurements, noise .02:

- `finer`: averages over 2 x 2 pixels, as a camera with larger pixels takes them;
- `pixels`: a fifth of the pixels, chosen at random;
- `scattered`: as many values at random positions between the pixels.

Restored through :func:`certes.restore` with the bundled `nuclei-functions` and beside it with the
bundled U-Net model `nuclei` (which learned longer and from all pixels), and by what a user without
a model would do: cubic interpolation. For `finer` also the paper's way, to encode the coarse
picture and write it finer, with its code alone and with its noise encoded too; for `pixels` its
reconstruction guidance (noise 0, 50 calls there and back); both on 16 pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from _functions import RUNS
from _interval_runs import nuclei
from _report import Report
from scipy.interpolate import griddata
from torch import Tensor

import certes
from certes.data.files import write_json
from certes.data.mosaic import mosaic
from certes.data.pictures import Picture, write_picture
from certes.evaluation.metrics import psnr
from certes.function_space.model import FunctionModel
from certes.function_space.restore import inpaint, super_resolve
from certes.intervals.posterior import Posterior
from certes.restoration.degradations import degrade
from certes.restoration.operators import Inpaint, LinearOperator, SampledAt, SuperResolution

SHAPE, NOISE, KNOWN, SAMPLES = (1, 64, 64), 0.02, 819, 4
ALPHA = 0.1
FEW = 16
CALIBRATED = 70


@dataclass(frozen=True)
class Task:
    """A measurement, and what a user without a model would make of it."""

    operator: LinearOperator
    interpolated: Callable[[Tensor], Tensor]


def tasks() -> dict[str, Task]:
    generator = torch.Generator().manual_seed(2)
    cells = torch.randperm(64 * 64, generator=generator)[:KNOWN]
    mask = torch.zeros(64 * 64).index_fill(0, cells, 1.0).reshape(SHAPE)
    centres = torch.stack([cells // 64, cells % 64], dim=1) + 0.5
    positions = torch.rand(KNOWN, 2, generator=generator) * 64
    return {
        "finer": Task(
            SuperResolution(SHAPE, 2),
            lambda y: F.interpolate(y, scale_factor=2, mode="bicubic"),
        ),
        "pixels": Task(Inpaint(SHAPE, mask), lambda y: cubic(y.flatten(1)[:, cells], centres)),
        "scattered": Task(SampledAt(SHAPE, positions), lambda y: cubic(y.flatten(1), positions)),
    }


def cubic(values: Tensor, positions: Tensor) -> Tensor:
    """Piecewise cubic between scattered values, the nearest of them outside of their hull."""
    rows, columns = np.mgrid[:64, :64] + 0.5
    pictures: list[Tensor] = []
    for row in values.numpy():
        inside = griddata(positions.numpy(), row, (rows, columns), method="cubic")
        outside = griddata(positions.numpy(), row, (rows, columns), method="nearest")
        pictures.append(torch.from_numpy(np.where(np.isnan(inside), outside, inside)).float()[None])
    return torch.stack(pictures)


def judged(posterior: Posterior, truth: Tensor) -> dict[str, Any]:
    """Calibrated on the first pictures, judged on the others."""
    bounds, rest = posterior.bounds(ALPHA), slice(CALIBRATED, None)
    card = certes.calibrate(
        part(bounds, slice(CALIBRATED)), truth[:CALIBRATED], alpha=ALPHA, delta=0.1
    )
    interval = card(part(bounds, rest))
    return {
        "psnr": float(psnr(posterior.mean[rest].clamp(0, 1), truth[rest]).mean()),
        "raw": float(bounds.contains(truth).double().mean()),
        "risk": float(1 - interval.contains(truth[rest]).double().mean()),
        "width": float(interval.width.double().mean()),
    }


def part(bounds: certes.Bounds, rows: slice) -> certes.Bounds:
    return certes.Bounds(
        bounds.lower[rows], bounds.estimate[rows], bounds.upper[rows], bounds.provenance
    )


def measured(task: Task, truth: Tensor) -> Tensor:
    return degrade(truth, task.operator, NOISE, seed=1)


def restored(name: str, model: FunctionModel | certes.Model, truth: Tensor) -> dict[str, Any]:
    """By the call that users make."""

    def judge() -> dict[str, Any]:
        task = tasks()[name]
        y = measured(task, truth)
        posterior = certes.restore(y, task.operator, model, noise=NOISE, samples=SAMPLES)
        save_panel(f"{name}-{model.name}", task, y, posterior, truth)
        plain = task.interpolated(y[CALIBRATED:]).clamp(0, 1)
        return judged(posterior, truth) | {
            "interpolated": float(psnr(plain, truth[CALIBRATED:]).mean())
        }

    return kept(f"{name}-{model.hash}", judge)


def written(model: FunctionModel, truth: Tensor) -> dict[str, str]:
    """The paper's super-resolution, and certes.restore on the same pictures."""

    def judge() -> dict[str, Any]:
        task, x = tasks()["finer"], truth[CALIBRATED : CALIBRATED + FEW]
        y, some = measured(task, x), {"samples": SAMPLES}
        coarse, few = model.at(2.0), y.clamp(0, 1)
        return {
            "certes.restore": told(certes.restore(y, task.operator, model, noise=NOISE, **some), x),
            "code alone": told(super_resolve(few, coarse, 2, encoded_noise=False, **some), x),
            "noise encoded too": told(super_resolve(few, coarse, 2, **some), x),
        }

    return kept(f"written-{model.hash}", judge)


def guided(model: FunctionModel, truth: Tensor) -> dict[str, str]:
    """The paper's inpainting, and certes.restore on the same pictures."""

    def judge() -> dict[str, Any]:
        operator, x = tasks()["pixels"].operator, truth[CALIBRATED : CALIBRATED + FEW]
        assert isinstance(operator, Inpaint)
        y, some = operator(x), {"samples": SAMPLES, "steps": 50}
        return {
            "certes.restore": told(certes.restore(y, operator, model, noise=0.0, **some), x),
            "guidance": told(inpaint(y, operator.mask, model, **some), x),
        }

    return kept(f"guided-{model.hash}", judge)


def told(posterior: Posterior, x: Tensor) -> str:
    """PSNR of the mean, and how much larger its errors are than the samples' spread."""
    found = float(psnr(posterior.mean.clamp(0, 1), x).mean())
    return f"{found:.2f} dB, {ratio(posterior, x):.2f}"


def ratio(posterior: Posterior, x: Tensor) -> float:
    """How much larger the errors of the mean are than the samples' spread; about 1.1 for K = 4."""
    error = (posterior.mean - x).square().mean()
    return float((error / posterior.std.square().mean()).sqrt())


def kept(name: str, judge: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Judged now, or before."""
    path = RUNS / f"restoration-{name}.json"
    if not path.is_file():
        write_json(path, judge())
    return json.loads(path.read_text())


def save_panel(name: str, task: Task, y: Tensor, posterior: Posterior, truth: Tensor) -> None:
    """Six held-out pictures: interpolated, restored, width of the raw interval, truth."""
    rows, bounds = slice(CALIBRATED, CALIBRATED + 6), posterior.bounds(ALPHA)
    width = bounds.width[rows] / bounds.width[rows].amax()
    parts = [task.interpolated(y[rows]), posterior.mean[rows], width, truth[rows]]
    grid = mosaic(torch.cat(parts).clamp(0, 1), columns=6)
    grid = grid.repeat_interleave(3, dim=1).repeat_interleave(3, dim=2)
    write_picture(RUNS / f"{name}.png", grid, Picture(name, grid, None, "uint8"))


def main() -> None:
    torch.set_num_threads(1)
    model, other = certes.load("nuclei-functions"), certes.load("nuclei")
    assert isinstance(model, FunctionModel)
    assert isinstance(other, certes.Model)
    truth = torch.cat([nuclei().calibration, nuclei().held])
    report = Report("function_restoration")
    for name in tasks():
        row, beside = restored(name, model, truth), restored(name, other, truth)
        say(report, f"{name}: nuclei-functions", row)
        say(report, f"{name}: U-Net", beside)
        gain = row["psnr"] - row["interpolated"]
        report.claim(
            f"{name}: PSNR over cubic interpolation ({row['interpolated']:.2f} dB), dB",
            round(gain, 2),
            "> 0",
            gain > 0,
        )
    for text, both in (
        ("finer, beside the paper's way", written(model, truth)),
        ("pixels without noise, beside the paper's guidance", guided(model, truth)),
    ):
        report.claim(
            f"{text}: PSNR and rmse over std, {FEW} pictures",
            "; ".join(f"{name} {numbers}" for name, numbers in both.items()),
            "told",
            True,
        )
    report.save()


def say(report: Report, text: str, row: dict[str, Any]) -> None:
    """One line, and whether the risk is held."""
    numbers = f"PSNR {row['psnr']:.2f}, raw coverage {row['raw']:.3f}, width {row['width']:.4f}"
    report.claim(
        f"{text}: risk of calibrated intervals ({numbers})",
        round(row["risk"], 4),
        f"<= {ALPHA}",
        row["risk"] <= ALPHA,
    )


if __name__ == "__main__":
    main()
