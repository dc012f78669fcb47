"""Progressive generation: what the chain takes the picture for, while it is still noise.

Ho et al. 2020 (arXiv:2006.11239), section 4.3 and figures 6 and 14: large features come first,
details last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.solvers.sampling import SIGMA_MAX, ReverseChain, draw_samples
from certes.errors import InputError
from certes.generation.chains import Callback, batches, center_of, device_of, finished
from certes.networks.tiling import fitted


@dataclass(frozen=True)
class Progression:
    """Samples on their way.

    Args:
        levels: the noise level of the ``x_t`` behind each frame, descending, image units.
        estimates: its estimates of ``x_0``, image units.
    """

    levels: Sequence[float]
    estimates: Float[Tensor, "frames b c h w"]

    @property
    def samples(self) -> Float[Tensor, "b c h w"]:
        """What they became: the last estimate, which every solver's last step returns."""
        return self.estimates[-1]


def progressive_estimates(
    model: Denoiser,
    shape: tuple[int, int, int],
    count: int,
    seed: int = 0,
    frames: int = 20,
    chain: ReverseChain | None = None,
    callback: Callback | None = None,
) -> Progression:
    """Draw pictures, and keep the estimates of ``x_0`` at evenly spread moments of the chain.

    The paper's figure 6 is ``frames=20, chain=ReverseChain("ancestral", 1000, "large")``.

    Args:
        model: what knows the pictures.
        shape: the shape (c, h, w) of one picture.
        count: how many pictures; picture i depends on ``seed`` and i alone.
        seed: of the noise.
        frames: moments to keep, the last among them; all, where the chain has fewer steps.
        chain: how it is walked; default: :class:`ReverseChain` as it comes.
        callback: called with the solver's state after every network call.

    Raises:
        InputError: if ``count`` or ``frames`` is not positive.
    """
    if min(count, frames) < 1:
        raise InputError(f"count, frames: {count}, {frames}; give at least 1 of each")
    chain = chain or ReverseChain()
    denoiser, device = fitted(model, shape), device_of(model)
    kept = _moments(chain.steps, frames)
    seeds = stream_seeds(seed, [f"sample/{i}" for i in range(count)])
    parts: list[Tensor] = []
    for rows in batches(count, shape[0] * shape[1] * shape[2]):
        noise = NoiseSource(seeds[rows], device)
        estimates: list[Tensor] = []
        for i, state in enumerate(draw_samples(denoiser, shape, noise, chain, center_of(model))):
            if i in kept:
                estimates.append(finished(model, state.estimate))
            if callback is not None:
                callback(state)
        parts.append(torch.stack(estimates))
    levels = [float(level) for level in chain.grid(SIGMA_MAX)[kept]]
    return Progression(levels, torch.cat(parts, dim=1))


def _moments(steps: int, frames: int) -> list[int]:
    """Indices of steps, counted from the last so that it is always there."""
    frames = min(frames, steps)
    return [steps * (i + 1) // frames - 1 for i in range(frames)]
