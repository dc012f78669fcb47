"""From a measurement to a posterior: the call that users make."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.solvers.state import State
from certes.errors import InputError
from certes.intervals.posterior import Posterior, join
from certes.networks.colours import Colours
from certes.networks.fitting import prior_name, suited
from certes.networks.model import load
from certes.restoration.covariances import COVARIANCES
from certes.restoration.deepinv import Physics
from certes.restoration.drawing import Draw
from certes.restoration.operators.base import Operator
from certes.restoration.request import Noise, Request, checked, provenance_of
from certes.restoration.samplers.ddrm import official_levels

# Values in one batch; about 1 GB of memory on a CPU, where the network takes its own portions of
# it, and 5 GB on a GPU with the bundled models.
_BATCH_VALUES = {"cpu": 2**20, "cuda": 2**22}


def restore(
    y: Float[Tensor, " b *out"] | npt.NDArray[Any],
    operator: Operator | Physics | Sequence[Operator],
    model: str | Denoiser,
    *,
    noise: Noise,
    samples: int = 16,
    steps: int = 20,
    seed: int = 0,
    sampler: str | None = None,
    covariance: str = "model",
    colours: Colours = "opponent",
    faithful: bool = False,
    keep_samples: bool = True,
    alpha: float = 0.1,
    batch_size: int | None = None,
    callback: Callable[[State], None] | None = None,
) -> Posterior:
    """Draw posterior samples of the pictures behind measurements ``y = H x + noise e``.

    Args:
        y: measurements, image units ([0, 1]; noise may carry them outside), not clipped.
        operator: ``H``; or one for each measurement (masks or kernels that differ); or a linear
            physics of deepinv.
        model: a model name or folder, a loaded :class:`~certes.networks.Model`, or any denoiser.
        noise: standard deviation of the measurement noise, image units: one for all, one each, or
            one for every value of ``y``; an estimate, whose error widens the intervals
            (:func:`certes.restoration.measure_noise`); or a law of how it grows with the signal.
        samples: K, how many answers for each picture.
        steps: network calls for each answer.
        seed: the same seed gives a picture the same samples whatever batch it is in.
        sampler: a key of :data:`certes.restoration.samplers.SAMPLERS`; by default the calibrated
            one that suits the operator.
        covariance: a key of :data:`certes.restoration.covariances.COVARIANCES`: what stands for
            ``Cov[x_0 | x_t]``; ``jacobian`` works with every model, at several times the cost.
        colours: how a prior of grey pictures judges colour ones; see
            :mod:`certes.networks.colours`.
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
    device = prior.device or request.y.device
    size = suitable_batch(device, request.operators[0].n) if batch_size is None else batch_size
    if min(samples, steps, size) < 1:
        raise InputError(
            f"samples, steps, batch_size: {samples}, {steps}, {batch_size}; give at least 1 of each"
        )
    shape = request.operators[0].in_shape
    denoiser = COVARIANCES[covariance](suited(prior, shape, colours))
    method = request.method
    draw = Draw(
        lambda part, grid, source: method.draw(method.view(part), denoiser, grid, source),
        lambda part, calls: (
            official_levels(calls) if faithful else method.grid(method.view(part), calls)
        ),
        method.together,
        prior.confined,
        prior.inflation if method.posterior else 1.0,
        samples,
        steps,
        seed,
        keep_samples,
        alpha,
        callback,
    )
    provenance, names = (
        provenance_of(request, prior_name(prior, shape, colours)),
        stream_names(request.y),
    )
    if method.together:
        size = max(1, size // samples)
    return join(
        [
            draw(
                request.part(group, device),
                request.deviation[group],
                [names[i] for i in group],
                max(1, size // len(group)),
                provenance,
            )
            for group in _groups(request, size)
        ]
    )


def suitable_batch(device: torch.device, n: int) -> int:
    """How many pictures of ``n`` values a device likes at once."""
    return max(1, _BATCH_VALUES.get(device.type, _BATCH_VALUES["cuda"]) // n)


def _groups(request: Request, size: int) -> Iterator[list[int]]:
    """Runs of pictures of one operator and one noise level, at most ``size`` long.

    They share a grid; grouping so keeps a picture's grid, hence its samples, its own affair.
    """
    kinds = [
        (id(H), float(request.noise[i]) if request.noise.ndim == 1 else i, float(deviation))
        for i, (H, deviation) in enumerate(zip(request.operators, request.deviation, strict=True))
    ]
    run: list[int] = []
    for i, kind in enumerate(kinds):
        if run and (len(run) == size or kind != kinds[run[0]]):
            yield run
            run = []
        run.append(i)
    yield run


def stream_names(y: Tensor) -> list[str]:
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
