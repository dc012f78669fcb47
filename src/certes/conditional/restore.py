"""From a condition to a posterior: :func:`certes.restore` without an operator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, cast, get_args

import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from certes.conditional.model import ConditionalModel
from certes.conditional.policies import policy_named
from certes.conditional.sampling import draw_given, levels_of
from certes.conditional.tasks import ConditionalTask, checked_conditions
from certes.diffusion.grids import Grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.solvers.sampling import ReverseChain, SolverName
from certes.diffusion.solvers.state import State
from certes.errors import InputError
from certes.intervals.bounds import Provenance
from certes.intervals.posterior import Posterior, join
from certes.restoration.drawing import Draw
from certes.restoration.measurement import Measurement
from certes.restoration.operators import Denoise
from certes.restoration.operators.base import as_tensor
from certes.restoration.restore import stream_names, suitable_batch

SOLVER: SolverName = "unipc_3"
"""Deterministic, of order four in the log-SNR: the nearest to the posterior at 15 to 20 calls."""
STEPS = 20
POLICY = "fresh"
GIVEN = "given"
"""How the operators of conditional models' calibration cards begin."""


def restore_given(
    y: Float[Tensor, "b ..."] | npt.NDArray[Any],
    model: ConditionalModel,
    *,
    samples: int = 16,
    steps: int = 20,
    seed: int = 0,
    sampler: str | None = None,
    policy: str = POLICY,
    keep_samples: bool = True,
    alpha: float = 0.1,
    batch_size: int | None = None,
    callback: Callable[[State], None] | None = None,
) -> Posterior:
    """Draw pictures for conditions.

    Args:
        y: conditions, in the form that the model's task tells (:mod:`certes.conditional.tasks`).
        model: a conditional model.
        samples: K, how many answers for each condition.
        steps: noise levels that each answer visits, which is the number of network calls with most
            solvers.
        seed: the same seed gives a condition the same samples whatever batch it is in.
        sampler: a key of :data:`certes.diffusion.solvers.sampling.SOLVERS`; default
            :data:`SOLVER`.
        policy: which noisy conditions the model is shown (:mod:`certes.conditional.policies`); of
            no consequence for a CDE.
        keep_samples, alpha, batch_size, callback: see :func:`certes.restoration.restore`.

    Raises:
        InputError: for conditions that the model cannot have, or senseless settings.
    """
    chain = _chain(sampler, steps)
    policy_named(policy)
    y = as_tensor(y)
    shown, shape = _shown(y, model)
    device = model.device or y.device
    size = (
        suitable_batch(device, shape[0] * shape[1] * shape[2]) if batch_size is None else batch_size
    )
    if min(samples, size) < 1:
        raise InputError(f"samples, batch_size: {samples}, {batch_size}; give at least 1 of each")

    def walk(part: Measurement, grid: Grid, source: NoiseSource) -> Iterator[State]:
        return draw_given(model, model.estimator, part.y, shape, source, chain, policy)

    draw = Draw(
        chain=walk,
        grid=lambda part, calls: levels_of(model.estimator, calls),
        together=False,
        confined=model.confined,
        inflation=1.0,
        samples=samples,
        steps=steps,
        seed=seed,
        keep_samples=keep_samples,
        alpha=alpha,
        callback=callback,
    )
    provenance = provenance_given(model, sampler, policy)
    # What is measured of a condition is the condition: the operator is the identity.
    c, h, w = shown.shape[1:]
    whole = Measurement(Denoise((c, h, w)), shown.to(device), shown.new_zeros(len(y)).to(device))
    names = stream_names(y)
    parts: list[Posterior] = []
    for first in range(0, len(y), size):
        rows = slice(first, first + size)
        part = Measurement(whole.operator, whole.y[rows], whole.noise[rows])
        count = len(part.y)
        deviation = torch.zeros(count)
        parts.append(draw(part, deviation, names[rows], max(1, size // count), provenance))
    return join(parts)


def provenance_given(model: ConditionalModel, sampler: str | None, policy: str) -> Provenance:
    """What makes the answers, as calibration cards have it; steps and samples are still to come."""
    manner = sampler or SOLVER
    if model.estimator.predicts_y:
        manner = f"{manner}/{policy}"
    return Provenance(model.hash, label_of(model.task), None, manner)


def label_of(task: ConditionalTask) -> str:
    """A task in words, with its parameters."""
    config = task.to_config()
    kind = config.pop("kind")
    return f"{GIVEN} {kind} {json.dumps(config, sort_keys=True)}"


def _chain(sampler: str | None, steps: int) -> ReverseChain:
    name = SOLVER if sampler is None else sampler
    if name not in get_args(SolverName):
        raise InputError(
            f"sampler: {name!r}; a conditional model takes {', '.join(get_args(SolverName))}"
        )
    return ReverseChain(cast(SolverName, name), steps)


def _shown(
    y: Tensor, model: ConditionalModel
) -> tuple[Float[Tensor, "b cy h w"], tuple[int, int, int]]:
    """Conditions as the network sees them, and the shape of their pictures."""
    return checked_conditions(model.task, y), model.task.picture_shape(y, model.channels)
