"""What a condition is: how it comes from a picture, and how a network is shown it.

A condition has a form of its own, in which users hold it (a small picture, a picture with holes, a
line drawing), and is brought to the picture's size for the network (Batzolis et al. 2021, section
4): small pictures by repeating pixels, holes by zeros.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from certes.data.fields import of_kinds
from certes.errors import InputError
from certes.restoration.operators import (
    Blur,
    Denoise,
    Edges,
    Inpaint,
    Operator,
    SuperResolution,
    gaussian_kernel,
)

Picture = Float[Tensor, "b c h w"]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class ConditionalTask(ABC):
    """A kind of condition."""

    kind: ClassVar[str]

    def channels(self, picture: int) -> int:
        """Channels of a condition as the network sees it, for pictures of ``picture`` channels."""
        return picture

    @abstractmethod
    def measure(self, x: Picture, generator: torch.Generator) -> Float[Tensor, "b ..."]:
        """Conditions of pictures in image units, in the form that users hold.

        Args:
            x: pictures.
            generator: of all that is random, on the device of ``x``.
        """

    @abstractmethod
    def shown(self, y: Float[Tensor, "b ..."]) -> Picture:
        """Conditions in users' form as the network sees them, image units.

        Raises:
            InputError: for values that cannot be such conditions.
        """

    def patch_channels(self, picture: int) -> int:
        """Channels of a training patch, for pictures of ``picture`` channels."""
        return picture

    def split(
        self, patches: Picture, picture: int, generator: torch.Generator
    ) -> tuple[Picture, Float[Tensor, "b ..."]]:
        """Training patches as pictures and conditions in users' form.

        Args:
            patches: of :meth:`patch_channels` channels, the picture's first.
            picture: channels of a picture.
            generator: of what is random in the conditions.
        """
        return patches, self.measure(patches, generator)

    def picture_shape(self, y: Float[Tensor, "b ..."], channels: int) -> Shape:
        """(C, H, W) of the picture behind a condition in users' form."""
        return (channels, y.shape[-2], y.shape[-1])

    def to_config(self) -> dict[str, Any]:
        """A JSON-able description that :func:`task_from_config` understands."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Measured(ConditionalTask):
    """Conditions that an operator measures, with or without noise.

    Args:
        noise: standard deviation of the measurement noise, image units.

    Raises:
        InputError: if that is negative.
    """

    noise: float = 0.0

    def __post_init__(self) -> None:
        if not self.noise >= 0:
            raise InputError(f"noise: {self.noise}; give a standard deviation, 0 or more")

    @abstractmethod
    def operator(self, shape: Shape, generator: torch.Generator) -> Operator:
        """An operator for pictures (C, H, W)."""

    def measure(self, x: Picture, generator: torch.Generator) -> Float[Tensor, "b ..."]:
        channels, height, width = x.shape[1:]
        y = self.operator((channels, height, width), generator)(x)
        return y + self.noise * _normal(y, generator) if self.noise > 0 else y

    def shown(self, y: Float[Tensor, "b ..."]) -> Picture:
        return y


@dataclass(frozen=True)
class Denoising(Measured):
    """The picture with noise."""

    kind: ClassVar[str] = "denoise"
    noise: float = 0.1

    def operator(self, shape: Shape, generator: torch.Generator) -> Operator:
        return Denoise(shape)


@dataclass(frozen=True)
class SuperResolving(Measured):
    """A smaller picture, low-pass filtered by an antialiased bicubic kernel (as MATLAB's).

    Args:
        factor: how many times smaller.
    """

    kind: ClassVar[str] = "super-resolve"
    factor: int = 8

    def operator(self, shape: Shape, generator: torch.Generator) -> Operator:
        return SuperResolution(shape, self.factor, "bicubic")

    def shown(self, y: Picture) -> Picture:
        return y.repeat_interleave(self.factor, dim=2).repeat_interleave(self.factor, dim=3)

    def picture_shape(self, y: Picture, channels: int) -> Shape:
        return (channels, y.shape[-2] * self.factor, y.shape[-1] * self.factor)


@dataclass(frozen=True)
class Deblurring(Measured):
    """The picture blurred by a Gaussian; it continues beyond its border as its mirror image.

    Args:
        sigma: width of the Gaussian, pixels.
    """

    kind: ClassVar[str] = "deblur"
    sigma: float = 2.0

    def operator(self, shape: Shape, generator: torch.Generator) -> Operator:
        return Blur(shape, gaussian_kernel(self.sigma))


@dataclass(frozen=True)
class Inpainting(Measured):
    """The picture with a square hole at a random place; NaN marks what is missing.

    Args:
        share: of the pixels in the hole.
        mask: whether the network is shown, as a channel more, which pixels are known (the authors
            do not; it then has to tell holes from black).

    Raises:
        InputError: for a share outside (0, 1).
    """

    kind: ClassVar[str] = "inpaint"
    share: float = 0.25
    mask: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share < 1:
            raise InputError(f"share: {self.share}; give a share of the pixels, in (0, 1)")

    def channels(self, picture: int) -> int:
        return picture + self.mask

    def operator(self, shape: Shape, generator: torch.Generator) -> Operator:
        (known,) = self._known(1, shape, generator)
        return Inpaint(shape, known.cpu())

    def measure(self, x: Picture, generator: torch.Generator) -> Picture:
        channels, height, width = x.shape[1:]
        known = self._known(len(x), (channels, height, width), generator)[:, None]
        y = x + self.noise * _normal(x, generator) if self.noise > 0 else x
        return torch.where(known, y, torch.nan)

    def shown(self, y: Picture) -> Picture:
        known = y.isfinite()
        filled = torch.where(known, y, 0.0)
        if not self.mask:
            return filled
        return torch.cat([filled, known[:, :1].to(y)], dim=1)

    def _known(
        self, count: int, shape: Shape, generator: torch.Generator
    ) -> Float[Tensor, "count h w"]:
        """A hole in each of ``count`` masks."""
        _, height, width = shape
        side = int(math.sqrt(self.share * height * width))
        if side > min(height, width):
            raise InputError(
                f"share: {self.share} of {height} x {width} pixels is a square of {side} a side; "
                "give a smaller share, or pictures that are nearer to squares"
            )
        device = generator.device
        top, left = (
            torch.randint(size - side + 1, (count, 1, 1), generator=generator, device=device)
            for size in (height, width)
        )
        row = torch.arange(height, device=device)[:, None]
        column = torch.arange(width, device=device)
        inside = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
        return ~inside


@dataclass(frozen=True)
class Drawing(Measured):
    """A line drawing: the picture's edges (:class:`~certes.restoration.operators.Edges`).

    Args:
        sigma: the detector's smoothing, pixels.
        threshold: the faintest step that is an edge, image units.
    """

    kind: ClassVar[str] = "edges"
    sigma: float = 1.0
    threshold: float = 0.1

    def channels(self, picture: int) -> int:
        return 1

    def operator(self, shape: Shape, generator: torch.Generator) -> Operator:
        return Edges(shape, self.sigma, self.threshold)


@dataclass(frozen=True)
class Paired(ConditionalTask):
    """Conditions that come with the pictures, in a file beside each (labels, drawings by hand).

    Args:
        condition_channels: how many channels they have.
    """

    kind: ClassVar[str] = "paired"
    condition_channels: int = 2

    def channels(self, picture: int) -> int:
        return self.condition_channels

    def measure(self, x: Picture, generator: torch.Generator) -> Float[Tensor, "b ..."]:
        raise InputError("task: 'paired' conditions are not made from pictures; give them")

    def patch_channels(self, picture: int) -> int:
        return picture + self.condition_channels

    def split(
        self, patches: Picture, picture: int, generator: torch.Generator
    ) -> tuple[Picture, Picture]:
        return patches[:, :picture], patches[:, picture:]

    def shown(self, y: Picture) -> Picture:
        return y


@dataclass(frozen=True)
class Labels(Paired):
    """Instance labels: inside of an object, and its outline (see :mod:`certes.data.pairs`)."""

    kind: ClassVar[str] = "labels"


TASKS: dict[str, type[ConditionalTask]] = {
    task.kind: task
    for task in (Denoising, SuperResolving, Deblurring, Inpainting, Drawing, Paired, Labels)
}


def task_from_config(config: Mapping[str, Any]) -> ConditionalTask:
    """The task that :meth:`ConditionalTask.to_config` described.

    Raises:
        InputError: on an unknown kind, or fields that the kind does not have, or of other kinds.
    """
    fields = {name: value for name, value in config.items() if name != "kind"}
    task = TASKS.get(str(config.get("kind")))
    if task is None:
        raise InputError(f"task: kind {config.get('kind')!r}; give one of {', '.join(TASKS)}")
    try:
        return of_kinds(task(**fields))
    except TypeError as error:
        raise InputError(f"task: fields {sorted(fields)} do not fit {task.kind!r}") from error


def checked_conditions(task: ConditionalTask, y: Tensor) -> Picture:
    """Conditions in users' form as the network sees them.

    Raises:
        InputError: for what is no batch of finite conditions.
    """
    if y.ndim != 4 or y.numel() == 0:
        raise InputError(f"y: shape {tuple(y.shape)}; wanted a batch (B, C, H, W) of conditions")
    if not y.is_floating_point():
        # Noise levels of its type would be whole numbers, and the answers wrong.
        raise InputError(f"y: {y.dtype}; wanted float values in [0, 1]: convert it first")
    shown = task.shown(y)
    if not bool(shown.isfinite().all()):
        raise InputError(
            f"y: not finite; only 'inpaint' marks what is missing by NaN, this is a model for "
            f"{task.kind!r}"
        )
    return shown


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=generator.device).to(like)
