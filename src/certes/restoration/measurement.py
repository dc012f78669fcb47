r"""A measurement, and how it looks in its operator's singular basis.

With :math:`H = U S V^T`, :math:`\bar x = V^T x` and :math:`\bar y_i = (U^T y)_i / s_i` (Kawar et
al. 2022, arXiv:2201.11793, section 4), it is one noisy look at every coefficient,

.. math:: \bar y_i = \bar x_i + a_i e_i, \qquad a_i = \sigma_y / s_i,

and :math:`a_i = \infty` for what the operator cannot see.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from certes.restoration.operators.base import DecomposedOperator, Operator


@dataclass(frozen=True)
class Measurement:
    """``y = H x + noise e``.

    Args:
        operator: ``H``.
        y: the measurements.
        noise: standard deviation, image units, of each measurement: one number, or one for every
            value of it.
        copies: how often the whole batch is repeated in it, one copy after another.
    """

    operator: Operator
    y: Float[Tensor, "b ..."]
    noise: Float[Tensor, " b *out"]
    copies: int = 1

    def repeat(self, copies: int) -> Measurement:
        """The whole batch ``copies`` times, one copy after another."""
        return Measurement(
            self.operator,
            self.y.repeat(copies, *[1] * (self.y.ndim - 1)),
            self.noise.repeat(copies, *[1] * (self.noise.ndim - 1)),
            self.copies * copies,
        )


@dataclass(frozen=True)
class SpectralMeasurement:
    """``y = H x + noise e`` in singular coordinates.

    Args:
        operator: ``H``.
        values: ``y_i / s_i``, 0 where unseen, image units.
        levels: ``a_i``, infinite where unseen, image units; one row serves all pictures that
            were measured with the same noise.
    """

    operator: DecomposedOperator
    values: Float[Tensor, "b n"]
    levels: Float[Tensor, "#b n"]


def measure(
    operator: DecomposedOperator, y: Float[Tensor, " b *out"], noise: Float[Tensor, " b *out"]
) -> SpectralMeasurement:
    """See measurements ``y`` of noise level ``noise`` (image units) in singular coordinates.

    Singular values that rounding cannot tell from zero count as zero. Noise that differs from value
    to value stays independent only where ``U = I`` (:class:`Pixelwise`).
    """
    s = operator.spectrum.to(y)
    seen = s > operator.tolerance(y.dtype)
    divisor = torch.where(seen, s, 1.0)
    coefficients = operator.Ut(y)[:, : operator.n]
    missing = operator.n - coefficients.shape[1]
    values = torch.nn.functional.pad(coefficients, (0, missing)) / divisor
    if bool((noise == noise[0]).all()):
        noise = noise[:1]
    levels = torch.where(seen, noise.to(y).reshape(len(noise), -1) / divisor, torch.inf)
    return SpectralMeasurement(operator, torch.where(seen, values, 0.0), levels)
