"""The variational bound of pictures, step by step or with some of the steps standing for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.grids import Grid
from certes.diffusion.likelihood.decoder import GREY, Decoder, check_8bit, check_decoder
from certes.diffusion.likelihood.result import Bound, Level, standard_error
from certes.diffusion.likelihood.steps import drawn_steps, strata
from certes.diffusion.likelihood.terms import Terms
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.process import Process
from certes.diffusion.reverse import Variance, check_variance
from certes.errors import InputError


def variational_bound(
    process: Process,
    denoiser: Denoiser,
    x0: Float[Tensor, "b c h w"],
    times: Grid,
    variances: Sequence[Variance],
    *,
    levels: int | None = None,
    seed: int = 0,
    keys: Sequence[str] | None = None,
    decoder: Decoder = "exact",
    batch_size: int = 64,
    advance: Callable[[float], None] = lambda share: None,
) -> dict[Variance, Bound]:
    r"""Bits per dimension of 8-bit pictures, for each variance, from the same network calls.

    Every step is evaluated at an ``x_t`` of its own, the estimate cut to [0, 1] where the
    denoiser's pictures are confined to it; :mod:`certes.diffusion.likelihood.terms` tells the rest.

    Args:
        process: the schedule and its units.
        denoiser: estimates the clean pictures.
        x0: pictures, whole multiples of 1/255.
        times: descending, at least three; the last stands for the picture.
        variances: of the reverse steps, see :mod:`certes.diffusion.reverse`.
        levels: put all steps but the last into this many groups and evaluate one of each, drawn for
            each picture: unbiased, with ``levels + 1`` network calls. ``None`` takes every step.
        seed: of the noise and the draws.
        keys: names of the pictures. What is drawn for one depends on the seed, its name and the
            step alone; without names, pictures are numbered.
        decoder: of the last step.
        batch_size: pictures that the denoiser gets at once.
        advance: is told each share of the work done.

    Raises:
        InputError: on pictures that are not 8-bit, a grid that is none, or an unknown name.
        ModelError: if the denoiser does not know one of the variances.
    """
    names = [str(i) for i in range(len(x0))] if keys is None else list(keys)
    _check(x0, times, variances, levels, names, decoder)
    last = len(times) - 2
    groups = strata(process.schedule, times, levels)
    steps = pad(drawn_steps(groups, seed, names), (0, 1), value=last)
    terms = Terms(process, denoiser, times, variances, decoder)
    bits = torch.zeros(len(variances), *steps.shape, dtype=torch.float64)
    errors = torch.zeros(steps.shape, dtype=torch.float64)
    for group, step, rows in _visits(steps, batch_size):
        streams = stream_seeds(seed, [f"{names[int(row)]}/{step}" for row in rows])
        cost, error = terms.at(step, x0[rows], NoiseSource(streams, x0.device))
        bits[:, rows, group], errors[rows, group] = cost.cpu(), error.cpu()
        advance(len(rows) / steps.numel())
    prior, runs = terms.prior(x0).cpu(), _runs(process, times, [*groups, range(last, last + 1)])
    return {v: _bound(v, prior, c, errors, runs) for v, c in zip(variances, bits, strict=True)}


@dataclass(frozen=True)
class _Run:
    """Steps that were estimated together: between which noise levels, and how many."""

    noise_from: float
    noise_to: float
    steps: int


def _runs(process: Process, times: Grid, groups: Sequence[range]) -> list[_Run]:
    noise = [float(level) for level in process.scale * process.schedule.noise_level(times)]
    noise[-1] = 0.0  # the picture itself, even where the schedule ends before it
    return [_Run(noise[group.start], noise[group.stop], len(group)) for group in groups]


def _visits(
    steps: Int64[Tensor, "b groups"], batch_size: int
) -> Iterator[tuple[int, int, Int64[Tensor, " rows"]]]:
    """(group, step, pictures): all pictures that drew a step are evaluated together."""
    for group, column in enumerate(steps.unbind(1)):
        for step in sorted({int(step) for step in column}):
            everyone = torch.argwhere(column == step).flatten()
            for rows in torch.split(everyone, batch_size):
                yield group, step, rows


def _bound(
    variance: Variance,
    prior: Float[Tensor, " b"],
    bits: Float[Tensor, "b runs"],
    errors: Float[Tensor, "b runs"],
    runs: Sequence[_Run],
) -> Bound:
    """The bound from the bits of the steps drawn and the square errors of their estimates."""
    costs = bits * torch.tensor([run.steps for run in runs])
    *levels, decoder = (
        Level(
            **vars(run),
            bits=float(cost.mean()),
            standard_error=standard_error(cost),
            rmse=GREY * float(error.mean().sqrt()),
        )
        for run, cost, error in zip(runs, costs.unbind(1), errors.unbind(1), strict=True)
    )
    pictures = tuple(float(value) for value in prior + costs.sum(1))
    return Bound(variance, float(prior.mean()), tuple(levels), decoder, pictures)


def _check(
    x0: Tensor,
    times: Grid,
    variances: Sequence[Variance],
    levels: int | None,
    names: Sequence[str],
    decoder: Decoder,
) -> None:
    if x0.ndim != 4 or len(x0) == 0:
        raise InputError(f"x0: shape {tuple(x0.shape)}; give pictures, (B, C, H, W)")
    check_8bit(x0)
    check_decoder(decoder)
    for variance in variances:
        check_variance(variance)
    if times.ndim != 1 or len(times) < 3 or not bool((times[1:] < times[:-1]).all()):
        raise InputError(
            f"times: shape {tuple(times.shape)}; give at least three, in strictly descending order"
        )
    if levels is not None and levels < 1:
        raise InputError(f"levels: {levels}; give at least 1, or None for every step")
    if len(set(names)) != len(x0) or len(names) != len(x0):
        raise InputError(
            f"keys: {len(set(names))} different names for {len(x0)} pictures; give each its own"
        )
