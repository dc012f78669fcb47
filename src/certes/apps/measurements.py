"""Files read as measurements: by an operator, under noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.apps.kernel_spec import AUTO
from certes.apps.options import TaskName, TaskOptions
from certes.apps.origins import Measured
from certes.apps.sources import Reader, Source
from certes.apps.tasks import Task, deblur, jpeg, make_task, noise_level
from certes.data.jpeg_header import read_jpeg_header
from certes.data.measurements import SUFFIX, read_measurement
from certes.data.pictures import Picture, read_picture
from certes.data.raster import check_size
from certes.errors import InputError
from certes.restoration import operators
from certes.restoration.blur_width import estimate_blur_width
from certes.restoration.noise import QUANTISATION, measure_noise
from certes.restoration.operators.jpeg_tables import luma_table
from certes.restoration.request import Noise
from certes.restoration.signal_noise import measure_signal_noise

AUTOMATIC, POISSON = "auto", "poisson"


@dataclass(frozen=True)
class MeasurementReader(Reader[Measured]):
    """Reads files as measurements of a task.

    Args:
        options: the task.
        asked: its noise: ``auto``, ``poisson``, or a standard deviation.
    """

    options: TaskOptions
    asked: str

    @property
    def name(self) -> str:
        return self.options.name

    @property
    def noise(self) -> float | None:
        """As told.

        Raises: InputError for anything but a number that can be one.
        """
        if self.asked == POISSON and self.options.name is not TaskName.DENOISE:
            raise InputError("noise: poisson is estimated for --task denoise only; give a number")
        if self.asked in (AUTOMATIC, POISSON):
            return 0.0 if self.options.name is TaskName.JPEG else None
        try:
            return float(self.asked)
        except ValueError as error:
            raise InputError(
                f"noise: {self.asked!r}; give a number, values in [0, 1], or auto or poisson"
            ) from error

    @property
    def estimates_noise(self) -> bool:
        return self.noise is None

    def nominal(self) -> Measured | None:
        """As the base class.

        Raises: InputError for options that make no sense.
        """
        task, level = self._fixed_task(), self.noise
        if task is None or level is None:
            return None
        return Measured(task.operator(task.nominal, 0), level)

    def check(self) -> None:
        """Refuse what no picture could be restored with.

        Raises: InputError for senseless options, an estimate where there can be none, or a noise
            level that is none.
        """
        if self.options.name is TaskName.INPAINT and self.options.mask is None:
            raise InputError(
                "mask: --task inpaint needs --mask PNG, white where pixels are known, black "
                "elsewhere"
            )
        task = self._fixed_task()
        if self.options.name is TaskName.INPAINT and self.asked in (AUTOMATIC, POISSON):
            raise InputError(
                "noise: it cannot be estimated from a picture with holes: give --noise SIGMA, "
                "values in [0, 1], for example 0.02"
            )
        level = self.noise
        if task is not None and level is not None:
            noise_level(task, level)

    def __call__(self, path: Path) -> Source[Measured]:
        """Read one file.

        Raises: InputError for a file that cannot be such a measurement.
        """
        if self.options.name is TaskName.COMPRESSED_SENSING:
            return self._mixture(path)
        picture = read_picture(path, noisy=True)
        y = picture.pixels[None]
        noise = self._noise_of(y)
        task = self._task(path, y, noise)
        channels, height, width = y.shape[1:]
        _, fine_height, fine_width = task.behind((channels, height, width))
        check_size(path, fine_width, fine_height)
        return Source(picture, y, Measured(task.operator_behind(y), noise))

    def _fixed_task(self) -> Task | None:
        """The task, where it is the same for every file.

        Raises: InputError for options that make no sense.
        """
        if self.options.kernel == AUTO and self.options.name is TaskName.DEBLUR:
            return None
        if self.options.name is TaskName.JPEG and self.options.quality is None:
            return None
        return make_task(self.options)

    def _noise_of(self, y: Float[Tensor, "1 c h w"]) -> Noise:
        level = self.noise
        if level is not None:
            return level
        if self.asked == POISSON:
            return measure_signal_noise(y[0])
        estimate = measure_noise(y)
        return replace(estimate, level=estimate.level.clamp(min=QUANTISATION))

    def _task(self, path: Path, y: Float[Tensor, "1 c h w"], noise: Noise) -> Task:
        task = self._fixed_task()
        if task is not None:
            return task
        if self.options.name is TaskName.JPEG:
            header = read_jpeg_header(path)
            return jpeg(_quality(path, header.luma), header.subsampling)
        level = noise if isinstance(noise, float) else float(measure_noise(y).level)
        width = estimate_blur_width(y, torch.tensor([level]))
        return deblur(operators.gaussian_kernel(float(width.sigma)))

    def _mixture(self, path: Path) -> Source[Measured]:
        if path.suffix != SUFFIX:
            raise InputError(
                f"{path}: compressed sensing measures no picture; give the {SUFFIX} file that "
                "certes degrade writes"
            )
        file = read_measurement(path)
        said = dict(file.operator)
        if said.pop("name", None) != TaskName.COMPRESSED_SENSING:
            raise InputError(f"{path}: measured by {file.operator.get('name')!r}, not by this task")
        H = _mixing(path, said)
        level = file.noise if self.asked == AUTOMATIC else self.noise
        if level is None:
            raise InputError(f"{path}: the file does not say its noise; give --noise SIGMA")
        name = file.name.removesuffix(".measured")
        like = Picture(name, torch.zeros(H.in_shape), None, "uint8")
        return Source(like, H.observed(file.y[None]), Measured(H, level))


def _mixing(path: Path, said: dict[str, Any]) -> operators.CompressedSensing:
    """The operator that a measurement file tells of."""
    try:
        channels, height, width = said.pop("shape")
        check_size(path, width, height)
        return operators.CompressedSensing((channels, height, width), **said)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(
            f"{path}: tells of no operator that this task has ({error}); certes degrade writes "
            "such files"
        ) from error


def _quality(path: Path, luma: tuple[int, ...]) -> int:
    """The quality whose standard table this is."""
    for quality in range(1, 101):
        if bool((luma_table(quality).flatten() == torch.tensor(luma)).all()):
            return quality
    raise InputError(
        f"{path}: compressed with tables of its own, not with the standard ones of a quality; "
        "give the nearest --quality"
    )
