r"""The mollified process: functions and their noise are blurred, and diffuse as any picture does.

.. math:: q(x_t | x_0) = N(\alpha_t T z_0,\; \sigma_t^2\, p^{-2}\, T T^T), \qquad
          x_t = T(\alpha_t z_0 + \sigma_t \xi / p),

with the mollifier :math:`T`, white noise :math:`\xi` and pixels of pitch :math:`p`. The covariance
of all noise is one matrix times a number, so that the numbers of every transition are those of
ordinary diffusion, eq. 11 to 14 of the paper, and the solvers walk these states unchanged, given
noise that is mollified too. Without a mollifier and of pitch 1 this is ordinary diffusion.

Paper: Bond-Taylor & Willcocks 2024 (Infinity-Diff, arXiv:2303.18242), section 3.2. (Its code adds
white noise in DDIM steps with :math:`\eta > 0`, which leaves the process.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import Process, like
from certes.diffusion.schedules import Schedule, Time
from certes.errors import ModelError
from certes.function_space.mollifier import Mollifier

Picture = Float[Tensor, "b c h w"]


@runtime_checkable
class BlurDenoiser(Protocol):
    """What knows of a function's blur from its noisy blur."""

    def blurred(self, blurred: Picture, sigma: Float[Tensor, " b"]) -> Picture:
        r"""``E[T x_0 | T x]``, image units.

        Args:
            blurred: :math:`T (x_0 + \sigma e)`, image units.
            sigma: noise standard deviation of the unblurred pixels, image units.
        """
        ...


class MollifiedProcess(Process):
    r"""Diffusion of mollified functions, on pictures of one pitch.

    Functions enter through :meth:`marginal`, unblurred. From there on every picture is blurred: the
    states, and the estimates of :math:`T x_0` that solvers go by. An estimate is un-mollified once,
    at the end (:meth:`~certes.function_space.denoiser.FunctionDenoiser.of_blur`): whatever a filter
    does not give back would be lost anew at each step.

    Args:
        schedule: signal, and noise of one unit of area, over time.
        mollifier: :math:`T`.
        pitch: length of a pixel, :math:`p`.
        center: the image value that process coordinates call 0.
        scale: the image distance that process coordinates call 1.
    """

    mollifier: Mollifier
    pitch: float

    def __init__(
        self,
        schedule: Schedule,
        mollifier: Mollifier,
        pitch: float = 1.0,
        center: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        # Diagonal in the cosine basis, in which its states are not written.
        super().__init__(schedule, CosineBasis(), center, scale)
        object.__setattr__(self, "mollifier", mollifier)  # a process is frozen
        object.__setattr__(self, "pitch", pitch)

    def mollified(self, x0: Picture) -> Picture:
        """``T x_0``, image units."""
        return self.mollifier(x0, self.pitch)

    def encode(self, x0: Picture) -> Picture:
        """Image units to process coordinates, of pictures that are blurred."""
        return (x0 - self.center) / self.scale

    def decode(self, z0: Picture) -> Picture:
        """Process coordinates to image units; blurred pictures stay it."""
        return z0 * self.scale + self.center

    def marginal(self, x0: Picture, t: Time) -> tuple[Picture, Float[Tensor, " ..."]]:
        """Mean of ``q(x_t | x_0)``, and what multiplies mollified noise.

        Args:
            x0: pictures that are not blurred, image units.
            t: times.
        """
        return super().marginal(self.mollified(x0), t)

    def pixel_noise(self, t: Time) -> Float[Tensor, " ..."]:
        r""":math:`s \sigma_t / (\alpha_t p)`: the noise of unblurred pixels, image units, float64.

        Args:
            t: one time, or one for each picture.
        """
        return self.scale * self.schedule.noise_level(t) / self.pitch

    def denoise(self, denoiser: Denoiser, x_t: Picture, t: Time) -> Denoised:
        """``E[T x_0 | x_t]``, image units, of a denoiser that knows blurred functions.

        Raises:
            ModelError: if it knows unblurred pictures only.
        """
        if not isinstance(denoiser, BlurDenoiser):
            raise ModelError(
                f"denoiser: {type(denoiser).__name__} knows no mollified pictures; give a model "
                "of functions, or walk an ordinary certes.diffusion Process"
            )
        blurred = self.decode(x_t / like(self.schedule.alpha(t), x_t))
        return Denoised(denoiser.blurred(blurred, self.pixel_noise(t).to(x_t).expand(len(x_t))))


class MollifiedNoise(NoiseSource):
    r"""White noise of functions, mollified: :math:`T \xi / p`.

    Args:
        source: of :math:`\xi`; a :class:`~certes.function_space.noise.CoupledNoise` gives pictures
            of every pitch the same function.
        mollifier: :math:`T`.
        pitch: length of a pixel, :math:`p`.
    """

    def __init__(self, source: NoiseSource, mollifier: Mollifier, pitch: float = 1.0) -> None:
        self._source, self._mollifier, self._pitch = source, mollifier, pitch

    def __len__(self) -> int:
        return len(self._source)

    def normal(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, " b *shape"]:
        """The next draw of every stream.

        Args:
            shape: (c, h, w) of one picture.
            dtype: the precision in which it is drawn.
        """
        return self._mollifier(self._source.normal(shape, dtype), self._pitch) / self._pitch
