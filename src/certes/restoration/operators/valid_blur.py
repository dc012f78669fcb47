"""Deblurring without a guess of what lies outside the frame: the border is restored too."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators.base import LinearOperator, checked_shape
from certes.restoration.operators.blur import Kernel, numbers_of, plane_of
from certes.restoration.operators.valid_convolution import ValidConvolution


class ValidBlur(LinearOperator):
    r"""Convolution by any kernel of a picture that is larger than its measurement.

    A blur carries light into the frame from outside. Here the picture holds that outside, as wide
    as the kernel reaches, and the measurement is those pixels whose neighbourhood is all inside:

    .. math:: y_{ij} = \sum_{ab} k_{ab} x_{i + \alpha - 1 - a, j + \beta - 1 - b},

    (C, H - alpha + 1, W - beta + 1) values for a kernel of alpha rows and beta columns. It is the
    inside of what :class:`Blur` measures at any boundary, with the same anchor. Any kernel will do
    (motion, a measured one), at a cost that hardly grows with its size.

    Args:
        shape: (C, H, W) of the picture, border and all; :meth:`behind` finds it.
        kernel: as that of :class:`Blur`: (taps,) for both axes, a pair, or a plane (a, b); used as
            it is, not normalised.

    Raises:
        InputError: a kernel that is larger than the picture, not finite, or zero throughout.
    """

    name = "valid-blur"

    def __init__(self, shape: tuple[int, int, int], kernel: Kernel) -> None:
        channels, height, width = shape = checked_shape(shape)
        plane = plane_of(kernel)
        a, b = plane.shape
        if a > height or b > width:
            raise InputError(
                f"kernel ({a} x {b}) is larger than the picture ({height} x {width}): no pixel has "
                f"its whole neighbourhood inside; wanted the picture behind the measurement, "
                f"ValidBlur.behind(shape of the measurement, kernel)"
            )
        self.kernel = kernel
        self._convolution = ValidConvolution(plane, height, width)
        self._corner = (a - 1 - a // 2, b - 1 - b // 2)
        super().__init__(shape, (channels, height - a + 1, width - b + 1))

    @classmethod
    def behind(cls, measured_shape: tuple[int, int, int], kernel: Kernel) -> ValidBlur:
        """The operator whose measurements have this shape (C, h, w).

        Raises:
            InputError: as for the operator itself.
        """
        channels, height, width = checked_shape(measured_shape)
        a, b = plane_of(kernel).shape
        return cls((channels, height + a - 1, width + b - 1), kernel)

    def interior(self, x: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch h2 w2"]:
        """The part of a picture that lies behind the measurement, pixel on pixel.

        Raises:
            InputError: a picture of another size.
        """
        if tuple(x.shape[-2:]) != self.in_shape[1:]:
            raise InputError(
                f"x has shape {tuple(x.shape)}; wanted a picture of {self.in_shape[1]} x "
                f"{self.in_shape[2]}, border included"
            )
        (top, left), (height, width) = self._corner, self.out_shape[1:]
        return x[..., top : top + height, left : left + width]

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return self._convolution.apply(x)

    def _adjoint(self, y: Float[Tensor, "b c h2 w2"]) -> Float[Tensor, "b c h w"]:
        return self._convolution.adjoint(y)

    def _parameters(self) -> dict[str, Any]:
        return {"kernel": numbers_of(self.kernel)}
