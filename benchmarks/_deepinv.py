"""deepinv's samplers on certes' operators and denoisers (deepinv 0.5).

Everything that samples is deepinv's own code at its own defaults; only the number of network calls
is ours where a name says so. K samples are one batch of K copies of the measurement, which its
documentation leaves to the user (its ``DiffusionSampler`` runs one after another).

Facts that a reader of the tables should know, all read in its source:

- ``DDRM`` wants a singular value decomposition. Denoising, inpainting and circular blur have one in
  deepinv and run on it; ``Downsampling`` and compressed sensing have none, or another operator than
  ours, and get certes' through ``DecomposablePhysics``.
- ``DDRM``'s levels are evenly spaced from 1 to 0, it draws every noise a factor sqrt(2) too small
  except for blur, and takes singular values up to the noise level for unmeasured.
- ``DiffPIR`` divides by the noise level: it is told ``FLOOR`` where there is none, as its authors'
  code does. Its last network call does not enter the answer.
- ``DPS`` is at its best with its default of 1000 calls; 20 is what the comparison is about.
- ``PiGDM`` and moment matching are data fidelities for its ``PosteriorDiffusion``, which has no
  solver of its own: they get ``DPS``'s.
- ``seed=0`` is no seed to it; the global generator is seeded instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import deepinv as dinv
import numpy as np
import torch
from deepinv.sampling import DDRM, DPS, DiffPIR, PosteriorDiffusion
from deepinv.sampling.noisy_datafidelity import MomentMatchingDataFidelity, PiGDMDataFidelity
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.restoration.operators import Blur, DecomposedOperator, Denoise, Inpaint
from certes.restoration.operators.base import padded
from certes.restoration.operators.blur import plane_of

FLOOR = 0.001


class Wrapped(dinv.models.Denoiser):
    """A denoiser of certes; both packages mean pictures and noise levels in [0, 1]."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, sigma: float | Tensor, **_: Any) -> Tensor:
        level = torch.as_tensor(sigma, dtype=x.dtype).flatten().expand(len(x))
        return self.denoiser(x, level).mean


def physics_of(H: DecomposedOperator, noise: float) -> dinv.physics.DecomposablePhysics:
    """deepinv's own operator where it has the same one with a decomposition, else ours in its form.

    Raises: ValueError if the two do not agree.
    """
    physics = _physics(H, dinv.physics.GaussianNoise(noise))
    x = torch.rand(2, *H.in_shape, generator=torch.Generator().manual_seed(0))
    error = float((physics.A(x) - H(x)).abs().max())
    if error > 1e-5:
        raise ValueError(f"{H.name}: deepinv's operator differs by {error:.2g}")
    return physics


def _physics(
    H: DecomposedOperator, noise: dinv.physics.GaussianNoise
) -> dinv.physics.DecomposablePhysics:
    if isinstance(H, Denoise):
        return dinv.physics.Denoising(noise)
    if isinstance(H, Inpaint):
        return dinv.physics.Inpainting(H.in_shape, H.mask.float(), noise_model=noise)
    if isinstance(H, Blur) and H.boundary == "circular":
        kernel = plane_of(H.kernel).float()[None, None]
        return dinv.physics.BlurFFT(H.in_shape, kernel, noise_model=noise)
    # Coefficients have the length of a picture on both sides, zeros where nothing was measured.
    return dinv.physics.DecomposablePhysics(
        U=lambda c: H.U(c[:, : H.m]),
        U_adjoint=lambda y: padded(H.Ut(y), H.n),
        V=H.V,
        V_adjoint=H.Vt,
        img_size=H.in_shape,
        mask=H.spectrum.float()[None],
        noise_model=noise,
    )


def ddrm(denoiser: Wrapped, noise: float, calls: int | None) -> torch.nn.Module:
    """Its DDRM; without a number of calls, with its own 100."""
    return DDRM(denoiser, sigmas=None if calls is None else np.linspace(1, 0, calls))


def diffpir(denoiser: Wrapped, noise: float, calls: int) -> torch.nn.Module:
    """Its DiffPIR: zeta .1, lambda 7."""
    fidelity = dinv.optim.data_fidelity.L2()
    return DiffPIR(denoiser, fidelity, sigma=max(noise, FLOOR), max_iter=calls)


def dps(denoiser: Wrapped, noise: float, calls: int) -> torch.nn.Module:
    """Its DPS: DDPM steps of the variance preserving process, weight 1."""
    # Time points are one more than steps between them.
    return DPS(denoiser, num_steps=calls + 1)


def guided(denoiser: Wrapped, noise: float, calls: int, fidelity: type[Any]) -> torch.nn.Module:
    """PiGDM or moment matching in place of DPS's fidelity, everything else as there."""
    like = DPS(denoiser, num_steps=calls + 1)
    return PosteriorDiffusion(fidelity(denoiser), denoiser, like.sde, like.solver)


@dataclass(frozen=True)
class Peer:
    """A sampler of deepinv.

    Args:
        make: from a denoiser and a noise level.
        floor: the least noise that it can be told of.
    """

    make: Callable[[Wrapped, float], torch.nn.Module]
    floor: float = 0.0

    def draw(
        self,
        y: Tensor,
        H: DecomposedOperator,
        denoiser: Denoiser,
        noise: float,
        samples: int,
        seed: int = 0,
    ) -> Tensor:
        """(k, b, c, h, w) samples, as they fell."""
        physics = physics_of(H, max(noise, self.floor))
        sampler = self.make(Wrapped(denoiser), noise)
        torch.manual_seed(seed)
        copies = y.repeat(samples, *[1] * (y.ndim - 1))
        x: Tensor = sampler(copies, physics)
        return x.detach().to(y).reshape(samples, len(y), *H.in_shape)


def peers(calls: int) -> dict[str, Peer]:
    """All of them, at this number of network calls, and DDRM at its own."""
    pigdm = partial(guided, calls=calls, fidelity=PiGDMDataFidelity)
    moments = partial(guided, calls=calls, fidelity=MomentMatchingDataFidelity)
    return {
        "deepinv DDRM": Peer(partial(ddrm, calls=calls)),
        "deepinv DDRM, its own 100 calls": Peer(partial(ddrm, calls=None)),
        "deepinv DiffPIR": Peer(partial(diffpir, calls=calls), FLOOR),
        "deepinv DPS": Peer(partial(dps, calls=calls)),
        "deepinv PiGDM": Peer(pigdm, FLOOR),
        "deepinv moment matching": Peer(moments, FLOOR),
    }
