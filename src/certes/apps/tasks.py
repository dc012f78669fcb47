"""From task options to operators: the one place where a task is given its parameters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from jaxtyping import Bool, Float
from torch import Tensor

from certes.apps.kernel_spec import AUTO, blur_kernel
from certes.apps.options import DEFAULT_NOISE, TaskName, TaskOptions
from certes.data.pictures import read_picture
from certes.diffusion.noise import stream_seeds
from certes.errors import InputError
from certes.restoration import operators
from certes.restoration.operators import Operator
from certes.restoration.operators.blur import Kernel, is_symmetric, kernel_of, plane_of
from certes.restoration.operators.kernels import check_unit_sum
from certes.restoration.request import operator_label

Shape = tuple[int, int, int]

_TAKES: dict[TaskName, tuple[str, ...]] = {
    TaskName.DENOISE: (),
    TaskName.SUPER_RESOLVE: ("factor", "kernel"),
    TaskName.INPAINT: ("mask", "missing"),
    TaskName.DEBLUR: ("kernel",),
    TaskName.COLORIZE: (),
    TaskName.COMPRESSED_SENSING: ("ratio",),
    TaskName.JPEG: ("quality",),
}
_FACTOR, _MISSING, _BLUR, _RATIO, _QUALITY = 4, 0.8, "gaussian:2", 0.25, 10
# A share of pixels to the percent is exact in a picture of this side.
_NOMINAL_SIDE = 100


def _same(shape: Shape) -> Shape:
    return shape


@dataclass(frozen=True)
class Task:
    """A task with its parameters.

    Args:
        name: which one.
        operator: makes the operator for pictures of a shape (C, H, W); the second argument is the
            picture's number, which random masks depend on.
        nominal: a shape for which the operator exists.
        behind: the shape of the picture behind a measured one.
    """

    name: TaskName
    operator: Callable[[Shape, int], Operator]
    nominal: Shape = (1, _NOMINAL_SIDE, _NOMINAL_SIDE)
    behind: Callable[[Shape], Shape] = _same

    @property
    def label(self) -> str:
        """The operator in words, as calibration cards have it; the same for every picture."""
        return operator_label(self.operator(self.nominal, 0))

    def operator_behind(self, y: Float[Tensor, "b c h w"]) -> Operator:
        """The operator that made measurements of this shape."""
        channels, height, width = y.shape[1:]
        return self.operator(self.behind((channels, height, width)), 0)


def make_task(options: TaskOptions, seed: int = 0) -> Task:
    """The task that these options describe; `seed` is that of random masks and mixings.

    Raises: InputError for options that the task does not take, or values that it cannot take.
    """
    _refuse_foreign(options)
    match options.name:
        case TaskName.DENOISE:
            task = Task(options.name, lambda shape, _: operators.Denoise(shape))
        case TaskName.SUPER_RESOLVE:
            task = _super_resolve(options.factor or _FACTOR, _downsampling(options.kernel))
        case TaskName.INPAINT:
            task = _inpaint(options.mask, options.missing, seed)
        case TaskName.DEBLUR:
            task = deblur(_checked_kernel(options.kernel or _BLUR))
        case TaskName.COLORIZE:
            task = Task(options.name, _colorize, (3, 8, 8), _rgb)
        case TaskName.COMPRESSED_SENSING:
            task = _compressed_sensing(options.ratio or _RATIO, seed)
        case TaskName.JPEG:
            task = jpeg(_QUALITY if options.quality is None else options.quality)
    task.operator(task.nominal, 0)  # says now what is wrong with a parameter, not for every picture
    return task


def task_of_label(label: str, seed: int = 0) -> Task:
    """The task whose ``label`` this is, to repeat what a calibration card was made for.

    Raises: InputError for an operator that is none of the tasks.
    """
    name, _, rest = label.partition(" ")
    parameters: dict[str, Any] = json.loads(rest or "{}")
    match name:
        case TaskName.DENOISE | TaskName.COLORIZE:
            return make_task(TaskOptions(TaskName(name)))
        case TaskName.SUPER_RESOLVE:
            kernel = parameters["kernel"]
            return _super_resolve(
                parameters["factor"], kernel if isinstance(kernel, str) else kernel_of(kernel)
            )
        case TaskName.INPAINT:
            return _inpaint(None, round(1 - parameters["known"], 2), seed)
        case TaskName.DEBLUR | operators.ValidBlur.name:
            return deblur(kernel_of(parameters["kernel"]))
        case TaskName.COMPRESSED_SENSING:
            return _compressed_sensing(parameters["ratio"], seed)
        case TaskName.JPEG:
            return jpeg(parameters["quality"], parameters["subsampling"])
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


def deblur(kernel: Kernel) -> Task:
    """Deblurring by a kernel; where it is symmetric, the picture is continued by its mirror image.

    Any other kernel reaches into a border that was not measured, which is restored and cut off.
    """
    plane = plane_of(kernel)
    if is_symmetric(plane):
        return Task(TaskName.DEBLUR, lambda shape, _: operators.Blur(shape, kernel))
    rows, columns = (size - 1 for size in plane.shape)
    return Task(
        TaskName.DEBLUR,
        lambda shape, _: operators.ValidBlur(shape, plane),
        behind=lambda shape: (shape[0], shape[1] + rows, shape[2] + columns),
    )


def jpeg(quality: int, subsampling: str = "4:2:0") -> Task:
    """Undoing JPEG."""
    way = cast(Literal["4:2:0", "4:4:4"], subsampling)  # the operator refuses any other
    return Task(TaskName.JPEG, lambda shape, _: operators.Jpeg(shape, quality, way), (1, 16, 16))


def read_mask(path: Path) -> Float[Tensor, "c h w"]:
    """A picture of which pixels are known.

    Raises: InputError for a file that cannot be read.
    """
    pixels = read_picture(path).pixels
    # Black and white are often saved as colours.
    return pixels[:1] if bool((pixels == pixels[:1]).all()) else pixels


def _checked_kernel(spec: str) -> Kernel:
    if spec == AUTO:
        raise InputError("kernel: auto estimates a blur from a blurred picture; name one here")
    kernel = blur_kernel(spec)
    check_unit_sum(kernel)
    return kernel


def _refuse_foreign(options: TaskOptions) -> None:
    takes = _TAKES[options.name]
    for option in ("factor", "kernel", "mask", "missing", "ratio", "quality"):
        if getattr(options, option) is not None and option not in takes:
            known = " and ".join(f"--{name}" for name in takes) or "none of these options"
            raise InputError(f"{option}: --task {options.name} takes {known}; leave it out")


def _downsampling(spec: str | None) -> str | Float[Tensor, " taps"]:
    if spec in (None, "box", "bicubic"):
        return spec or "box"
    kernel = blur_kernel(spec or "")
    if not isinstance(kernel, Tensor) or kernel.ndim != 1:
        raise InputError(
            f"kernel: {spec!r}; super-resolve takes box, bicubic, gaussian:SIGMA or uniform:WIDTH"
        )
    return kernel


def _super_resolve(factor: int, kernel: str | Kernel) -> Task:
    way = cast(Literal["box", "bicubic"], kernel)  # the operator refuses any other
    side = 8 * factor
    return Task(
        TaskName.SUPER_RESOLVE,
        lambda shape, _: operators.SuperResolution(shape, factor, way),
        nominal=(1, side, side),
        behind=lambda shape: (shape[0], shape[1] * factor, shape[2] * factor),
    )


def _compressed_sensing(ratio: float, seed: int) -> Task:
    return Task(
        TaskName.COMPRESSED_SENSING,
        lambda shape, _: operators.CompressedSensing(shape, ratio, seed=seed),
    )


def _colorize(shape: Shape, index: int) -> Operator:
    if shape[0] != 3:
        raise InputError("colorize: the picture is grey; its colours are to be known here")
    return operators.Colorize(shape)


def _rgb(shape: Shape) -> Shape:
    if shape[0] != 1:
        raise InputError(
            f"colorize: the picture has {shape[0]} channels already; give a grey one, or "
            "--task denoise"
        )
    return (3, shape[1], shape[2])


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
    known = read_mask(mask)
    return Task(
        TaskName.INPAINT,
        lambda shape, _: operators.Inpaint(shape, known),
        nominal=(1, known.shape[1], known.shape[2]),
    )


def _random_mask(shape: Shape, missing: float, seed: int, index: int) -> Bool[Tensor, "h w"]:
    """Exactly the wanted share of pixels, not only on average: cards tell tasks apart by it."""
    (stream,) = stream_seeds(seed, [f"mask/{index}"])
    return operators.random_mask(*shape[1:], missing, stream)
