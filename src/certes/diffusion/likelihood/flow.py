r"""The likelihood of pictures by the probability flow (Song et al. 2021, arXiv:2011.13456, D.2).

Along an ordinary differential equation :math:`dz/dt = v(z, t)` whose marginals are those of the
process, densities change by the divergence alone (Chen et al. 2018, arXiv:1806.07366, eq. 8):

.. math:: \log p_0(z(0)) = \log p_T(z(T)) + \int_0^T \mathrm{tr}\, \frac{\partial v}{\partial z} dt

and the trace is the mean of :math:`\epsilon^T J \epsilon` over probes with unit covariance
(Hutchinson 1990). Probes of signs see the diagonal of :math:`J` exactly, normal ones do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.likelihood.dequantisation import bits_per_dimension, dequantised
from certes.diffusion.likelihood.result import standard_error
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.ode import Velocity, integrate, relative_rms
from certes.diffusion.process import Process
from certes.diffusion.schedules import EDM
from certes.errors import InputError

Picture = Float[Tensor, "b c h w"]
Prior = Callable[[Picture, float], Float[Tensor, " b"]]
"""``(x, sigma) -> log density``, nats, of noisy pictures ``x_0 + sigma e`` in image units."""

_EARLIEST = 1e-5  # the first time, as in the paper: at 0 some processes have no noise, and no flow
_EDM_TOP = 80.0  # Karras et al. 2022, table 1; the times of the others end at 1
_MIDDLE, _SPREAD = 0.5, 0.25  # of usual pictures; they set what the tolerance is relative to


@dataclass(frozen=True)
class Flow:
    """Where a flow led, and what that says of the densities where it started.

    Args:
        log_density: at the start, nats; an unbiased estimate for each probe.
        prior: the log density of the end, nats.
        end: the states there, float64.
        evaluations: of the velocity that each sample needed.
    """

    log_density: Float[Tensor, "b probes"]
    prior: Float[Tensor, " b"]
    end: Float[Tensor, " b *n"]
    evaluations: Int64[Tensor, " b"]


@dataclass(frozen=True)
class FlowLikelihood:
    """Bits per dimension of some pictures by the probability flow.

    Args:
        levels: the noise levels between which the flow ran, image units. What is scored is the
            model's density of pictures with noise of the first.
        estimates: bits per dimension, of each picture by each probe.
        priors: the log density of the end of each picture's flow under the prior, nats.
        evaluations: network calls that each picture needed.
    """

    levels: tuple[float, float]
    estimates: tuple[tuple[float, ...], ...]
    priors: tuple[float, ...]
    evaluations: tuple[int, ...]

    @property
    def pictures(self) -> tuple[float, ...]:
        """Bits per dimension of every picture, mean over probes."""
        return tuple(math.fsum(row) / len(row) for row in self.estimates)

    @property
    def total(self) -> float:
        """Bits per dimension, mean over pictures."""
        return math.fsum(self.pictures) / len(self.pictures)

    @property
    def standard_error(self) -> float | None:
        """Of :attr:`total` as the mean of the pictures' population; ``None`` for one picture."""
        return standard_error(torch.tensor(self.pictures, dtype=torch.float64))

    @property
    def probe_errors(self) -> tuple[float, ...] | None:
        """Standard error of every picture's value, from its probes; ``None`` for a single one."""
        errors = (standard_error(torch.tensor(row).double()) for row in self.estimates)
        known = tuple(error for error in errors if error is not None)
        return known or None

    @property
    def probe_error(self) -> float | None:
        """Standard error of :attr:`total` as the mean of these very pictures, from the probes."""
        errors = self.probe_errors
        return None if errors is None else math.hypot(*errors) / len(errors)

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "bits_per_dimension": self.total,
            "standard_error": self.standard_error,
            "probe_error": self.probe_error,
            **asdict(self),
            "pictures": list(self.pictures),
            "probe_errors": self.probe_errors,
        }


