"""From a measurement to a posterior: the call that users make."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.solvers.state import State
from certes.errors import InputError
from certes.intervals.posterior import Posterior, PosteriorBuilder, join
from certes.networks.model import Model, load
from certes.networks.tiling import fitted
from certes.restoration.covariances import COVARIANCES
from certes.restoration.measurement import Measurement
from certes.restoration.operators.base import Operator
from certes.restoration.request import Request, checked, provenance_of
from certes.restoration.samplers.ddrm import official_levels

# Values in one batch; about 1 GB of memory on a CPU, where the network takes its own portions of
# it, and 5 GB on a GPU with the bundled models.
_BATCH_VALUES = {"cpu": 2**20, "cuda": 2**22}


def restore(
    y: Float[Tensor, " b *out"] | npt.NDArray[Any],
    operator: Operator | Sequence[Operator],
    model: str | Denoiser,
    *,
    noise: float | Float[Tensor, " b"],
    samples: int = 16,
    steps: int = 20,
    seed: int = 0,
    sampler: str | None = None,
    covariance: str = "model",
    faithful: bool = False,
    keep_samples: bool = True,
    alpha: float = 0.1,
    batch_size: int | None = None,
    callback: Callable[[State], None] | None = None,
) -> Posterior:
    """Draw posterior samples of the pictures behind measurements ``y = H x + noise e``.

    Args:
        y: measurements, image units ([0, 1]; noise may carry them outside), not clipped.
        operator: ``H``; or one for each measurement (masks or kernels that differ).
        model: a model name or folder, a loaded :class:`~certes.networks.Model`, or any denoiser.
        noise: standard deviation of the measurement noise, image units; one for all, or one each.
        samples: K, how many answers for each picture.
        steps: network calls for each answer.
        seed: the same seed gives a picture the same samples whatever batch it is in.
        sampler: a key of :data:`certes.restoration.samplers.SAMPLERS`; by default the calibrated
            one that suits the operator.
        covariance: a key of :data:`certes.restoration.covariances.COVARIANCES`: what stands for
            ``Cov[x_0 | x_t]``; ``jacobian`` works with every model, at several times the cost.
        faithful: with ``ddrm``, the official code's noise levels instead of an even grid.
        keep_samples: keep all samples, or (``False``) only mean, std and the quantiles for
            ``alpha``, in memory that does not grow with ``samples``.
        alpha: the miss rate whose bounds are kept when samples are not.
        batch_size: pictures in one network call; default: what suits the device.
        callback: called with the solver's state after every network call (progress, previews).

    Raises:
        InputError: for measurements that the operator cannot have made, or senseless settings.
        ModelError: if the model does not fit the pictures.
    """
    prior = load(model) if isinstance(model, str) else model
    request = checked(y, operator, noise, sampler, covariance, faithful)
    device = device_of(prior, request.y)
    size = _suitable(device, request.operators[0].n) if batch_size is None else batch_size
    if min(samples, steps, size) < 1:
        raise InputError(
            f"samples, steps, batch_size: {samples}, {steps}, {batch_size}; give at least 1 of each"
        )
    method, names = request.method, _names(request.y)
    denoiser = COVARIANCES[covariance](fitted(prior, request.operators[0].in_shape))
    provenance = provenance_of(request, prior)
    inflation = prior.inflation if method.posterior else 1.0
    parts: list[Posterior] = []
    for group in _groups(request, size):
        part = _measurement(request, group, device)
        view = method.view(part)
        grid = official_levels(steps) if faithful else method.grid(view, steps)
        calls = len(grid) - 1
        builder = PosteriorBuilder(samples, keep_samples, alpha, prior.confined)
        together = samples if method.together else max(1, size // len(group))
        for first in range(0, samples, together):
            block = range(first, min(first + together, samples))
            keys = [f"{names[i]}/{k}" for k in block for i in group]
            source = NoiseSource(stream_seeds(seed, keys), device)
            copies = method.view(part.repeat(len(block)))
            states = method.draw(copies, denoiser, grid, source)
            builder.add(*_run(states, len(block), calls, callback))
        made = replace(provenance, steps=calls, samples=samples)
        parts.append(builder.build(made, inflation))
    return join(parts)


def _measurement(request: Request, group: list[int], device: torch.device) -> Measurement:
    y, noise = request.y[group].to(device), request.noise[group]
    return Measurement(request.operators[group[0]], y, noise)


def _suitable(device: torch.device, n: int) -> int:
    return max(1, _BATCH_VALUES.get(device.type, _BATCH_VALUES["cuda"]) // n)


def device_of(prior: Denoiser, y: Tensor) -> torch.device:
    """Where a prior computes; exact denoisers compute where their pictures are."""
    return prior.device if isinstance(prior, Model) else y.device


def _run(
    states: Iterator[State], count: int, calls: int, callback: Callable[[State], None] | None
) -> tuple[Tensor, Tensor]:
    """Samples and estimates, each (k, b, c, h, w), of ``count`` copies of a group of pictures."""
    total, last = torch.zeros(()), None
    for index, last in enumerate(states):
        if callback is not None:
            callback(last)
        if index >= calls // 2:
            total = total + last.estimate
    assert last is not None  # a grid has at least one step
    shape = (count, -1, *last.x.shape[1:])
    return last.x.reshape(shape), (total / (calls - calls // 2)).reshape(shape)


def _groups(request: Request, size: int) -> Iterator[list[int]]:
    """Runs of pictures of one operator and one noise level, at most ``size`` long.

    They share a grid; grouping so keeps a picture's grid, hence its samples, its own affair.
    """
    kinds = [
        (id(operator), float(level))
        for operator, level in zip(request.operators, request.noise, strict=True)
    ]
    run: list[int] = []
    for i, kind in enumerate(kinds):
        if run and (len(run) == size or kind != kinds[run[0]]):
            yield run
            run = []
        run.append(i)
    yield run


def _names(y: Tensor) -> list[str]:
    """A name for each measurement, from its content, so that no other one shapes its noise.

    Equal measurements in one batch are numbered: whoever repeats one wants other samples of it.
    """
    seen: Counter[str] = Counter()
    names: list[str] = []
    for row in y.detach().float().cpu():
        digest = hashlib.blake2b(row.contiguous().numpy().tobytes(), digest_size=16).hexdigest()
        names.append(f"{digest}/{seen[digest]}")
        seen[digest] += 1
    return names
