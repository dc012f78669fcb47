r"""Which :math:`y_t` a reverse process is shown.

The reverse process of :math:`x | y` needs :math:`\nabla \ln p(x_t | y)`; an estimator that was
trained on noisy conditions knows :math:`\nabla \ln p(x_t | y_t)`. What is done about it biases the
samples even with perfect networks and infinitely many steps:

* ``fixed``: y itself, called noise-free. Exact for a CDE. Others were never trained on a clean y
  with a noisy x; how wrong they are depends on the network.
* ``fresh`` (the authors' default): :math:`y_t \sim p(y_t | y)` anew at every call. In the limit of
  short steps the noise averages out and the score is :math:`E[\nabla \ln p(x_t | y_t) | y]`: too
  flat, hence samples too wide, by the gap of theorem 3, of order :math:`\sigma_y^2`.
* ``path``: one backward path, :math:`y_s \sim p(y_s | y_t, y)`. The noise is shared by all steps,
  does not average out, and widens the samples further.

Source: Batzolis et al. 2021 and the authors' code; the size of the bias is measured in
``benchmarks/conditional_bias.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import ConditionalDenoiser, Denoised, Denoiser
from certes.diffusion.noise import NoiseSource
from certes.errors import InputError, ModelError

Scalars = Float[Tensor, " b"]
YLevel = Callable[[Scalars], Scalars]

PolicyName = Literal["fixed", "fresh", "path"]


class Policy(ABC):
    """Conditions as a reverse process sees them on its way.

    Args:
        y: clean conditions, image units.
        level: y's noise level at a noise level of x, image units.
        noise: one stream for each condition.
    """

    def __init__(self, y: Float[Tensor, " b *out"], level: YLevel, noise: NoiseSource) -> None:
        self.y, self.level, self.noise = y, level, noise

    @abstractmethod
    def __call__(self, sigma_x: Scalars) -> tuple[Float[Tensor, " b *out"], Scalars]:
        """``y_t`` and its noise level where x has the noise level ``sigma_x``."""

    def _normal(self) -> Float[Tensor, " b *out"]:
        return self.noise.normal(self.y.shape[1:], self.y.dtype)

    def _column(self, values: Scalars) -> Tensor:
        return values.to(self.y).reshape(-1, *(1,) * (self.y.ndim - 1))


class Fixed(Policy):
    """The clean condition at all times."""

    def __call__(self, sigma_x: Scalars) -> tuple[Float[Tensor, " b *out"], Scalars]:
        return self.y, torch.zeros_like(sigma_x)


class Fresh(Policy):
    """New noise at every call."""

    def __call__(self, sigma_x: Scalars) -> tuple[Float[Tensor, " b *out"], Scalars]:
        sigma_y = self.level(sigma_x)
        if not bool(sigma_y.any()):
            return self.y, sigma_y
        return self.y + self._column(sigma_y) * self._normal(), sigma_y


class Path(Policy):
    r"""One path from noise to y: :math:`y_s = y (1 - r) + y_t r + \sigma_s \sqrt{1 - r}\, h`.

    :math:`r = \sigma_s^2 / \sigma_t^2`. A second call at a noise level is answered as the first.

    Raises:
        InputError: when it is called at a higher noise level than before: it does not lead back.
    """

    def __init__(self, y: Float[Tensor, " b *out"], level: YLevel, noise: NoiseSource) -> None:
        super().__init__(y, level, noise)
        self._at: tuple[Tensor, Scalars] | None = None

    def __call__(self, sigma_x: Scalars) -> tuple[Float[Tensor, " b *out"], Scalars]:
        sigma_y = self.level(sigma_x)
        if self._at is None:
            self._at = self.y + self._column(sigma_y) * self._normal(), sigma_y
            return self._at
        y_t, before = self._at
        if bool((sigma_y > before).any()):
            raise InputError(
                "policy: a 'path' of y leads from noise to y and not back; use 'fresh' with "
                "solvers that repeat steps"
            )
        if bool((sigma_y < before).any()):
            share = (sigma_y / before).square().where(before > 0, torch.ones_like(before))
            mean = self.y + self._column(share) * (y_t - self.y)
            spread = sigma_y * (1 - share).clamp(min=0).sqrt()
            self._at = mean + self._column(spread) * self._normal(), sigma_y
        return self._at


POLICIES: dict[str, type[Policy]] = {"fixed": Fixed, "fresh": Fresh, "path": Path}


def policy_named(name: str) -> type[Policy]:
    """The policy of that name.

    Raises:
        InputError: if there is none.
    """
    if name not in POLICIES:
        raise InputError(f"policy: {name!r}; give one of {', '.join(get_args(PolicyName))}")
    return POLICIES[name]


class GivenCondition(Denoiser):
    """A conditional denoiser with its condition filled in: what solvers walk with.

    Args:
        denoiser: the conditional denoiser.
        policy: the conditions, one for each picture that it will be asked about.
    """

    def __init__(self, denoiser: ConditionalDenoiser, policy: Policy) -> None:
        self.denoiser, self.policy = denoiser, policy
        self.confined = denoiser.confined

    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Scalars) -> Denoised:
        y_t, sigma_y = self.policy(sigma)
        return self.denoiser(x, sigma, y_t, sigma_y).x

    def covariance(self, denoised: Denoised, sigma: Scalars) -> Covariance:
        """None.

        Raises:
            ModelError: always; samplers for measurements need it, those for conditions do not.
        """
        raise ModelError("model: conditional; restore without an operator, it is in the condition")
