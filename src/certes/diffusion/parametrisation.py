r"""What a network may predict, and how to read :math:`x_0` from it.

With :math:`x_t = \alpha x_0 + \sigma e` a network may answer with the noise :math:`e` (Ho et al.
2020), with :math:`x_0`, with the velocity :math:`v = \alpha e - \sigma x_0` (Salimans & Ho 2022) or
with the score :math:`-e / \sigma` (Song et al. 2021). All are linear in :math:`(x_t, x_0)`, so a
prediction's error is the error of :math:`x_0` times a known factor.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from certes.errors import ModelError

Scalar = Float[Tensor, "b 1 1 1"]
Picture = Float[Tensor, "b c h w"]


@dataclass(frozen=True)
class Parametrisation:
    r"""The target :math:`F = a\,x_t + b\,x_0`, its inverse, and how its error scales.

    Args:
        name: ``noise``, ``x0``, ``v`` or ``score``.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in ("noise", "x0", "v", "score"):
            raise ModelError(f"prediction: {self.name!r}; give noise, x0, v or score")

    def coefficients(self, alpha: Scalar, sigma: Scalar) -> tuple[Scalar, Scalar]:
        r"""``(a, b)`` with :math:`F = a\,x_t + b\,x_0`."""
        match self.name:
            case "noise":
                return 1 / sigma, -alpha / sigma
            case "score":
                return -1 / sigma**2, alpha / sigma**2
            case "v":
                return alpha / sigma, -(alpha**2 + sigma**2) / sigma
            case _:
                return 0 * alpha, 1 + 0 * alpha

    def target(self, x_t: Picture, x0: Picture, alpha: Scalar, sigma: Scalar) -> Picture:
        """What the network should have answered."""
        a, b = self.coefficients(alpha, sigma)
        return a * x_t + b * x0

    def x0(self, x_t: Picture, output: Picture, alpha: Scalar, sigma: Scalar) -> Picture:
        """The estimate of ``x_0`` in the network's answer."""
        a, b = self.coefficients(alpha, sigma)
        return (output - a * x_t) / b
