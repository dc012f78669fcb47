r"""What a receiver knows of a picture, as a distribution.

After the chain the receiver holds :math:`x = x_0 + \sigma e`, so what it does not know yet is
:math:`p(x_0 | x)`: the same posterior as that of denoising, drawn by the same reverse chain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.solvers.sampling import SIGMA_MAX, ReverseChain
from certes.errors import InputError
from certes.intervals.bounds import Provenance
from certes.intervals.posterior import Posterior, PosteriorBuilder
from certes.networks.tiling import fitted

Reconstruction = Literal["estimate", "sample", "ode"]
"""``estimate``: :math:`E[x_0 | x]`, of least squared error. ``sample``: a draw of
:math:`p(x_0 | x)`, with texture where the stream tells none. ``ode``: where the probability-flow
ODE leads (DiffC-F, Theis et al. 2022, arXiv:2206.08889): textured, and the same for everyone."""

STEPS = 20
_GREY = 0.5


@dataclass(frozen=True)
class Knowledge:
    """A noisy picture, and pixels of it that are known exactly.

    Args:
        prior: the denoiser.
        model: its hash.
        x: the picture at ``level``, (b, c, h, w), image units; anything where that is infinite.
        level: noise level, image units.
        estimate: of the clean picture.
        known: where that is exact.
    """

    prior: Denoiser
    model: str
    x: Float[Tensor, "b c h w"]
    level: float
    estimate: Float[Tensor, "b c h w"]
    known: Bool[Tensor, "b c h w"]

    def reconstruct(
        self, how: Reconstruction = "estimate", *, steps: int = STEPS, seed: int = 0
    ) -> Float[Tensor, "channels h w"]:
        """One picture, values in [0, 1].

        Args:
            how: see :data:`Reconstruction`.
            steps: network calls of ``sample`` and ``ode``.
            seed: of ``sample``.

        Raises:
            InputError: if ``how`` is unknown.
        """
        if how not in get_args(Reconstruction):
            raise InputError(f"reconstruction: {how!r}; give {', '.join(get_args(Reconstruction))}")
        picture = self.estimate if how == "estimate" else self._draw(how, steps, seed, 0)
        return picture.clamp(0, 1).flatten(0, 1)

    def posterior(
        self,
        samples: int = 16,
        *,
        steps: int = STEPS,
        seed: int = 0,
        alpha: float = 0.1,
        callback: Callable[[int], None] | None = None,
    ) -> Posterior:
        """Samples of the picture that was sent.

        Args:
            samples: how many.
            steps: network calls for each.
            seed: sample ``k`` depends on it and ``k`` alone.
            alpha: the miss rate whose bounds are kept.
            callback: called with the number of samples drawn so far.

        Returns:
            A posterior of one picture, whose channels are those of the file.
        """
        builder = PosteriorBuilder(samples, True, alpha, self.prior.confined)
        estimate = self.estimate.flatten(0, 1)[None, None]
        for k in range(samples):
            sample = self._draw("sample", steps, seed, k)
            builder.add(sample.flatten(0, 1)[None, None], estimate)
            if callback is not None:
                callback(k + 1)
        noise = round(self.level, 6) if math.isfinite(self.level) else None
        made = Provenance(self.model, "codec", noise, "dpm_solver_2m_sde", steps, samples)
        return builder.build(made, self.prior.inflation)

    def _draw(self, how: str, steps: int, seed: int, k: int) -> Float[Tensor, "b c h w"]:
        """Walk down from the noisy picture; what is known stays."""
        device = self.prior.device or self.x.device
        chain = ReverseChain("dpm_solver_2m" if how == "ode" else "dpm_solver_2m_sde", steps)
        keys = [f"codec/{k}/{row}" for row in range(len(self.x))]
        noise = NoiseSource(stream_seeds(seed, keys), device)
        x, level = self.x.to(device), self.level
        if level > SIGMA_MAX:
            level = SIGMA_MAX
            x = _GREY + level * noise.normal(x.shape[1:])
        denoiser = fitted(self.prior, (x.shape[1], x.shape[2], x.shape[3]))
        *_, last = chain(denoiser, x, chain.grid(level), noise)
        return torch.where(self.known, self.estimate, last.x.cpu())