def flow_log_likelihood(
    velocity: Velocity,
    z: Float[Tensor, " b *n"],
    times: tuple[float, float],
    prior: Callable[[Float[Tensor, " b *n"]], Float[Tensor, " b"]],
    probes: Float[Tensor, " b probes *n"],
    tolerance: float = 1e-5,
    advance: Callable[[float], None] = lambda share: None,
) -> Flow:
    """The log density, at the first time, of whatever a velocity moves.

    Args:
        velocity: ``(z, t) -> dz/dt``, differentiable in ``z``, one time for each sample; a sample's
            velocity must not depend on the others.
        z: the samples.
        times: from where they are to where their density is known.
        prior: the log density there, nats.
        probes: for the trace, with mean zero and unit covariance.
        tolerance: of every step: relative to ``1 + |z|``, and of the nats per dimension.
        advance: is told each share of the way done.

    Raises:
        InputError: if the tolerance is not positive, or cannot be met.
    """
    n = z[0].numel()

    def moved(state: Float[Tensor, "b n"], t: Float[Tensor, " b"]) -> Float[Tensor, "b n"]:
        at = state[:, :n].reshape(z.shape)
        v, traces = _with_traces(velocity, at, t, probes.to(state))
        return torch.cat([v.flatten(1), traces / n], dim=1)

    def norm(error: Float[Tensor, "b n"], size: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
        # Averaged with the entries of z, a trace would hardly be seen; and its errors add up.
        of_z = relative_rms(error[:, :n], size[:, :n])
        return torch.maximum(of_z, error[:, n:].abs().amax(1))

    state = torch.cat([z.double().flatten(1), z.new_zeros(probes.shape[:2]).double()], dim=1)
    solution = integrate(moved, state, *times, tolerance, norm=norm, advance=advance)
    end = solution.state[:, :n].reshape(z.shape)
    known = prior(end)
    return Flow(known[:, None] + n * solution.state[:, n:], known, end, solution.evaluations)


def flow_likelihood(
    process: Process,
    denoiser: Denoiser,
    x0: Picture,
    *,
    seed: int = 0,
    keys: Sequence[str] | None = None,
    probes: int = 1,
    tolerance: float = 1e-5,
    dequantise: bool = True,
    levels: tuple[float, float] | None = None,
    prior: Prior | None = None,
    batch_size: int = 64,
    advance: Callable[[float], None] = lambda share: None,
) -> FlowLikelihood:
    r"""Bits per dimension of pictures under a model, from the density it gives them.

    The flow is that of the process, followed in its noise level :math:`\bar\sigma` and in
    coordinates that stay of order one, :math:`z = (x - 1/2) / q` with
    :math:`q^2 = s^2 + \bar\sigma^2` and a usual spread :math:`s` of pixels:

    .. math:: \frac{dz}{d \log \bar\sigma} = \frac{x - E[x_0 | x]}{q} - \frac{\bar\sigma^2}{q^2} z .

    All processes with the same noise levels share it, whatever their schedules and units.

    Args:
        process: the schedule and its units.
        denoiser: estimates the clean pictures; differentiable.
        x0: pictures in image units.
        seed: of the probes and of the noise that fills the bins.
        keys: names of the pictures, on which what is drawn for them depends; see
            :func:`~certes.diffusion.likelihood.bound.variational_bound`.
        probes: for the trace; two or more tell how far they can be trusted. They cost as many
            backward passes, but no further forward ones.
        tolerance: of every step of the solver.
        dequantise: whether ``x0`` are 8-bit pictures, whole multiples of 1/255, to be filled with
            uniform noise; otherwise they are scored as they are.
        levels: noise levels from which and to which the flow runs, image units; by default
            :func:`flow_levels`.
        prior: the log density of noisy pictures at the last level; by default that of noise around
            the centre of the process, where its samples start.
        batch_size: pictures that are followed at once.
        advance: is told each share of the work done.

    Raises:
        InputError: on pictures that are not 8-bit though they should be, senseless levels or
            probes, a process with several speeds, or a tolerance that cannot be met.
    """
    names = [str(i) for i in range(len(x0))] if keys is None else list(keys)
    first, last = flow_levels(process) if levels is None else levels
    _check(x0, names, probes, first, last)
    known = _noise_around(process.center) if prior is None else prior
    start, end = (math.hypot(_SPREAD, level) for level in (first, last))  # q
    n, flows = x0[0].numel(), list[Flow]()
    for i in range(0, len(x0), batch_size):
        some = names[i : i + batch_size]
        x, part = x0[i : i + batch_size].double(), len(some) / len(x0)
        if dequantise:
            x = dequantised(x, stream_seeds(seed, [f"{name}/bins" for name in some]))
        flow = flow_log_likelihood(
            _velocity(denoiser),
            (x - _MIDDLE) / start,
            (math.log(first), math.log(last)),
            lambda z: known(_MIDDLE + end * z, last) + n * math.log(end),
            signs(stream_seeds(seed, [f"{name}/probes" for name in some]), (probes, *x.shape[1:])),
            tolerance,
            lambda share, part=part: advance(share * part),
        )
        flows.append(flow)
    densities = torch.cat([flow.log_density for flow in flows]) - n * math.log(start)
    priors = torch.cat([flow.prior for flow in flows]) - n * math.log(end)
    bits = bits_per_dimension(densities, n)
    return FlowLikelihood(
        (first, last),
        tuple(tuple(float(value) for value in row) for row in bits),
        tuple(float(value) for value in priors),
        tuple(int(count) for flow in flows for count in flow.evaluations),
    )


def flow_levels(process: Process) -> tuple[float, float]:
    """The noise levels of a process just after its first time and at its last, image units.

    Raises:
        InputError: if the process has a level for each coordinate.
    """
    schedule = process.schedule
    end = _EDM_TOP if isinstance(schedule, EDM) else 1.0
    first, last = (process.scale * schedule.noise_level(t) for t in (_EARLIEST, end))
    if first.ndim:
        raise InputError(
            f"process: its {schedule.kind!r} schedule has a noise level for each coordinate; give "
            "its velocity to flow_log_likelihood"
        )
    return float(first), float(last)


def signs(seeds: Sequence[int], shape: Sequence[int]) -> Float[Tensor, " b *shape"]:
    """Probes whose entries are 1 or -1, float64, one stream for each seed."""
    return NoiseSource(seeds).normal(shape, torch.float64).sign()


def _velocity(denoiser: Denoiser) -> Velocity:
    """That of :func:`flow_likelihood`, against the log of the noise level."""

    def velocity(z: Picture, t: Float[Tensor, " b"]) -> Picture:
        level = t.exp()
        sigma = level[:, None, None, None]
        q = torch.hypot(sigma, torch.full_like(sigma, _SPREAD))
        x = _MIDDLE + q * z
        return (x - denoiser(x, level).mean) / q - (sigma / q) ** 2 * z

    return velocity


def _with_traces(
    velocity: Velocity,
    z: Float[Tensor, " b *n"],
    t: Float[Tensor, " b"],
    probes: Float[Tensor, " b probes *n"],
) -> tuple[Float[Tensor, " b *n"], Float[Tensor, "b probes"]]:
    """The velocity, and the trace of its Jacobian as each probe sees it."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        v = velocity(z, t)
    traces: list[Tensor] = []
    for probe in probes.unbind(1):
        (product,) = torch.autograd.grad(v, z, probe, retain_graph=True)
        traces.append((product * probe).flatten(1).sum(1))
    return v.detach(), torch.stack(traces, dim=1)


def _noise_around(center: float) -> Prior:
    def log_density(x: Picture, sigma: float) -> Float[Tensor, " b"]:
        z = (x - center).flatten(1) / sigma
        return -0.5 * z.square().sum(1) - z.shape[1] * math.log(math.sqrt(2 * math.pi) * sigma)

    return log_density


def _check(x0: Tensor, names: Sequence[str], probes: int, first: float, last: float) -> None:
    if x0.ndim != 4 or len(x0) == 0:
        raise InputError(f"x0: shape {tuple(x0.shape)}; give pictures, (B, C, H, W)")
    if len(set(names)) != len(x0) or len(names) != len(x0):
        raise InputError(
            f"keys: {len(set(names))} different names for {len(x0)} pictures; give each its own"
        )
    if probes < 1:
        raise InputError(f"probes: {probes}; give at least 1")
    if not 0 < first < last:
        raise InputError(f"levels: {first:g}, {last:g}; give 0 < first < last")
