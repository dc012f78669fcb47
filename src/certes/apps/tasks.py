"""From task options to operators: the one place where a task is given its parameters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from certes.apps.options import DEFAULT_NOISE, TaskName, TaskOptions
from certes.data.pictures import read_picture
from certes.diffusion.noise import stream_seeds
from certes.errors import InputError
from certes.restoration import operators
from certes.restoration.operators import DecomposedOperator
from certes.restoration.request import operator_label

Shape = tuple[int, int, int]

_TAKES: dict[TaskName, tuple[str, ...]] = {
    TaskName.DENOISE: (),
    TaskName.SUPER_RESOLVE: ("factor", "kernel"),
    TaskName.INPAINT: ("mask", "missing"),
    TaskName.DEBLUR: ("kernel",),
}
_FACTOR, _MISSING, _BLUR = 4, 0.8, "gaussian:2"
# A share of pixels to the percent is exact in a picture of this side.
_NOMINAL_SIDE = 100


@dataclass(frozen=True)
class Task:
    """A task with its parameters.

    Args:
        name: which one.
        operator: makes the operator for pictures of a shape (C, H, W); the second argument is the
            picture's number, which random masks depend on.
        nominal: a shape for which the operator exists.
        factor: how many times finer than its measurement a picture is.
    """

    name: TaskName
    operator: Callable[[Shape, int], DecomposedOperator]
    nominal: Shape = (1, _NOMINAL_SIDE, _NOMINAL_SIDE)
    factor: int = 1

    @property
    def label(self) -> str:
        """The operator in words, as calibration cards have it; the same for every picture."""
        return operator_label(self.operator(self.nominal, 0))

    def operator_behind(self, y: Float[Tensor, "b c h w"]) -> DecomposedOperator:
        """The operator that made measurements of this shape."""
        channels, height, width = y.shape[1:]
        return self.operator((channels, height * self.factor, width * self.factor), 0)


def make_task(options: TaskOptions, seed: int = 0) -> Task:
    """The task that these options describe; `seed` is that of random masks.

    Raises: InputError for options that the task does not take, or values that it cannot take.
    """
    _refuse_foreign(options)
    match options.name:
        case TaskName.DENOISE:
            task = Task(options.name, lambda shape, _: operators.Denoise(shape))
        case TaskName.SUPER_RESOLVE:
            task = _super_resolve(options.factor or _FACTOR, options.kernel or "box")
        case TaskName.INPAINT:
            task = _inpaint(options.mask, options.missing, seed)
        case TaskName.DEBLUR:
            task = _deblur(blur_kernel(options.kernel or _BLUR), "reflect")
    task.operator(task.nominal, 0)  # says now what is wrong with a parameter, not for every picture
    return task


def task_of_label(label: str, seed: int = 0) -> Task:
    """The task whose ``label`` this is, to repeat what a calibration card was made for.

    Raises: InputError for an operator that is none of the tasks.
    """
    name, _, rest = label.partition(" ")
    parameters: dict[str, Any] = json.loads(rest or "{}")
    match name:
        case TaskName.DENOISE:
            return make_task(TaskOptions(TaskName.DENOISE))
        case TaskName.SUPER_RESOLVE:
            return _super_resolve(parameters["factor"], parameters["kernel"])
        case TaskName.INPAINT:
            return _inpaint(None, round(1 - parameters["known"], 2), seed)
        case TaskName.DEBLUR:
            kernel = torch.tensor(parameters["kernel"], dtype=torch.float64)
            return _deblur(kernel, parameters["boundary"])
        case _:
            raise InputError(f"card: operator {name!r} is not one that this command can repeat")


def noise_level(task: Task, noise: float | None) -> float:
    """The noise that a command adds: as given, else the task's own.

    Raises: InputError unless it is a number of at least 0.
    """
    level = DEFAULT_NOISE[task.name] if noise is None else noise
    if not 0 <= level < float("inf"):
        raise InputError(
            f"noise: {level}; give a standard deviation of at least 0, values in [0, 1]"
        )
    return level


def blur_kernel(spec: str) -> Float[Tensor, " taps"]:
    """A kernel from ``gaussian:SIGMA`` or ``uniform:WIDTH``, pixels.

    Raises: InputError for anything else.
    """
    kind, _, size = spec.partition(":")
    try:
        width = float(size)
    except ValueError:
        kind, width = "", 0.0
    if kind == "gaussian":
        return operators.gaussian_kernel(width)
    if kind == "uniform":
        return operators.uniform_kernel(cast(int, width))
    raise InputError(f"kernel: {spec!r}; give gaussian:SIGMA or uniform:WIDTH, as gaussian:2")


def _refuse_foreign(options: TaskOptions) -> None:
    takes = _TAKES[options.name]
    for option in ("factor", "kernel", "mask", "missing"):
        if getattr(options, option) is not None and option not in takes:
            known = " and ".join(f"--{name}" for name in takes) or "none of these options"
            raise InputError(f"{option}: --task {options.name} takes {known}; leave it out")


def _super_resolve(factor: int, kernel: str) -> Task:
    way = cast(Literal["box", "bicubic"], kernel)  # the operator refuses any other
    side = 8 * factor
    return Task(
        TaskName.SUPER_RESOLVE,
        lambda shape, _: operators.SuperResolution(shape, factor, way),
        nominal=(1, side, side),
        factor=factor,
    )


def _deblur(kernel: Float[Tensor, " taps"], boundary: Any) -> Task:
    return Task(TaskName.DEBLUR, lambda shape, _: operators.Blur(shape, kernel, boundary))


def _inpaint(mask: Path | None, missing: float | None, seed: int) -> Task:
    if mask is None:
        share = _MISSING if missing is None else missing
        if not 0 <= share < 1:
            raise InputError(f"missing: {share}; give a share of pixels in [0, 1)")
        return Task(
            TaskName.INPAINT,
            lambda shape, i: operators.Inpaint(shape, _random_mask(shape, share, seed, i)),
        )
    if missing is not None:
        raise InputError("missing: --mask says already which pixels are missing; give one of both")
    known = _read_mask(mask)
    return Task(
        TaskName.INPAINT,
        lambda shape, _: operators.Inpaint(shape, known),
        nominal=(1, known.shape[1], known.shape[2]),
    )


def _read_mask(path: Path) -> Float[Tensor, "c h w"]:
    pixels = read_picture(path).pixels
    # Black and white are often saved as colours.
    return pixels[:1] if bool((pixels == pixels[:1]).all()) else pixels


def _random_mask(shape: Shape, missing: float, seed: int, index: int) -> Bool[Tensor, "h w"]:
    """Exactly the wanted share of pixels, not only on average: cards tell tasks apart by it."""
    (stream,) = stream_seeds(seed, [f"mask/{index}"])
    return operators.random_mask(*shape[1:], missing, stream)
