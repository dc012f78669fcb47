r"""The probability-flow ODE (Song et al. 2021, arXiv:2011.13456, eq. 13) with steps as long as its
error allows: Dormand and Prince's pair of orders 5 and 4 (J. Comput. Appl. Math. 6, 1980).

In the canonical picture :math:`\tilde{x} = x / \alpha` and the logarithm :math:`u = \log\rho` of
its noise level the ODE has no singular coefficients, whatever the process and however faint the
noise:

.. math:: \frac{d\tilde{x}}{du} = \tilde{x} - \hat{z}_0(\tilde{x}, e^u) .

A process of several speeds takes the level of its first schedule that has noise as its clock;
each coordinate then moves :math:`d\log\rho^i / d\log\rho` times as fast.

Every picture has a step length and a time of its own, so that its batch mates cost it time but
change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.ode import ERROR, NODES, STAGES
from certes.diffusion.process import Process, like
from certes.diffusion.schedules import Multispeed, Schedule
from certes.diffusion.solvers.state import State, steps_of
from certes.errors import InputError, ModelError

Picture = Float[Tensor, "b c h w"]
PerPicture = Float[Tensor, " b"]

CALLS_PER_ROUND = 6  # seven stages, of which the last is the next round's first

_FIRST, _SHORTEST = 0.1, 1e-5  # steps in log noise
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 5.0


@dataclass(frozen=True)
class FlowState(State):
    """A :class:`State` of pictures that move at their own pace; ``t`` is that of the slowest.

    Args:
        times: the time of each picture.
        calls: network calls so far, each with the whole batch.
    """

    times: PerPicture
    calls: int


def probability_flow(
    process: Process,
    denoiser: Denoiser,
    times: Float[Tensor, " steps_and_end"],
    x: Picture,
    tolerance: float = 1e-4,
    precision: torch.dtype = torch.float64,
) -> Iterator[FlowState]:
    """Carry ``x`` from the first time to the last; those between do not matter. Deterministic.

    A state is yielded after each round in which a picture moved on; a round costs
    :data:`CALLS_PER_ROUND` network calls. If the last time is free of noise, the ODE is followed to
    the last one that is not, and the estimate there is the answer.

    Args:
        process: the schedule and its basis.
        denoiser: estimates the clean pictures.
        times: descending times; the last may be free of noise.
        x: pictures at ``times[0]``, process coordinates.
        tolerance: root mean square error that a step may make, as a share of a full range of image
            values plus noise, :math:`\\sqrt{1 + \\sigma^2}` in image units.
        precision: of the pictures on their way; the denoiser is asked in that of ``x``.

    Raises:
        InputError: if the tolerance is not positive or cannot be reached, or no time has noise.
        ModelError: if the denoiser answers with anything but finite numbers.
    """
    steps_of(times)
    if not tolerance > 0:
        raise InputError(f"tolerance: {tolerance}; give a number above 0")
    flow = _Flow(process, denoiser, tolerance, x.dtype)
    noisy = times[flow.clock.sigma(times) > 0]
    if not len(noisy):
        raise InputError(f"times: from {float(times[0])}, without noise; begin where there is some")
    last, stop = noisy[-1], flow.level(noisy[-1])
    where = _Where.start(flow, x.to(precision), noisy[0])
    while bool((where.u > stop).any()):
        where, moved = _round(flow, where, stop)
        if bool(moved.any()):
            yield where.state(flow, last, stop)
    if last > times[-1]:
        here = where.state(flow, last, stop)
        end, _ = process.transition(here.x, here.estimate, last, times[-1], eta=0.0)
        t = times[-1].expand(len(x))
        yield FlowState(float(times[-1]), end, here.estimate, t, where.calls)


@dataclass(frozen=True)
class _Flow:
    """The ODE."""

    process: Process
    denoiser: Denoiser
    tolerance: float
    dtype: torch.dtype

    @property
    def clock(self) -> Schedule:
        schedule = self.process.schedule
        return schedule.reference if isinstance(schedule, Multispeed) else schedule

    def level(self, t: Tensor) -> Tensor:
        """``u`` at a time."""
        return -self.clock.log_snr(t) / 2

    def time(self, u: Tensor) -> Tensor:
        """The time of ``u``."""
        return self.clock.time(-2 * u)

    def slope(self, u: PerPicture, z: Picture) -> tuple[Picture, Picture]:
        """``dz / du`` and the estimate behind it."""
        t = self.time(u)
        x_t = (like(self.process.schedule.alpha(t), z) * z).to(self.dtype)
        estimate = self.process.denoise(self.denoiser, x_t, t).mean
        return like(self._speed(t), z) * (z - self.process.encode(estimate.to(z))), estimate

    def _speed(self, t: Tensor) -> Tensor:
        """How fast each coordinate's log noise runs; 1 where all have the clock's schedule."""
        own, clock = _rate(self.process.schedule, t), _rate(self.clock, t)
        return own / clock.reshape(*clock.shape, *(1,) * (own.ndim - clock.ndim))

    def misfit(self, error: Picture, u: PerPicture) -> PerPicture:
        """The size of each picture's error, 1 being what the tolerance allows; float64."""
        level = self.process.scale * self.process.schedule.noise_level(self.time(u))
        share = self.process.scale * error / like(torch.hypot(level, torch.ones_like(level)), error)
        # One picture after another: a sum over a batch may round otherwise than one alone.
        sizes = [row.square().mean().sqrt().double() for row in share]
        return torch.stack(sizes) / self.tolerance


