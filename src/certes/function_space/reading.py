r"""How an operator network's inputs and answers are read: units, noise levels, predictions.

A function :math:`z_0` (network units) is seen as :math:`T(z_0 + \rho\, \xi)` with white noise of
level :math:`\rho` for each unit of area. Mollified noise has the standard deviation :math:`s(x)`
(.376 for a width of .75, more at borders), so with the local ratio :math:`r = \rho\, s(x)` the
network sees, and predicts, values of unit variance:

.. math:: \frac{T(z_0 + \rho \xi)}{\sqrt{1 + r^2}}, \qquad n = \frac{T \xi}{s}, \qquad
          v = \frac{n - r\, T z_0}{\sqrt{1 + r^2}} .

From ``noise`` (the paper's choice, there without the division by s) and ``v`` follows
:math:`T z_0`; ``x0`` is the prediction of :math:`z_0` itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from certes.data.fields import of_kinds
from certes.diffusion.schedules import Schedule, schedule_from_config
from certes.errors import ModelError
from certes.function_space.coordinates import Lattice
from certes.function_space.mollifier import Mollifier

Prediction = Literal["noise", "x0", "v"]
Values = Float[Tensor, " b *places"]
Scalars = Float[Tensor, " b"]

_LEAST = 1e-6
_FAR = 1e12  # beyond it float32 pictures are no pictures, and their file is damaged


@dataclass(frozen=True)
class Reading:
    """Units and process of an operator network.

    Args:
        schedule: signal and (unit-variance) noise over the times that the network is told.
        mollifier: :math:`T`; of width 0, this is ordinary diffusion.
        prediction: ``noise``, ``x0`` or ``v``.
        center: image value that the network sees as 0.
        scale: image units for one network unit.
    """

    schedule: Schedule
    mollifier: Mollifier
    prediction: Prediction = "v"
    center: float = 0.5
    scale: float = 0.5

    def __post_init__(self) -> None:
        if self.prediction not in get_args(Prediction):
            raise ModelError(
                f"prediction: {self.prediction!r}; give one of {', '.join(get_args(Prediction))}"
            )
        if not (0 < self.scale < _FAR and abs(self.center) < _FAR):
            raise ModelError(
                f"center, scale: {self.center}, {self.scale}; give numbers below {_FAR:g}, the "
                "scale above 0"
            )

    def level(self, t: Scalars) -> Scalars:
        r""":math:`\rho` of a time, float64."""
        return self.schedule.noise_level(t) / self.mollifier.typical_deviation()

    def time(self, level: Scalars) -> Scalars:
        """The time of a noise level, float64; beyond the schedule's ends, the end.

        Args:
            level: white noise of one unit of area, network units.
        """
        ends = self.schedule.noise_level(torch.tensor([0.0, 1.0]))
        ratio = level.double() * self.mollifier.typical_deviation()
        ratio = ratio.clamp(max(float(ends[0]), _LEAST), float(ends[1]))
        return self.schedule.time(-2 * ratio.log())

    def told(self, t: Scalars) -> Scalars:
        """What the network is told of a time."""
        return 1000 * t

    def deviation(self, lattice: Lattice) -> Float[Tensor, "1 1 h w"]:
        """:math:`s(x)` at every pixel, float32."""
        variance = self.mollifier.variance(lattice.shape, lattice.pitch)
        # White noise of one unit of area is 1 / pitch for each pixel; the variance counts that.
        return variance.sqrt().float()[None, None]

    def normalised(self, x0: Values) -> Values:
        """Image units to network units."""
        return (x0 - self.center) / self.scale

    def image(self, z0: Values) -> Values:
        """Network units to image units."""
        return self.center + self.scale * z0

    def seen(self, mollified: Values, ratio: Values) -> Values:
        r"""What the network sees.

        Args:
            mollified: :math:`T(z_0 + \rho \xi)`.
            ratio: :math:`r` there.
        """
        return mollified * (1 + ratio**2).rsqrt()

    def target(self, z0: Values, mollified: Values, noise: Values, ratio: Values) -> Values:
        """What it should answer.

        Args:
            z0: clean functions.
            mollified: :math:`T z_0`.
            noise: :math:`n`.
            ratio: :math:`r`.
        """
        match self.prediction:
            case "noise":
                return noise
            case "x0":
                return z0
            case "v":
                return (noise - ratio * mollified) * (1 + ratio**2).rsqrt()

    def clean(self, seen: Values, answer: Values, ratio: Values) -> Values:
        """What its answer says of :math:`T z_0`, or of :math:`z_0` where it predicts that."""
        size = (1 + ratio**2).sqrt()
        match self.prediction:
            case "noise":
                return seen * size - ratio * answer
            case "x0":
                return answer
            case "v":
                return (seen - ratio * answer) / size

    def weight(self, ratio: Values) -> Values:
        """How much of the error of an answer is the error of :meth:`clean`."""
        match self.prediction:
            case "noise":
                return ratio
            case "x0":
                return torch.ones_like(ratio)
            case "v":
                return ratio * (1 + ratio**2).rsqrt()

    def to_config(self) -> dict[str, Any]:
        """A JSON-able description."""
        return {
            "schedule": self.schedule.to_config(),
            "mollifier_width": self.mollifier.width,
            "prediction": self.prediction,
            "center": self.center,
            "scale": self.scale,
        }


def reading_from_config(config: dict[str, Any]) -> Reading:
    """The reading that :meth:`Reading.to_config` described.

    Raises:
        ModelError: for keys that are missing, or values that are none.
    """
    try:
        made = Reading(
            schedule_from_config(config["schedule"]),
            Mollifier(config["mollifier_width"]),
            config["prediction"],
            config["center"],
            config["scale"],
        )
        return of_kinds(made)
    except KeyError as error:
        raise ModelError(f"reading: {error} is missing") from error
    except TypeError as error:
        raise ModelError(f"reading: {error}") from error
