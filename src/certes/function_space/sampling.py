r"""Functions drawn from a model, at any resolution and size.

Noise levels are those of a unit of area: a picture of pitch p starts at, and passes, pixel noise
1/p times as large, and its noise shares its cosine coefficients with that of every other pitch
(:class:`~certes.function_space.noise.CoupledNoise`). So the same seed gives the same function: what
a coarse picture shows of it a finer one shows too, up to the model's own discretisation error.

A lattice coarser than the training pixels does not carry the noise that the network knows: a
picture of a pitch above 1 is the average of one that is finer.

Paper: Infinity-Diff (arXiv:2303.18242), section 5; its noise is drawn anew for each resolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.grids import Grid
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.solvers.sampling import SIGMA_MAX, ReverseChain
from certes.diffusion.solvers.state import State
from certes.errors import InputError
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.model import FunctionModel
from certes.function_space.noise import CoupledNoise
from certes.generation.chains import Callback, batches, finished

Functions = FunctionModel | FunctionDenoiser
"""A model of functions, published or fresh from training."""

_EXACT = 1e-6


def sample_functions(
    model: Functions,
    shape: tuple[int, int],
    pitch: float = 1.0,
    count: int = 1,
    seed: int = 0,
    code: Float[Tensor, "n z"] | None = None,
    chain: ReverseChain | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "count c h w"]:
    """Draw pictures from nothing but noise and, if given, codes.

    Args:
        model: what knows the functions.
        shape: rows and columns; any.
        pitch: length of a pixel, in training pixels: 0.5 is twice as fine.
        count: how many; picture i depends on ``seed`` and i alone.
        seed: of the noise.
        code: one for each picture, or one for all (:mod:`.latent` draws codes).
        chain: how it is walked; default: :class:`ReverseChain` as it comes.
        callback: called with the solver's state after every network call.

    Raises:
        InputError: for a shape, pitch or count that is none, or codes of another number.
    """
    if min(*shape, count) < 1 or not 0 < pitch < float("inf"):
        raise InputError(
            f"shape, pitch, count: {shape}, {pitch}, {count}; give whole numbers of at least 1, "
            "and a length above 0"
        )
    if code is not None and len(code) not in (1, count):
        raise InputError(f"code: {len(code)} codes for {count} pictures; give one, or one for each")
    denoiser, chain = denoiser_of(model), chain or ReverseChain()
    finer = math.ceil(pitch - _EXACT)
    shape, pitch = (shape[0] * finer, shape[1] * finer), pitch / finer
    seeds = stream_seeds(seed, [f"function/{i}" for i in range(count)])
    parts: list[Tensor] = []
    for rows in batches(count, denoiser.channels * shape[0] * shape[1]):
        some = code if code is None or len(code) == 1 else code[rows]
        told = None if some is None else some.to(denoiser.device)
        states = draw_at(
            denoiser.at(pitch, told),
            (denoiser.channels, *shape),
            CoupledNoise(seeds[rows], denoiser.device),
            chain,
            pitch,
            denoiser.reading.center,
        )
        parts.append(F.avg_pool2d(finished(denoiser, last_of(states, callback).x), finer))
    return torch.cat(parts)


def draw_at(
    denoiser: Denoiser,
    shape: tuple[int, int, int],
    noise: NoiseSource,
    chain: ReverseChain,
    pitch: float,
    center: float = 0.5,
) -> Iterator[State]:
    """:func:`~certes.diffusion.solvers.sampling.draw_samples` for pictures of a pitch.

    Args:
        denoiser: of pictures of that pitch.
        shape: (c, h, w) of one picture.
        noise: one stream for each picture.
        chain: how it is walked.
        pitch: length of a pixel.
        center: the brightness about which pictures lie.
    """
    grid = levels_at(chain, pitch)
    return chain(denoiser, center + float(grid[0]) * noise.normal(shape), grid, noise)


def levels_at(chain: ReverseChain, pitch: float) -> Grid:
    """The noise levels of pixels of this pitch, image units."""
    return chain.grid(SIGMA_MAX) / pitch


def last_of(states: Iterator[State], callback: Callback | None) -> State:
    """Where a walk ends."""
    state: State | None = None
    for state in states:
        if callback is not None:
            callback(state)
    assert state is not None  # a grid has at least one step
    return state


def denoiser_of(model: Functions) -> FunctionDenoiser:
    """The denoiser within a model."""
    return model.denoiser if isinstance(model, FunctionModel) else model