@dataclass(frozen=True)
class _Where:
    """Where every picture is: its level, its next step, and what is known there."""

    u: PerPicture
    length: PerPicture
    z: Picture
    slope: Picture
    estimate: Picture
    calls: int

    @classmethod
    def start(cls, flow: _Flow, x: Picture, t: Float[Tensor, ""]) -> _Where:
        u = flow.level(t).to(x.device).expand(len(x)).clone()
        z = x / like(flow.process.schedule.alpha(t), x)
        return cls(u, torch.full_like(u, _FIRST), z, *flow.slope(u, z), calls=1)

    def state(self, flow: _Flow, last: Float[Tensor, ""], stop: Float[Tensor, ""]) -> FlowState:
        times = flow.time(self.u).where(self.u > stop, last)
        x = (like(flow.process.schedule.alpha(times), self.z) * self.z).to(flow.dtype)
        return FlowState(float(times.max()), x, self.estimate, times, self.calls)


def _round(
    flow: _Flow, where: _Where, stop: Float[Tensor, ""]
) -> tuple[_Where, Bool[Tensor, " b"]]:
    """One attempt at a step of every picture that is not yet there, and which of them moved."""
    left = where.u - stop
    length = torch.minimum(where.length, left)
    h = like(length, where.z)
    slopes, z, estimate = [where.slope], where.z, where.estimate
    for weights, node in zip(STAGES, NODES, strict=True):
        z = where.z - h * _combined(weights, slopes)
        slope, estimate = flow.slope(torch.maximum(where.u - node * length, stop), z)
        slopes.append(slope)
    misfit = flow.misfit(h * _combined(ERROR, slopes), where.u)
    accepted = misfit <= 1
    _check(flow, misfit, length[~accepted])
    reached = torch.where(length < left, where.u - length, stop)
    factor = (_SAFETY * misfit**-0.2).clamp(_SHRINK, _GROW)

    def new(value: Tensor, old: Tensor) -> Tensor:
        return value.where(accepted.reshape(-1, *(1,) * (old.ndim - 1)), old)

    after = _Where(
        new(reached, where.u),
        length * factor,
        new(z, where.z),
        new(slopes[-1], where.slope),
        new(estimate, where.estimate),
        where.calls + CALLS_PER_ROUND,
    )
    return after, accepted & (left > 0)


def _combined(weights: tuple[float, ...], slopes: list[Picture]) -> Picture:
    terms = [weight * slope for weight, slope in zip(weights, slopes, strict=True) if weight]
    return sum(terms[1:], terms[0])


def _rate(schedule: Schedule, t: Tensor) -> Tensor:
    r""":math:`d\log\rho / dt = g^2 / (2 \sigma^2)`; zero where there is no noise."""
    sigma = schedule.sigma(t)
    return (schedule.diffusion_squared(t) / (2 * sigma**2)).where(sigma > 0, 0.0)


def _check(flow: _Flow, misfit: PerPicture, refused: PerPicture) -> None:
    if not bool(misfit.isfinite().all()):
        raise ModelError("denoiser: an answer is not finite; check the pictures and their units")
    if bool((refused < _SHORTEST).any()):
        raise InputError(
            f"tolerance: {flow.tolerance} asks for more digits than the denoiser's answers have; "
            "raise it, or give pictures in float64"
        )
