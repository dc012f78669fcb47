"""What the training run of a function-space model depends on, its pictures aside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from certes.diffusion.schedules import schedule_from_config
from certes.errors import InputError
from certes.function_space.config import OperatorConfig
from certes.function_space.coordinates import Sequences
from certes.function_space.mollifier import Mollifier
from certes.function_space.reading import Prediction, Reading
from certes.networks.config import UNetConfig
from certes.training.config import RunConfig


@dataclass(frozen=True, kw_only=True)
class FunctionConfig(RunConfig):
    """One training run of a model of functions; what is not here is :class:`RunConfig`'s.

    Args:
        network: keys of an :class:`~certes.function_space.config.OperatorConfig`.
        share: of the pixels of each patch that a step looks at.
        sequence: how they are chosen: ``uniform`` or ``low-discrepancy``.
        mollifier_width: training pixels; 0: white-noise diffusion.
        schedule: keys of a noise schedule, with its ``kind``.
        prediction: ``noise``, ``x0`` or ``v`` (:mod:`certes.function_space.reading`).
        center, scale: image value seen as 0, and image units for one network unit.
        withheld: share of the functions whose code the network is not told, so that it learns to
            do without.

    Raises:
        InputError: for a share that is none, or patches that are not the network's domain.
    """

    share: float = 0.25
    sequence: Sequences = "uniform"
    mollifier_width: float = 0.75
    schedule: dict[str, Any] = field(default_factory=lambda: {"kind": "cosine"})
    prediction: Prediction = "v"
    center: float = 0.5
    scale: float = 0.5
    withheld: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise InputError(f"share: {self.share}; give a share of the pixels, in (0, 1]")
        if not 0 <= self.withheld <= 1:
            raise InputError(f"withheld: {self.withheld}; give a share, in [0, 1]")
        if self.operator().domain != self.patch:
            raise InputError(
                f"patch: {self.patch} pixels; the network's domain is {self.operator().domain}"
            )

    def operator(self) -> OperatorConfig:
        """The network's shape."""
        return OperatorConfig.from_dict(self.network)

    @property
    def channels(self) -> int:
        """Of the functions."""
        return self.operator().channels

    def unet(self) -> UNetConfig:
        """The shape of the part on the fixed grid."""
        return self.operator().grid_unet()

    def reading(self) -> Reading:
        """How the network is read."""
        return Reading(
            schedule_from_config(self.schedule),
            Mollifier(self.mollifier_width),
            self.prediction,
            self.center,
            self.scale,
        )
