r"""Noise schedules: how much signal and how much noise there is at time :math:`t`.

.. math:: x_t = \alpha(t) x_0 + \sigma(t) e, \qquad e \sim N(0, I)

Every schedule belongs to a linear stochastic differential equation (Song et al. 2021,
arXiv:2011.13456)

.. math:: dx = f(t)\, x\, dt + g(t)\, dw, \qquad f = \frac{d \log\alpha}{dt}, \qquad
          g^2 = \frac{d\sigma^2}{dt} - 2 f \sigma^2 ,

of which :meth:`Schedule.dlog_alpha` is :math:`f` and :meth:`Schedule.diffusion_squared` is
:math:`g^2`. All values are float64; time runs from 0 (clean) to 1 (noise). With
:class:`Multispeed` every coordinate of a picture has a schedule of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from certes.data.fields import of_kinds
from certes.diffusion.schedules.base import Schedule, Time
from certes.diffusion.schedules.cosine import Cosine
from certes.diffusion.schedules.discrete import DiscreteBetas, linear_betas
from certes.diffusion.schedules.multispeed import Multispeed, per_band, per_block, per_pixel
from certes.diffusion.schedules.sde import EDM, VE, VP, SubVP
from certes.diffusion.schedules.still import Still
from certes.errors import InputError

__all__ = [
    "EDM",
    "VE",
    "VP",
    "Cosine",
    "DiscreteBetas",
    "Multispeed",
    "Schedule",
    "Still",
    "SubVP",
    "Time",
    "linear_betas",
    "per_band",
    "per_block",
    "per_pixel",
    "schedule_from_config",
]

_KINDS: dict[str, type[Schedule]] = {
    kind.kind: kind for kind in (VP, SubVP, VE, EDM, Cosine, DiscreteBetas, Still, Multispeed)
}


def schedule_from_config(config: Mapping[str, Any]) -> Schedule:
    """The schedule that :meth:`Schedule.to_config` described.

    Raises:
        InputError: on an unknown kind, or fields that the kind does not have, or of other kinds.
    """
    fields = {name: value for name, value in config.items() if name != "kind"}
    kind = _KINDS.get(str(config.get("kind")))
    if kind is None:
        raise InputError(
            f"schedule: kind {config.get('kind')!r} is unknown; give one of {sorted(_KINDS)}"
        )
    if "schedules" in fields:
        parts: Sequence[Mapping[str, Any]] = fields["schedules"]
        fields["schedules"] = tuple(schedule_from_config(part) for part in parts)
    try:
        return of_kinds(kind(**fields))
    except TypeError as error:
        raise InputError(f"schedule: fields {sorted(fields)} do not fit {kind.kind!r}") from error
