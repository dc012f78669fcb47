"""Predictor-corrector sampling (Song et al. 2021, arXiv:2011.13456, algorithm 1).

At every time Langevin steps first bring the pictures nearer to the law there, then the predictor
goes to the next, in the order of the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import Process
from certes.diffusion.solvers.euler_maruyama import euler_maruyama_step
from certes.diffusion.solvers.langevin import SNR, Scale, by_level, correct
from certes.diffusion.solvers.reverse_diffusion import reverse_diffusion_step
from certes.diffusion.solvers.state import State, steps_of
from certes.diffusion.solvers.stepping import Step
from certes.errors import InputError

Picture = Float[Tensor, "b c h w"]

PredictorName = Literal["reverse_diffusion", "euler_maruyama", "ancestral"]
PREDICTORS: dict[str, Step] = {
    "reverse_diffusion": reverse_diffusion_step,
    "euler_maruyama": euler_maruyama_step,
    "ancestral": Process.transition,
}


def predictor_corrector(
    process: Process,
    denoiser: Denoiser,
    times: Float[Tensor, " steps_and_end"],
    x: Picture,
    noise: NoiseSource,
    predictor: PredictorName = "reverse_diffusion",
    snr: float = SNR,
    corrections: int = 1,
    scale: Scale = by_level,
) -> Iterator[State]:
    """Walk ``x`` down the grid, ``1 + corrections`` network calls for each step.

    The last step adds no noise, whether its end is clean or not (the authors' ``denoise``).

    Args:
        process: the schedule and its basis.
        denoiser: estimates the clean pictures.
        times: descending times; the last may be free of noise.
        x: pictures at ``times[0]``, process coordinates.
        noise: one stream for each picture.
        predictor: a key of :data:`PREDICTORS`.
        snr: of the corrector: 0.16 for small pictures, 0.15 and less for larger ones.
        corrections: Langevin steps at each time.
        scale: of these steps, :func:`~certes.diffusion.solvers.langevin.by_level` or, as
            published but for each picture alone, ``by_norms``.

    Raises:
        InputError: if the predictor is unknown.
    """
    if predictor not in PREDICTORS:
        raise InputError(f"predictor: {predictor!r}; give one of {', '.join(PREDICTORS)}")
    step, end = PREDICTORS[predictor], times[-1]
    for t, s in steps_of(times):
        x = correct(process, denoiser, x, t, noise, snr, corrections, scale)
        estimate = process.denoise(denoiser, x, t).mean
        x, std = step(process, x, estimate, t, s)
        if s > end:
            x = x + std * noise.normal(x.shape[1:], x.dtype)
        yield State(float(s), x, estimate)
