r"""Inpainting by reconstruction guidance, in mollified states.

Every reverse step is followed by one down the gradient of the misfit of what the network believes,

.. math:: x_{t-1} \leftarrow x_{t-1} - \lambda\, \nabla_{x_t}
          \| m \odot (\tilde\mu_0(x_t, t) - T \bar x) \|^2 ,

with the mask m, the network's estimate :math:`\tilde\mu_0` of :math:`T x_0` and the known picture
:math:`\bar x` (Infinity-Diff, arXiv:2303.18242, section 4.4; Ho et al. 2022, arXiv:2204.03458).
Three things there are left open.

*The gradient.* States are blurred functions, :math:`x_t = T v_t`, so it is taken by the function
:math:`v_t`, through the mollifier and the network, and blurred as all states are: by
:math:`x_t` itself it reads :math:`T T^T \nabla_{x_t}`. A step along :math:`\nabla_{x_t}` would
leave the states of the process with frequencies that no blurred function has, which un-mollifying
then makes up to ten times as large.

*The known picture.* Its blur mixes the unknown pixels into the known ones. They are taken from the
network's own estimate at each step, so that the guidance draws on known pixels alone.

*The step.* A reverse step moves by b times the estimate; the guidance moves the estimate by
:math:`r^T r / (r^T J T T^T r)` times the direction, r being the misfit and J the network's
derivative: to the least misfit along it, in the norm of the estimate's own covariance
:math:`\sigma^2 J T T^T`. That is :math:`\lambda` with b in it, so that the number of steps changes
the accuracy and not the method.

Guidance by one gradient is no exact posterior: of a Gaussian field it has the spread to some per
cent but leaves the mean off by a part of it; :func:`certes.restore` is nearer. It can start from
the encoding of a whole picture at a time :math:`t_s` and so keep near to what stands in the hole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from certes.diffusion.grids import Grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.solvers.state import State, steps_of
from certes.function_space.missing import Unblurring
from certes.function_space.process import BlurDenoiser, MollifiedNoise, MollifiedProcess

Picture = Float[Tensor, "b c h w"]

# How far along a direction, in misfits: an exact network's longest steps are shorter.
_FARTHEST = 10.0


@dataclass(frozen=True)
class Known:
    """Known pixels.

    Args:
        picture: image units; anything where nothing is known.
        mask: True where it is.
    """

    picture: Picture
    mask: Bool[Tensor, "c h w"]

    def within(self, x: Picture) -> Picture:
        """``x`` with the known pixels in their places."""
        return torch.where(self.mask, self.picture, x)


def guided(
    process: MollifiedProcess,
    denoiser: BlurDenoiser,
    times: Grid,
    x: Picture,
    noise: NoiseSource,
    known: Known,
    unblurring: Unblurring,
) -> Iterator[State]:
    """Walk mollified states down the grid; the last state holds samples of pictures, un-mollified.

    Args:
        process: in image units (center 0, scale 1).
        denoiser: knows the functions, differentiable.
        times: of the process, descending to 0; one network call, there and back, for each step.
        x: states at ``times[0]``.
        noise: one stream for each picture.
        known: pixels that are kept.
        unblurring: of the estimates, and of the samples at the end.
    """
    fresh = MollifiedNoise(noise, process.mollifier, process.pitch)
    for t, s in steps_of(times):
        sigma = process.pixel_noise(t).to(x).expand(len(x))
        estimate = _guided_estimate(process, denoiser, x, sigma, known, unblurring)
        x, std = process.transition(x, estimate, t, s)
        if s > 0:
            x = x + std * fresh.normal(x.shape[1:], x.dtype)
        else:
            x = known.within(unblurring.sample(x, noise))
        yield State(float(s), x, known.within(unblurring.estimate(estimate)))


def _guided_estimate(
    process: MollifiedProcess,
    denoiser: BlurDenoiser,
    x: Picture,
    sigma: Float[Tensor, " b"],
    known: Known,
    unblurring: Unblurring,
) -> Picture:
    """The network's estimate of ``T x_0``, moved towards the known pixels."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        estimate = denoiser.blurred(x, sigma)
        believed = estimate.detach()
        wanted = process.mollified(known.within(unblurring.estimate(believed)))
        misfit = torch.where(known.mask, wanted - believed, 0.0)
        # Minus half the gradient of the squared misfit.
        (slope,) = torch.autograd.grad(estimate, x, misfit)
    direction = process.mollified(process.mollified(slope))
    return believed + _length(misfit, torch.where(known.mask, direction, 0.0)) * direction


def _length(misfit: Picture, seen: Picture) -> Float[Tensor, "b 1 1 1"]:
    """How far to go along a direction of which the known pixels see this much."""
    square = misfit.square().sum((1, 2, 3), keepdim=True)
    along = (misfit * seen).sum((1, 2, 3), keepdim=True)
    size = seen.square().sum((1, 2, 3), keepdim=True)
    least = ((square * size).sqrt() / _FARTHEST).clamp(min=torch.finfo(misfit.dtype).tiny)
    return square / along.clamp(min=least).where(along > 0, torch.inf)
