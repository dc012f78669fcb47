"""From a measurement to a posterior: the call that users make."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.solvers.state import State
from certes.errors import InputError
from certes.intervals.bounds import Provenance
from certes.intervals.posterior import Posterior, PosteriorBuilder, join
from certes.networks.model import Model, load
from certes.networks.tiling import fitted
from certes.restoration.ddrm import official_levels, sample_ddrm
from certes.restoration.measurement import Measurement, measure
from certes.restoration.operators import LinearOperator
from certes.restoration.posterior_sampler import noise_levels, sample_posterior

# Values in one batch; about 1 GB of memory on a CPU, where the network takes its own portions of
# it, and 5 GB on a GPU with the bundled models.
_BATCH_VALUES = {"cpu": 2**20, "cuda": 2**22}


class Sampler(Protocol):
    """A generator of states whose last one holds the samples."""

    def __call__(
        self, measurement: Measurement, denoiser: Denoiser, levels: Tensor, noise: NoiseSource
    ) -> Iterator[State]: ...


SAMPLERS: dict[str, Sampler] = {"pinned": sample_posterior, "ddrm": sample_ddrm}


def restore(
    y: Float[Tensor, " b *out"],
    operator: LinearOperator,
    model: str | Denoiser,
    *,
    noise: float | Float[Tensor, " b"],
    samples: int = 16,
    steps: int = 20,
    seed: int = 0,
    sampler: str = "pinned",
    faithful: bool = False,
    keep_samples: bool = True,
    alpha: float = 0.1,
    batch_size: int | None = None,
    callback: Callable[[State], None] | None = None,
) -> Posterior:
    """Draw posterior samples of the pictures behind measurements ``y = H x + noise e``.

    Args:
        y: measurements, image units ([0, 1]; noise may carry them outside), not clipped.
        operator: ``H``.
        model: a model name or folder, a loaded :class:`~certes.networks.Model`, or any denoiser.
        noise: standard deviation of the measurement noise, image units; one for all, or one each.
        samples: K, how many answers for each picture.
        steps: network calls for each answer.
        seed: the same seed gives a picture the same samples whatever batch it is in.
        sampler: ``pinned`` (covariance-aware, calibrated) or ``ddrm`` (as published).
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
    y, levels = _checked(y, operator, noise, sampler, faithful)
    device = device_of(prior, y)
    size = _suitable(device, operator.n) if batch_size is None else batch_size
    if min(samples, steps, size) < 1:
        raise InputError(
            f"samples, steps, batch_size: {samples}, {steps}, {batch_size}; give at least 1 of each"
        )
    names, denoiser = _names(y), fitted(prior, operator.in_shape)
    provenance = _provenance(prior, operator, levels, sampler + "-faithful" * faithful)
    # DDRM is left as published.
    inflation = 1.0 if sampler == "ddrm" else prior.inflation
    parts: list[Posterior] = []
    for group in _groups(levels, size):
        part = measure(operator, y[group].to(device), levels[group])
        grid = official_levels(steps) if faithful else noise_levels(part, steps)
        calls = len(grid) - 1
        builder = PosteriorBuilder(samples, keep_samples, alpha, prior.confined)
        together = max(1, size // len(group))
        for first in range(0, samples, together):
            block = range(first, min(first + together, samples))
            keys = [f"{names[i]}/{k}" for k in block for i in group]
            source = NoiseSource(stream_seeds(seed, keys), device)
            states = SAMPLERS[sampler](part.repeat(len(block)), denoiser, grid, source)
            builder.add(*_run(states, len(block), calls, callback))
        made = replace(provenance, steps=calls, samples=samples)
        parts.append(builder.build(made, inflation))
    return join(parts)


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


def _groups(levels: Float[Tensor, " b"], size: int) -> Iterator[list[int]]:
    """Runs of pictures of one noise level (they share a grid), at most ``size`` long.

    Grouping by noise level keeps a picture's grid, hence its samples, its own affair.
    """
    run: list[int] = []
    for i, level in enumerate(map(float, levels)):
        if run and (len(run) == size or level != float(levels[run[0]])):
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


def _checked(
    y: Tensor,
    operator: LinearOperator,
    noise: float | Tensor,
    sampler: str,
    faithful: bool,
) -> tuple[Float[Tensor, " b *out"], Float[Tensor, " b"]]:
    if sampler not in SAMPLERS:
        raise InputError(f"sampler: {sampler!r}; give one of {', '.join(SAMPLERS)}")
    if faithful and sampler != "ddrm":
        raise InputError("faithful: only sampler='ddrm' has an official version to be faithful to")
    y = operator.observed(y)
    if len(y) == 0 or not bool(torch.isfinite(y).all()):
        raise InputError("y: empty, or not finite; remove NaN and infinite values (or mask them)")
    # Not every caller is checked for types, and "auto" is what the command line says.
    if not isinstance(noise, int | float | Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            f"noise: {noise!r}; give a number, image units; certes.restoration.estimate_noise(y) "
            "finds one"
        )
    levels = torch.as_tensor(noise, dtype=y.dtype)
    if levels.ndim > 1 or levels.numel() not in (1, len(y)):
        raise InputError(
            f"noise: shape {tuple(levels.shape)}; give one number, or one for each of the "
            f"{len(y)} measurements"
        )
    levels = levels.expand(len(y))
    if not bool(torch.isfinite(levels).all()) or float(levels.min()) < 0:
        raise InputError(f"noise: {noise}; give a standard deviation of 0 or more, image units")
    return y, levels


def _provenance(
    prior: Denoiser, operator: LinearOperator, levels: Tensor, sampler: str
) -> Provenance:
    model = prior.hash if isinstance(prior, Model) else type(prior).__name__
    same = bool((levels == levels[0]).all())
    noise = round(float(levels[0]), 6) if same else None
    return Provenance(model, operator_label(operator), noise, sampler)


def operator_label(operator: LinearOperator) -> str:
    """The operator in words: its parameters but not the picture's size, shares to the percent."""
    parameters = {k: v for k, v in operator.describe().items() if k not in ("name", "shape")}
    if "known" in parameters:
        parameters["known"] = round(parameters["known"], 2)
    return (
        f"{operator.name} {json.dumps(parameters, sort_keys=True)}" if parameters else operator.name
    )
