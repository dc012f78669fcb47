"""Any number of pictures down the reverse chain, in batches that change nothing but speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.solvers.sampling import ReverseChain
from certes.diffusion.solvers.state import State
from certes.networks.prior import Prior
from certes.networks.tiling import fitted

Callback = Callable[[State], None]

# Values of one batch: 16 grey pictures of 256 x 256.
_BATCH_VALUES = 2**20


def device_of(model: Denoiser) -> torch.device:
    """Where a model computes; exact denoisers do so on the CPU."""
    return model.device or torch.device("cpu")


def center_of(model: Denoiser) -> float:
    """The brightness about which a model's pictures lie."""
    return model.center if isinstance(model, Prior) else 0.5


def batches(count: int, values: int) -> Iterator[slice]:
    """Runs of ``count`` pictures of ``values`` values each that go through the chain together."""
    size = max(1, _BATCH_VALUES // values)
    return (slice(first, min(first + size, count)) for first in range(0, count, size))


def finished(model: Denoiser, x: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n c h w"]:
    """Pictures as they are handed over: on the CPU, and in [0, 1] if the model's are."""
    return (x.clamp(0, 1) if model.confined else x).cpu()


def decode(
    model: Denoiser,
    x: Float[Tensor, "b c h w"],
    level: float,
    seeds: Sequence[int],
    chain: ReverseChain,
    callback: Callback | None = None,
) -> Float[Tensor, "b c h w"]:
    """Run the reverse process from noisy pictures to clean ones.

    Args:
        model: what knows the pictures; a large picture is seen in tiles where it must be.
        x: pictures ``x_0 + level e``, image units.
        level: their noise standard deviation, image units, above 0.
        seeds: of the noise of the chain, one for each picture; equal seeds, equal noise.
        chain: how it is walked.
        callback: called with the solver's state after every network call.
    """
    denoiser, grid, device = fitted(model, _shape(x)), chain.grid(level), device_of(model)
    parts: list[Tensor] = []
    for rows in batches(len(x), x[0].numel()):
        state: State | None = None
        for state in chain(denoiser, x[rows].to(device), grid, NoiseSource(seeds[rows], device)):
            if callback is not None:
                callback(state)
        assert state is not None  # a grid has at least one step
        parts.append(finished(model, state.x))
    return torch.cat(parts)


def _shape(x: Float[Tensor, "b c h w"]) -> tuple[int, int, int]:
    _, c, h, w = x.shape
    return c, h, w
