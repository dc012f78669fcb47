r"""Which block diffuses how fast: the estimators of the conditional score, behind one class.

.. math:: x_t = \alpha_x x_0 + \sigma_x(t) e, \qquad y_t = \alpha_y y + \sigma_y(t) h

* CDE: y stays clean and is only an input (Saharia et al. 2021).
* CDiffE: y diffuses as fast as x (Song et al. 2021).
* CMDE: y diffuses at a speed of its own (Batzolis et al. 2021); CDE and CDiffE are its two ends.
* VS-CMDE: CMDE whose y begins as fast as x and slows down as training goes on.

Whatever diffuses is predicted, too. Schedules are in image units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.conditional.weighting import Velocity, Weighting, weighting_named
from certes.data.fields import of_kinds
from certes.diffusion.schedules import VE, Schedule, Still, schedule_from_config
from certes.errors import InputError

Scalars = Float[Tensor, " b"]

# Image units. The reverse process ends at the first and leaves its own blur behind: half a grey
# level is .5 % of the posterior's width where a pixel is known to five grey levels.
SIGMA_MIN = 0.002


@dataclass(frozen=True)
class Curriculum:
    r"""How y slows down: :math:`\sigma_y^{max}(n) = \frac{K a b}{n (a - b) + K b}`.

    From ``a`` at the first step to ``b`` at step ``K`` (the authors' code; it is a curriculum, the
    objective of every single step is that of a CMDE).

    Args:
        start: ``a``, image units.
        target: ``b``, image units.
        steps: ``K``.

    Raises:
        InputError: unless 0 < target < start and steps > 0.
    """

    start: float
    target: float
    steps: int

    def __post_init__(self) -> None:
        if not (0 < self.target < self.start and self.steps > 0):
            raise InputError(
                f"start, target, steps: {self.start}, {self.target}, {self.steps}; give "
                "start > target > 0 and at least one step"
            )

    def sigma_max(self, step: int) -> float:
        """y's largest noise at a training step; it stays where it is from ``steps`` on."""
        n, a, b = min(step, self.steps), self.start, self.target
        return self.steps * a * b / (n * (a - b) + self.steps * b)


@dataclass(frozen=True)
class Estimator:
    r"""An estimator of the conditional score.

    Args:
        x: the picture's noise.
        y: the condition's noise; ``Still()`` if it has none.
        weighting: of the errors of the scores.
        curriculum: replaces ``y``'s largest noise during training, if y is a ``VE``.
        y_share: what y's errors count beside x's: :math:`\Lambda = diag(\lambda_x, w \lambda_y)`.
            No minimiser depends on it, but a small network spends itself on what counts; only 1
            keeps the likelihood bound of ``mle``.

    Raises:
        InputError: for an x that does not diffuse, a curriculum of anything but a ``VE``, or a
            share that is not positive.
    """

    x: Schedule
    y: Schedule
    weighting: Weighting = field(default_factory=Velocity)
    curriculum: Curriculum | None = None
    y_share: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.x, Still):
            raise InputError("x: 'still' has no noise to draw pictures from; give a VE or VP")
        if not self.y_share > 0:
            raise InputError(f"y_share: {self.y_share}; give a number above 0")
        if self.curriculum is not None and not isinstance(self.y, VE):
            raise InputError(f"curriculum: of {self.y.kind!r}; only a VE's sigma_max can change")

    @property
    def predicts_y(self) -> bool:
        """Whether the condition diffuses, and so is predicted too."""
        return not isinstance(self.y, Still)

    def at(self, step: int) -> Estimator:
        """The estimator that a training step trains."""
        if self.curriculum is None or not isinstance(self.y, VE):
            return self
        return replace(self, y=VE(self.y.sigma_min, self.curriculum.sigma_max(step)))

    def y_level(self, sigma_x: Scalars) -> Scalars:
        """The noise level (sigma / alpha) of y when that of x is ``sigma_x``, image units.

        Beyond the ends of x's schedule it is that of the ends.
        """
        if not self.predicts_y:
            return torch.zeros_like(sigma_x)
        ends = self.x.noise_level(torch.tensor([0.0, 1.0]))
        low, high = max(float(ends[0]), torch.finfo(torch.float32).tiny), float(ends[1])
        t = self.x.time(-2 * sigma_x.double().clamp(low, high).log())
        return self.y.noise_level(t).to(sigma_x)

    def to_config(self) -> dict[str, Any]:
        """A JSON-able description that :func:`estimator_from_config` understands."""
        # Said only where it is not the rule, so that older folders keep their hash.
        share = {} if self.y_share == 1 else {"y_share": self.y_share}
        return {
            "x": self.x.to_config(),
            "y": self.y.to_config(),
            "weighting": self.weighting.name,
            "curriculum": None if self.curriculum is None else vars(self.curriculum),
            **share,
        }


def cde(x: Schedule, weighting: Weighting | None = None) -> Estimator:
    """The conditional denoising estimator."""
    return Estimator(x, Still(), weighting or Velocity())


def cdiffe(x: Schedule, weighting: Weighting | None = None) -> Estimator:
    """The conditional diffusive estimator."""
    return Estimator(x, x, weighting or Velocity())


def cmde(
    x: Schedule, sigma_y: float, weighting: Weighting | None = None, sigma_min: float = SIGMA_MIN
) -> Estimator:
    """The conditional multi-speed diffusive estimator.

    Args:
        x: the picture's noise.
        sigma_y: the condition's largest noise, image units; 0 is the CDE.
        weighting: of the errors.
        sigma_min: the condition's smallest noise, image units.

    Raises:
        InputError: if ``sigma_y`` is neither 0 nor larger than ``sigma_min``.
    """
    if sigma_y == 0:
        return cde(x, weighting)
    return Estimator(x, VE(sigma_min, sigma_y), weighting or Velocity())


def vs_cmde(
    x: Schedule,
    curriculum: Curriculum,
    weighting: Weighting | None = None,
    sigma_min: float = SIGMA_MIN,
) -> Estimator:
    """CMDE trained with a condition that slows down from step to step."""
    return replace(cmde(x, curriculum.target, weighting, sigma_min), curriculum=curriculum)


def estimator_from_config(config: Mapping[str, Any]) -> Estimator:
    """The estimator that :meth:`Estimator.to_config` described.

    Raises:
        InputError: on fields that are missing or make no sense.
    """
    missing = [name for name in ("x", "y", "weighting") if name not in config]
    if missing:
        raise InputError(f"estimator: does not say {', '.join(missing)}")
    curriculum = config.get("curriculum")
    made = Estimator(
        schedule_from_config(config["x"]),
        schedule_from_config(config["y"]),
        weighting_named(config["weighting"]),
        None if curriculum is None else _curriculum(curriculum),
        config.get("y_share", 1.0),
    )
    return of_kinds(made)


def _curriculum(config: Mapping[str, Any]) -> Curriculum:
    try:
        return of_kinds(Curriculum(**config))
    except TypeError as error:
        raise InputError(
            f"curriculum: fields {sorted(config)}; give start, target, steps"
        ) from error
