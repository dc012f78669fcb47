r"""Reading pictures at one resolution and writing them at another.

A function is told by its code, :math:`z = E(x_0)`, which says what all its pictures have in common,
and by the noise that becomes it, :math:`x_T`, found by walking the deterministic path upwards (DDIM
encoding), which says the rest. A picture of any pitch is encoded and decoded at any other: the
noise keeps its cosine coefficients, and those that the coarse picture cannot know are drawn. With
the code alone (the paper's super-resolution) much is lost; its authors name DDIM encoding as the
way to keep it.

Between two functions, codes are mixed linearly and noise along the sphere, which keeps its
variance (Preechakul et al. 2022, arXiv:2111.15640, section 4.2).

Paper: Infinity-Diff (arXiv:2303.18242), sections 4.3 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.process import Process
from certes.diffusion.schedules import EDM
from certes.diffusion.solvers.sampling import ReverseChain
from certes.diffusion.solvers.state import State
from certes.errors import InputError
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.encoding import ddim_encode
from certes.function_space.noise import CoupledNoise
from certes.function_space.sampling import Functions, denoiser_of, last_of, levels_at
from certes.generation.chains import Callback, finished

Picture = Float[Tensor, "b c h w"]

DOWN = ReverseChain("dpm_solver_2m", 20)
"""How codes are decoded: the deterministic path that the encoding went."""

STEPS = 50
"""Of the encoding, which is of first order."""

_BASIS = CosineBasis()


@dataclass(frozen=True, eq=False)
class Encoded:
    """What is known of functions after pictures of them.

    Args:
        code: :math:`z` of each; ``None`` for a model without codes.
        noise: of unit variance, whose deterministic path leads to the picture; ``None`` where it
            shall be drawn.
        extent: sides of the domain, physical units.
    """

    code: Float[Tensor, "b z"] | None
    noise: Picture | None
    extent: tuple[float, float]


def encode_functions(
    model: Functions, x: Picture, pitch: float = 1.0, steps: int | None = STEPS
) -> Encoded:
    """Encode pictures of any resolution.

    Args:
        model: what knows the functions.
        x: pictures, image units.
        pitch: length of their pixels.
        steps: network calls on the way up; ``None``: the code alone is found.
    """
    denoiser = denoiser_of(model).at(pitch)
    x = x.to(denoiser.device)
    code = None if denoiser.net.encoder is None else denoiser.encode(x)
    extent = (x.shape[2] * pitch, x.shape[3] * pitch)
    if steps is None:
        return Encoded(code, None, extent)
    grid = levels_at(ReverseChain(steps=steps + 1), pitch)
    up = ddim_encode(Process(EDM()), denoiser.at(pitch, code), grid[:-1].flip(0), x)
    end = last_of(up, None)
    return Encoded(code, (end.x - denoiser.reading.center) / float(grid[0]), extent)


def decode_functions(
    model: Functions,
    encoded: Encoded,
    pitch: float = 1.0,
    seed: int = 0,
    chain: ReverseChain = DOWN,
    callback: Callback | None = None,
) -> Picture:
    """Pictures of encoded functions, at any resolution.

    Args:
        model: what knows the functions.
        encoded: by :func:`encode_functions`.
        pitch: length of the pixels that are wanted.
        seed: of the noise that is not encoded; function i depends on it and i alone.
        chain: how it is walked.
        callback: called with the solver's state after every network call.

    Raises:
        InputError: if nothing was encoded, or the pitch does not fill the domain evenly.
    """
    known = encoded.code if encoded.code is not None else encoded.noise
    if known is None:
        raise InputError("encoded: neither code nor noise; encode with steps=, or with a code")
    denoiser = denoiser_of(model)
    seeds = stream_seeds(seed, [f"function/{i}" for i in range(len(known))])
    states = decoded(denoiser, encoded, pitch, CoupledNoise(seeds, denoiser.device), chain)
    return finished(denoiser, last_of(states, callback).x)


def decoded(
    denoiser: FunctionDenoiser,
    encoded: Encoded,
    pitch: float,
    noise: NoiseSource,
    chain: ReverseChain,
) -> Iterator[State]:
    """The walk from encoded functions to their pictures.

    Args:
        denoiser: what knows the functions.
        encoded: the functions.
        pitch: length of the pixels that are wanted.
        noise: one stream for each function.
        chain: how it is walked.

    Raises:
        InputError: if the pitch does not fill the domain evenly.
    """
    rows, columns = (side_of(side, pitch) for side in encoded.extent)
    fresh = noise.normal((denoiser.channels, rows, columns))
    start = fresh if encoded.noise is None else carried(encoded.noise.to(fresh), fresh)
    grid = levels_at(chain, pitch)
    x = denoiser.reading.center + float(grid[0]) * start
    return chain(denoiser.at(pitch, encoded.code), x, grid, noise)


def interpolate_functions(
    model: Functions,
    first: Encoded,
    second: Encoded,
    shares: Sequence[float],
    pitch: float = 1.0,
    chain: ReverseChain = DOWN,
) -> Float[Tensor, "shares b c h w"]:
    """Pictures between functions, pair by pair; with no encoded noise, of one noise.

    Args:
        model: what knows the functions.
        first, second: the functions, of one domain.
        shares: of ``second``, each in [0, 1].
        pitch: length of the pixels that are wanted.
        chain: how it is walked.

    Raises:
        InputError: for functions of two domains, or that were encoded in different ways.
    """
    if first.extent != second.extent:
        raise InputError(
            f"first, second: domains {first.extent} and {second.extent}; give functions of one"
        )
    return torch.stack(
        [
            decode_functions(model, mixed(first, second, share), pitch, chain=chain)
            for share in shares
        ]
    )


def mixed(first: Encoded, second: Encoded, share: float) -> Encoded:
    """Between two functions: codes linearly, noise along the sphere.

    Raises:
        InputError: if one has a code, or noise, and the other has none.
    """
    code = _both(torch.lerp, "code", first.code, second.code, share)
    return Encoded(code, _both(slerp, "noise", first.noise, second.noise, share), first.extent)


def slerp(first: Picture, second: Picture, share: float) -> Picture:
    """Spherical interpolation of each picture (Shoemake 1985): what is between noise is noise."""
    a, b = first.flatten(1), second.flatten(1)
    cosine = (a * b).sum(1) * (a.square().sum(1) * b.square().sum(1)).rsqrt()
    angle: Tensor = cast(Any, cosine.clamp(-1, 1)).arccos()[:, None, None, None]
    sine = angle.sin()
    flat = sine.abs() < 1e-4
    divisor = sine.where(~flat, 1.0)
    of_first = (((1 - share) * angle).sin() / divisor).where(~flat, 1 - share)
    of_second = ((share * angle).sin() / divisor).where(~flat, share)
    return of_first * first + of_second * second


def carried(noise: Picture, fresh: Picture) -> Picture:
    """The noise of functions at another resolution, and fresh noise where it says nothing.

    Args:
        noise: white noise of unit variance, on pixels of any pitch.
        fresh: likewise, of the pitch that is wanted.
    """
    coefficients = _BASIS.forward(fresh)
    rows = min(noise.shape[2], fresh.shape[2])
    columns = min(noise.shape[3], fresh.shape[3])
    coefficients[..., :rows, :columns] = _BASIS.forward(noise)[..., :rows, :columns]
    return _BASIS.inverse(coefficients)


def reconstruction_error(
    model: Functions, x: Picture, pitch: float = 1.0, steps: int | None = STEPS, seed: int = 0
) -> Float[Tensor, " b"]:
    """Root mean square difference of pictures from what their encoding gives back, image units.

    Args:
        model: what knows the functions.
        x: pictures, image units.
        pitch: length of their pixels.
        steps: of the encoding; ``None``: by the code alone.
        seed: of the noise that is not encoded.
    """
    back = decode_functions(model, encode_functions(model, x, pitch, steps), pitch, seed)
    return (back - x.to(back)).square().mean(dim=(1, 2, 3)).sqrt()


def side_of(length: float, pitch: float) -> int:
    """Pixels along a side of the domain.

    Raises:
        InputError: if the pitch does not fill it evenly.
    """
    side = round(length / pitch)
    if side < 1 or abs(side * pitch - length) > 1e-4 * length:
        raise InputError(
            f"pitch: {pitch:g} does not fill a domain of {length:g} with whole pixels; give "
            f"{length / max(side, 1):g}, for {max(side, 1)}"
        )
    return side


def _both(
    mix: Callable[[Tensor, Tensor, float], Tensor],
    name: str,
    first: Tensor | None,
    second: Tensor | None,
    share: float,
) -> Tensor | None:
    if first is None and second is None:
        return None
    if first is None or second is None:
        raise InputError(f"first, second: one has {name}, the other none; encode both alike")
    return mix(first, second, share)
