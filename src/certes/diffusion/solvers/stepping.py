"""The walk of every solver whose step is a Gaussian around what it believes the picture to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import Process
from certes.diffusion.solvers.state import State, steps_of

Picture = Float[Tensor, "b c h w"]
Step = Callable[..., tuple[Picture, Float[Tensor, " ..."]]]
"""Mean and standard deviation of a step: ``(process, x, x0, t, s)``."""


def walk(
    step: Step,
    process: Process,
    denoiser: Denoiser,
    times: Float[Tensor, " steps_and_end"],
    x: Picture,
    noise: NoiseSource,
) -> Iterator[State]:
    """Walk ``x`` down the grid, one network call for each step.

    The last pictures are free of noise if the last time is; if it is not, ``estimate`` of the last
    state is what the last step took for the clean pictures.

    Args:
        step: from one time to the next.
        process: the schedule and its basis.
        denoiser: estimates the clean pictures.
        times: descending times; the last may be free of noise.
        x: pictures at ``times[0]``, process coordinates.
        noise: one stream for each picture.
    """
    for t, s in steps_of(times):
        estimate = process.denoise(denoiser, x, t).mean
        mean, std = step(process, x, estimate, t, s)
        x = mean + std * noise.normal(x.shape[1:], x.dtype)
        yield State(float(s), x, estimate)
