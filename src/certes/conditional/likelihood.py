r"""The likelihood of pictures given conditions, and of pairs, by the probability flow.

A CDE knows the score of :math:`p(x_t | y)`, hence :math:`\ln p(x | y)`. What diffuses y knows the
joint score only, hence :math:`\ln p(x, y)`; and that only if y has been drowned at the last time:
the flow ends at the prior :math:`N(c, \sigma_y^2 I)`, and what y still shows there is an error of
:math:`KL(p_T \| \pi)` nats, which theorem 2 of Batzolis et al. (2021) hides in its constant and
which grows without bound as y slows down. Where it would be wrong there is an error, not a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from certes.conditional.estimators import Estimator
from certes.conditional.model import ConditionalModel
from certes.conditional.policies import Fixed, GivenCondition
from certes.diffusion.denoiser import ConditionalDenoiser
from certes.diffusion.likelihood import (
    Flow,
    FlowLikelihood,
    flow_likelihood,
    flow_log_likelihood,
    signs,
)
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.process import Process
from certes.diffusion.schedules import Schedule
from certes.errors import InputError, ModelError

Picture = Float[Tensor, "b c h w"]
Scalars = Float[Tensor, " b"]

_START = 1e-5  # the first time, as in score-based SDEs
_MIDDLE, _SPREAD = 0.5, 0.25  # of usual pictures; they set what the tolerance is relative to
# Nats for each value that the prior may be wrong by: a thousandth of a bit for ten of them.
_WRONG = 1e-4


def conditional_likelihood(
    model: ConditionalModel,
    x0: Picture,
    y: Float[Tensor, "b ..."],
    *,
    seed: int = 0,
    probes: int = 1,
    tolerance: float = 1e-4,
    dequantise: bool = True,
    advance: Callable[[float], None] = lambda share: None,
) -> FlowLikelihood:
    """Bits per dimension of pictures given their conditions; for a CDE.

    Args:
        model: a conditional model whose y does not diffuse.
        x0: pictures in image units, all followed at once.
        y: their conditions, in users' form.
        seed, probes, tolerance, dequantise, advance: see
            :func:`certes.diffusion.likelihood.flow_likelihood`.

    Raises:
        ModelError: for any other estimator: it does not know the density given y.
        InputError: for conditions of another number than the pictures.
    """
    if model.estimator.predicts_y:
        raise ModelError(
            f"model: {model.name} knows p(x_t | y_t), not p(x_t | y), since its condition "
            "diffuses; a CDE tells ln p(x | y), joint_likelihood what this one knows"
        )
    if len(x0) != len(y):
        raise InputError(f"y: {len(y)} conditions for {len(x0)} pictures; give one each")
    shown = model.task.shown(y).to(model.device or x0.device)
    policy = Fixed(shown, model.estimator.y_level, NoiseSource([]))
    return flow_likelihood(
        Process(model.estimator.x, center=_MIDDLE),
        GivenCondition(model, policy),
        x0,
        seed=seed,
        probes=probes,
        tolerance=tolerance,
        dequantise=dequantise,
        batch_size=len(x0),
        advance=advance,
    )


def joint_likelihood(
    denoiser: ConditionalDenoiser,
    estimator: Estimator,
    x0: Picture,
    y: Picture,
    *,
    seed: int = 0,
    probes: int = 1,
    tolerance: float = 1e-5,
) -> Flow:
    r""":math:`\ln p(x, y)`, nats, of pairs as they are (no bins are filled).

    What is scored is the density of pairs with the noise of the first time.

    Args:
        denoiser: of pairs, with an estimate of y; differentiable.
        estimator: how its blocks diffuse.
        x0: pictures.
        y: conditions as the denoiser sees them.
        seed: of the probes.
        probes: for the trace.
        tolerance: of every step of the solver.

    Raises:
        ModelError: if y does not diffuse, or so little that the prior would be wrong.
    """
    if not estimator.predicts_y:
        raise ModelError("estimator: y does not diffuse; conditional_likelihood tells ln p(x | y)")
    for name, schedule, block in (("x", estimator.x, x0), ("y", estimator.y, y)):
        _check_prior(name, schedule, block)
    flow = _JointFlow(denoiser, estimator, x0.shape[1:], y.shape[1:])
    first, last = torch.tensor([_START, 1.0], dtype=torch.float64)[:, None]
    z = flow.coordinates(x0.double(), y.double(), first)
    seeds = stream_seeds(seed, [f"{i}/probes" for i in range(len(x0))])
    found = flow_log_likelihood(
        flow.velocity,
        z,
        (_START, 1.0),
        lambda end: flow.log_prior(end, last),
        signs(seeds, (probes, z.shape[1])),
        tolerance,
    )
    volume = flow.log_volume(first)
    return Flow(found.log_density - volume, found.prior, found.end, found.evaluations)


class _JointFlow:
    """The probability flow of pairs, each block in coordinates that stay of order one."""

    def __init__(
        self,
        denoiser: ConditionalDenoiser,
        estimator: Estimator,
        x_shape: torch.Size,
        y_shape: torch.Size,
    ) -> None:
        self.denoiser = denoiser
        self.schedules = estimator.x, estimator.y
        self.shapes = x_shape, y_shape
        self.sizes = [math.prod(x_shape), math.prod(y_shape)]

    def _levels(self, t: Scalars) -> list[Scalars]:
        return [schedule.noise_level(t) for schedule in self.schedules]

    def coordinates(self, x: Picture, y: Picture, t: Scalars) -> Float[Tensor, "b n"]:
        """Pairs at noise of time ``t``, image units, as one vector each."""
        parts = zip((x, y), self._levels(t), strict=True)
        return torch.cat([((v - _MIDDLE).flatten(1) / _size(s)) for v, s in parts], dim=1)

    def velocity(self, z: Float[Tensor, "b n"], t: Scalars) -> Float[Tensor, "b n"]:
        """``dz / dt``."""
        levels, halves = self._levels(t), torch.split(z, self.sizes, dim=1)
        x, y = (
            (_MIDDLE + _size(level) * half).reshape(-1, *shape)
            for half, level, shape in zip(halves, levels, self.shapes, strict=True)
        )
        known = self.denoiser(x, levels[0], y, levels[1])
        if known.y is None:
            raise ModelError("denoiser: estimates no y, though the estimator lets it diffuse")
        moved: list[Tensor] = []
        for half, level, schedule, seen, mean in zip(
            halves, levels, self.schedules, (x, y), (known.x.mean, known.y), strict=True
        ):
            size, sigma = _size(level), level[:, None]
            pull = (seen - mean).flatten(1) / size - (sigma / size) ** 2 * half
            moved.append(_rate(schedule, t)[:, None] * pull)
        return torch.cat(moved, dim=1)

    def log_prior(self, z: Float[Tensor, "b n"], t: Scalars) -> Scalars:
        """The log density of the coordinates at the last time, nats."""
        total = z.new_zeros(len(z))
        for half, level in zip(torch.split(z, self.sizes, dim=1), self._levels(t), strict=True):
            scaled = half * _size(level) / level[:, None]
            total = total - 0.5 * (scaled.square().sum(1) + half.shape[1] * math.log(2 * math.pi))
            total = total + half.shape[1] * (_size(level)[:, 0] / level).log()
        return total

    def log_volume(self, t: Scalars) -> Float[Tensor, ""]:
        """How much longer pairs are than their coordinates, as the log of a volume."""
        pairs = zip(self.sizes, self._levels(t), strict=True)
        return torch.stack([n * _size(level)[0, 0].log() for n, level in pairs]).sum()


def _size(level: Scalars) -> Float[Tensor, "b 1"]:
    return torch.hypot(level, torch.full_like(level, _SPREAD))[:, None]


def _rate(schedule: Schedule, t: Scalars) -> Scalars:
    """How fast the log of the noise level grows."""
    return schedule.diffusion_squared(t) / (2 * schedule.sigma(t) ** 2)


def _check_prior(name: str, schedule: Schedule, block: Tensor) -> None:
    """Refuse a block that its noise does not drown: KL of N(0, s^2 + d^2) and N(0, s^2)."""
    last = float(schedule.noise_level(1.0))
    deviation = float((block - _MIDDLE).double().square().mean().sqrt())
    ratio = (deviation / last) ** 2
    wrong = (ratio - math.log1p(ratio)) / 2
    if wrong > _WRONG:
        raise ModelError(
            f"estimator: {name}'s last noise, {last:g}, does not drown what spreads by "
            f"{deviation:.2g}: the prior would be wrong by {wrong * block[0].numel():.3g} nats a "
            "picture; only an estimator whose blocks all end in pure noise, as CDiffE's do, tells "
            "ln p(x, y)"
        )
