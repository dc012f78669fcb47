"""Where what a user hands in came from: how it is restored, compared with a truth, and shown.

Most of it was measured by an operator, under noise; conditional models are given conditions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from certes.apps.asking import GivenModel
from certes.conditional.restore import label_of
from certes.conditional.tasks import ConditionalTask, Drawing, Labels
from certes.conditional.tasks import Measured as MeasuredTask
from certes.intervals.bounds import Bounds
from certes.restoration.operators import Inpaint, LinearOperator, Operator, ValidBlur
from certes.restoration.request import Noise, operator_label, typical_level

Picture = Float[Tensor, "b c h w"]
Shape = tuple[int, int, int]


class Origin(ABC):
    """How some ``y`` came from pictures."""

    @property
    @abstractmethod
    def label(self) -> str:
        """It, in words, as reports have it."""

    @property
    @abstractmethod
    def level(self) -> float | None:
        """Its noise as one number, image units; None where it has none to speak of."""

    @abstractmethod
    def restored_shape(self, y: Float[Tensor, "b ..."]) -> Shape:
        """(C, H, W) of the restorations that users get."""

    @abstractmethod
    def seen(self, y: Float[Tensor, "b ..."]) -> Picture:
        """``y`` as panels show it: in [0, 1], NaN where nothing was measured."""

    @abstractmethod
    def degraded(self, y: Float[Tensor, "b ..."]) -> Picture | None:
        """``y`` as a picture of full size, to compare restorations with; None if it is none."""

    def inner(self, pixels: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
        """The part of a true picture that is restored."""
        return pixels

    def framed(self, bounds: Bounds) -> Bounds:
        """The part of bounds that users get."""
        return bounds


@dataclass(frozen=True)
class Measured(Origin):
    """A measurement.

    Args:
        operator: what measured it.
        noise: of the measurement, as `certes.restore` takes it.
    """

    operator: Operator
    noise: Noise

    @property
    def label(self) -> str:
        return operator_label(self.operator)

    @property
    def level(self) -> float:
        return typical_level(self.noise)

    def restored_shape(self, y: Float[Tensor, "b ..."]) -> Shape:
        if not isinstance(self.operator, ValidBlur):
            return self.operator.in_shape
        channels, height, width = y.shape[1:]
        return channels, height, width

    def seen(self, y: Float[Tensor, "b ..."]) -> Picture:
        """What is no picture is shown as the smallest picture that explains it."""
        H = self.operator
        if y.ndim != 4 and isinstance(H, LinearOperator):
            y = H.pinv(y)
        shown = y.clamp(0, 1)
        return torch.where(H.mask, shown, torch.nan) if isinstance(H, Inpaint) else shown

    def degraded(self, y: Float[Tensor, "b ..."]) -> Picture:
        H = self.operator
        if isinstance(H, LinearOperator) and y.shape[1:] != H.in_shape:
            return H.pinv(y)
        return y

    def inner(self, pixels: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
        """Without a border that only the blur reached, where the picture has one."""
        H = self.operator
        if isinstance(H, ValidBlur) and tuple(pixels.shape) == H.in_shape:
            return H.interior(pixels[None])[0]
        return pixels

    def framed(self, bounds: Bounds) -> Bounds:
        """Without a border that only the blur reached."""
        H = self.operator
        if not isinstance(H, ValidBlur):
            return bounds
        return replace(
            bounds,
            lower=H.interior(bounds.lower),
            estimate=H.interior(bounds.estimate),
            upper=H.interior(bounds.upper),
        )


@dataclass(frozen=True)
class Given(Origin):
    """A condition.

    Args:
        model: whose conditions these are.
    """

    model: GivenModel

    @property
    def label(self) -> str:
        return label_of(self.model.task)

    @property
    def level(self) -> float | None:
        return settled_noise(self.model.task)

    def restored_shape(self, y: Float[Tensor, "b ..."]) -> Shape:
        return self.model.task.picture_shape(y, self.model.channels)

    def seen(self, y: Float[Tensor, "b ..."]) -> Picture:
        """Labels without their outlines; any other that no screen has colours for, by its mean."""
        if isinstance(self.model.task, Labels):
            y = y[:, :1] - y[:, 1:]
        elif y.shape[1] not in (1, 3):
            y = y.mean(dim=1, keepdim=True)
        return y.clamp(0, 1)

    def degraded(self, y: Float[Tensor, "b ..."]) -> Picture | None:
        task = self.model.task
        if isinstance(task, MeasuredTask) and not isinstance(task, Drawing):
            return task.shown(y)[:, : self.model.channels]
        return None


def settled_noise(task: ConditionalTask) -> float | None:
    """The noise of a task's conditions, image units; None where nothing measures them."""
    return task.noise if isinstance(task, MeasuredTask) else None
