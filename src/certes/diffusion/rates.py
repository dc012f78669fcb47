r"""What a model expects to spend: bits per value from pure noise down to a noise level.

Down a fine grid the chain spends what the denoiser's error says it must (the I-MMSE relation, Guo,
Shamai and Verdu 2005, in the form that Kingma et al. 2021 use for diffusion),

.. math:: R(\sigma) = \frac{1}{2 \ln 2} \int_0^{1/\sigma^2} mse(\gamma)\, d\gamma ,
          \qquad \gamma = 1 / \sigma^2 ,

so that the squared errors, measured once, tell the rates of every grid, and nothing about them has
to be sent with a picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoised, Denoiser
from certes.errors import ModelError

Level = float | Tensor


@dataclass(frozen=True)
class RateCurve:
    """Errors and tails at a few noise levels, measured on training pictures; float64.

    Args:
        levels: noise levels, increasing, image units.
        mse: mean squared error of ``E[x_0 | x]`` per value, image units squared.
        tail: bits per value of 8-bit pictures coded directly from ``x`` at that level.

    Raises:
        ModelError: if these are not as many positive finite numbers each, at least two.
    """

    levels: Float[Tensor, " l"]
    mse: Float[Tensor, " l"]
    tail: Float[Tensor, " l"]

    def __post_init__(self) -> None:
        table = (self.levels, self.mse, self.tail)
        fits = self.levels.ndim == 1 and len(self.levels) > 1
        fits = fits and all(column.shape == self.levels.shape for column in table)
        fits = fits and all(bool((c.isfinite() & (c > 0)).all()) for c in table)
        if not fits or not bool((self.levels.diff() > 0).all()):
            raise ModelError(
                f"rates: levels, mse, tail of shapes {[tuple(c.shape) for c in table]}; give "
                "equally many positive finite numbers, the levels increasing"
            )

    def mse_at(self, sigma: Level) -> Float[Tensor, " ..."]:
        """``mse`` as a power of the level between the measured ones, constant beyond them."""
        return self._interpolated(self.mse.log(), sigma).exp()

    def tail_at(self, sigma: Level) -> Float[Tensor, " ..."]:
        """``tail``, linear in the logarithm of the level, constant beyond the measured ones."""
        return self._interpolated(self.tail, sigma)

    def rate(self, sigma: Level) -> Float[Tensor, " ..."]:
        """Bits per value that an ideal chain of short steps spends down to ``sigma``.

        Above the highest level the error counts as constant, below the lowest one, too.
        """
        snr, mse = self.levels.flip(0) ** -2, self.mse.flip(0)
        areas = _power_law_area(snr[:-1], mse[:-1], snr[1:], mse[1:])
        known = torch.cat([(snr[0] * mse[0]).reshape(1), areas]).cumsum(0)
        wanted = torch.as_tensor(sigma, dtype=torch.float64) ** -2
        below = (torch.searchsorted(snr, wanted, right=True) - 1).clamp(min=0)
        start = torch.minimum(snr[below], wanted)
        area = _power_law_area(start, self.mse_at(start**-0.5), wanted, self.mse_at(sigma))
        outside = known[0] * wanted / snr[0]
        total = torch.where(wanted <= snr[0], outside, known[below] + area)
        return total / (2 * math.log(2))

    def to_dict(self) -> dict[str, list[float]]:
        """A JSON-able description that :meth:`from_dict` understands."""
        return {f.name: getattr(self, f.name).tolist() for f in fields(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RateCurve:
        """The curve that :meth:`to_dict` described.

        Raises:
            ModelError: if a column is missing or holds no numbers.
        """
        try:
            columns = [torch.tensor(content[f.name], dtype=torch.float64) for f in fields(cls)]
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"rates: no table of levels, mse and tail ({error})") from error
        return cls(*columns)

    def _interpolated(self, values: Float[Tensor, " l"], sigma: Level) -> Float[Tensor, " ..."]:
        knots = self.levels.log()
        position = torch.as_tensor(sigma, dtype=torch.float64).log().clamp(knots[0], knots[-1])
        upper = torch.searchsorted(knots, position).clamp(1, len(knots) - 1)
        share = (position - knots[upper - 1]) / (knots[upper] - knots[upper - 1])
        return torch.lerp(values[upper - 1], values[upper], share)


def error_variance(
    denoiser: Denoiser, denoised: Denoised, sigma: Float[Tensor, " b"], mse: Level
) -> Float[Tensor, "b c h w"]:
    """``Var[x_0 | x]`` of every pixel as far as it is known, image units squared, float64.

    The diagonal of the measured covariance if there is one, else what the denoiser says, else
    ``mse``, the same for all.
    """
    try:
        variance = denoiser.covariance(denoised, sigma).diagonal()
    except ModelError:  # a model without measured residuals, as its contract says
        variance = torch.as_tensor(mse) if denoised.variance is None else denoised.variance
    return variance.to(denoised.mean.device, torch.float64).expand_as(denoised.mean)


def _power_law_area(a: Tensor, m_a: Tensor, b: Tensor, m_b: Tensor) -> Tensor:
    """The integral from ``a`` to ``b`` of the power law through ``(a, m_a)`` and ``(b, m_b)``."""
    length = (b / a).log()
    exponent = length + (m_b / m_a).log()
    growth = torch.where(exponent.abs() > 1e-6, torch.expm1(exponent) / exponent, 1 + exponent / 2)
    return m_a * a * length * growth
