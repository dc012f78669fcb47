r"""The last step of the bound: :math:`p(x_0 | x_1)`, a Gaussian cut into the bins of an 8-bit file.

.. math:: p(x_0|x_1) = \prod_i \int_{\delta_-(x_0^i)}^{\delta_+(x_0^i)} N(x; \mu^i, \sigma^2)\, dx

(Ho et al. 2020, eq. 13). The bin of grey level ``k`` reaches from ``k - 1/2`` to ``k + 1/2``; those
of 0 and 255 are open, so that the bins of a pixel sum to one.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError

Decoder = Literal["exact", "paper"]
"""``exact``: the normal distribution. ``paper``: its tanh approximation, each probability at least
1e-12, which is what the published numbers of DDPM were computed with."""

GREY = 255
_OFF_GRID = 1e-3  # grey levels by which float32 pixels may miss a whole one
_FLOOR = 1e-12

Picture = Float[Tensor, "b c h w"]


def log_probability(
    x0: Picture, mean: Picture, std: Float[Tensor, " ..."], decoder: Decoder = "exact"
) -> Picture:
    """The log-probability of every pixel of 8-bit pictures, in nats, float64.

    Args:
        x0: pictures, whole multiples of 1/255.
        mean: of the Gaussian of every pixel, image units.
        std: its standard deviation, image units, broadcastable to ``mean``.
        decoder: see :data:`Decoder`.
    """
    level = (x0.double() * GREY).round()
    middle = level / GREY - mean.double()
    lower = torch.where(level == 0, -torch.inf, (middle - 0.5 / GREY) / std)
    upper = torch.where(level == GREY, torch.inf, (middle + 0.5 / GREY) / std)
    return (_log_mass if decoder == "exact" else _log_mass_of_the_paper)(lower, upper)


def check_8bit(x0: Picture) -> None:
    """Refuse pictures that are no 8-bit pictures.

    Raises:
        InputError: if a value is not a whole multiple of 1/255 in [0, 1].
    """
    level = x0.double() * GREY
    worst = float((level - level.round().clamp(0, GREY)).abs().max())
    if not worst < _OFF_GRID:
        raise InputError(
            f"x0: a value is {worst:.3g} grey levels away from those of an 8-bit picture; "
            "give whole multiples of 1/255 in [0, 1]"
        )


def check_decoder(decoder: str) -> None:
    """Refuse an unknown name.

    Raises:
        InputError: if it is unknown.
    """
    if decoder not in get_args(Decoder):
        raise InputError(f"decoder: {decoder!r}; give one of {', '.join(get_args(Decoder))}")


def _log_mass(lower: Tensor, upper: Tensor) -> Tensor:
    """``log(Phi(upper) - Phi(lower))``, relatively exact however far out the interval lies."""
    # Mirrored where it lies above the mean: differences of values near 1 would lose everything.
    mirrored = lower + upper > 0
    low = torch.where(mirrored, -upper, lower)
    high = torch.where(mirrored, -lower, upper)
    log_high = _log_cdf(high)
    return log_high + _log1mexp(_log_cdf(low) - log_high)


def _log_cdf(x: Tensor) -> Tensor:
    return cast(Any, torch.special).log_ndtr(x)


def _log1mexp(x: Tensor) -> Tensor:
    """``log(1 - exp(x))`` for negative ``x`` (Maechler 2012)."""
    return torch.where(x > -math.log(2), (-torch.expm1(x)).log(), torch.log1p(-x.exp()))


def _log_mass_of_the_paper(lower: Tensor, upper: Tensor) -> Tensor:
    return (_tanh_cdf(upper) - _tanh_cdf(lower)).clamp(min=_FLOOR).log()


def _tanh_cdf(x: Tensor) -> Tensor:
    return (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
