r"""Measurements that were rounded: linear values known to lie in a cell, and nothing more.

.. math:: c_i = \mathrm{round}((M x - o)_i / q_i), \qquad y = D(c)

for a linear :math:`M`, steps :math:`q` and a picture :math:`D(c)` that shows the whole numbers
:math:`c`. JPEG is one of these, and so are pixels of few bits.
"""

from __future__ import annotations

from abc import abstractmethod

from jaxtyping import Float, Int
from torch import Tensor

from certes.restoration.operators.base import LinearOperator, Operator
from certes.restoration.operators.constants import Constant, Placed


class LinearValues(LinearOperator):
    """A linear map that also knows what it makes of independent errors."""

    @abstractmethod
    def independent(self, variance: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        r"""The variance of each value where pixels vary independently.

        That is, the diagonal of :math:`M D M^T` with these variances in :math:`D`.
        """


class RoundedOperator(Operator):
    r"""A linear measurement, rounded, and shown as a picture of the same shape.

    :math:`|M x - (q c + o)| \le q / 2` for what was encoded, but for what else was rounded on the
    way. Noise, where there is any, is that of the pixels before they are encoded.

    Args:
        linear: :math:`M`, from pictures to (m,) values, image units.
        steps: :math:`q`, (m,), image units.
        offset: :math:`o`, (m,), image units.
        kinds: (m,), numbers from 0: values of one kind see other pixels in the same way.
        grain: standard deviation of the error of each pixel from other roundings (to whole grey
            levels, say), image units.
    """

    def __init__(
        self,
        linear: LinearValues,
        steps: Float[Tensor, " m"],
        offset: Float[Tensor, " m"],
        kinds: Int[Tensor, " m"],
        grain: float = 0.0,
    ) -> None:
        super().__init__(linear.in_shape, linear.in_shape)
        self.linear, self.grain = linear, grain
        self.kinds = Placed(kinds)
        self._steps, self._offset = Constant(steps), Constant(offset)

    @abstractmethod
    def encode(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        """The whole numbers ``c``; gradients go straight through every rounding."""

    @abstractmethod
    def decode(self, codes: Float[Tensor, "b m"]) -> Float[Tensor, "b c h w"]:
        """The picture that shows these whole numbers; gradients as in ``encode``."""

    @abstractmethod
    def codes_of(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m"]:
        """The whole numbers behind a decoded picture, as far as it tells."""

    def centres(self, codes: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        """The middle of each cell, :math:`q c + o`, image units."""
        return codes * self._steps.like(codes) + self._offset.like(codes)

    def widths(self, like: Tensor) -> Float[Tensor, " m"]:
        """The width of each cell, :math:`q`, image units, in the precision of ``like``."""
        return self._steps.like(like)

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.decode(self.encode(x))


def rounded_down(v: Tensor, shift: float | Tensor) -> Tensor:
    r""":math:`\lfloor v + shift \rfloor`; for gradients it is ``v + shift`` (straight through)."""
    v = v + shift
    return v + (v.floor() - v).detach()


def nearest(v: Tensor) -> Tensor:
    """The nearest whole number, halves away from zero; gradients go straight through."""
    return v + (v.sign() * (v.abs() + 0.5).floor() - v).detach()
