"""What was filled in on the page, as options of the command line."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from certes.apps.asking import is_conditional
from certes.apps.options import (
    DEFAULT_NOISE,
    Asked,
    AskedTaskName,
    SamplingOptions,
    TaskName,
    TaskOptions,
)
from certes.apps.web.limits import MOST_SAMPLES, MOST_STEPS
from certes.errors import InputError

AUTO = "auto"
DEGRADED_QUALITY = 10
_MOST = {"samples": MOST_SAMPLES, "steps": MOST_STEPS, "factor": 64, "quality": 100}
_WIDEST = 360
"""The largest number in a kernel, which costs memory: pixels, or degrees."""
TAKES: dict[TaskName, tuple[str, ...]] = {
    TaskName.DENOISE: (),
    TaskName.SUPER_RESOLVE: ("factor", "kernel"),
    TaskName.INPAINT: ("mask",),
    TaskName.DEBLUR: ("kernel",),
    TaskName.COLORIZE: (),
    TaskName.COMPRESSED_SENSING: (),
    TaskName.JPEG: ("quality",),
}
"""The fields that a task shows."""


@dataclass(frozen=True)
class Form:
    """The fields of the page; where a task does not show one, its value counts for nothing.

    Args:
        task: what happened to the picture.
        factor, kernel, quality, noise: as the options of ``certes restore``; empty is the default.
        model: one of those that the server offers.
        samples, steps, alpha, seed: as the options of ``certes restore``.
        degrade: whether the picture is clean, and to be degraded first.
    """

    task: str
    factor: float | None
    kernel: str
    quality: float | None
    noise: str
    model: str
    samples: float | None
    steps: float | None
    alpha: float | None
    seed: float | None
    degrade: bool

    def check(self, models: tuple[str, ...]) -> None:
        """Refuse what no slider of the page can say.

        Raises: InputError.
        """
        if self.model not in models:
            raise InputError(f"model: {self.model!r}; this page offers {', '.join(models)}")
        if self.task not in list(TaskName):
            raise InputError(f"task: {self.task!r}; give one of {', '.join(TaskName)}")
        for name, most in _MOST.items():
            value = getattr(self, name)
            empty = value is None and name in ("factor", "quality")
            if not empty and not 1 <= _whole(name, value) <= most:
                raise InputError(f"{name}: {value:g}; this page takes 1 to {most}")
        _whole("seed", self.seed)
        if not isinstance(self.alpha, float | int):
            raise InputError("alpha: none given; give a share of pixels, for example 0.1")
        if self.degrade and is_conditional(self.model):
            raise InputError(
                f"degrade: {self.model} is a conditional model, given conditions and not pictures "
                "that certes degrade makes: take another model, or upload a condition"
            )

    @property
    def shown_task(self) -> TaskName:
        """The task."""
        return TaskName(self.task)

    def asked(self, mask: Path | None) -> Asked:
        """What is said of the picture; a conditional model is only told of a mask."""
        if is_conditional(self.model):
            return Asked(None, mask=mask if self.task == TaskName.INPAINT else None)
        own = self._own(mask)
        return Asked(
            AskedTaskName(self.task),
            own.factor,
            own.kernel,
            own.mask,
            quality=own.quality,
            noise=self.noise.strip() or AUTO,
        )

    def sampling(self) -> SamplingOptions:
        """How it is to be restored."""
        return SamplingOptions(
            self.model,
            _whole("samples", self.samples),
            _whole("steps", self.steps),
            self.alpha or 0.0,
            _whole("seed", self.seed),
            None,
            None,
        )

    def degrading(self, mask: Path | None) -> TaskOptions:
        """What is done to a clean picture first."""
        return self._own(mask)

    def added_noise(self) -> float:
        """Of what is done to a clean picture first: as said, else the task's own.

        Raises: InputError for what is no number.
        """
        said = self.noise.strip() or AUTO
        if said == AUTO:
            return DEFAULT_NOISE[self.shown_task]
        try:
            return float(said)
        except ValueError as error:
            raise InputError(
                f"noise: {said!r}; give a number, values in [0, 1], to add to the picture"
            ) from error

    def _own(self, mask: Path | None) -> TaskOptions:
        takes = TAKES[self.shown_task]
        factor = _whole("factor", self.factor) if self.factor and "factor" in takes else None
        said = self.quality or (DEGRADED_QUALITY if self.degrade else None)
        quality = _whole("quality", said) if said and "quality" in takes else None
        kernel = self.kernel.strip() if "kernel" in takes else ""
        _check_kernel(kernel)
        return TaskOptions(
            self.shown_task,
            factor,
            kernel or None,
            mask if "mask" in takes else None,
            quality=quality,
        )


def _check_kernel(spec: str) -> None:
    """A name and numbers: on the command line it may also be a file, which here would be ours."""
    named = spec and Path(spec).exists()
    numbers = [float(number) for number in re.findall(r"\d+\.?\d*(?:e[+-]?\d+)?", spec.lower())]
    if any(number > _WIDEST for number in numbers):
        raise InputError(f"kernel: {spec[:80]!r}; this page takes numbers up to {_WIDEST}")
    if named or len(spec) > 80 or any(mark in spec for mark in "/\\~\0"):
        raise InputError(
            f"kernel: {spec[:80]!r}; this page takes auto, box, bicubic, gaussian:SIGMA, "
            "uniform:WIDTH, disk:RADIUS, anisotropic:A,B or motion:LENGTH,ANGLE"
        )


def _whole(name: str, value: float | None) -> int:
    if value is None or not math.isfinite(value) or value != int(value):
        raise InputError(f"{name}: {value}; give a whole number")
    return int(value)
