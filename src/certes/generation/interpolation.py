r"""Interpolation between two pictures: their noised latents are mixed, and denoised.

Ho et al. 2020 (arXiv:2006.11239), section 4.4 and figures 8 and 9. Both pictures are encoded by
the forward process, :math:`x_t, x'_t \sim q(x_t | x_0)`, each with a noise of its own; the latents
are mixed, and the reverse process is run from :math:`t` inclusive. All noise, that of the encoders
and that of the reverse chain, is the same for every :math:`\lambda`, so that nothing else differs.
(The paper's text mixes :math:`x_0` and :math:`x'_0`, a misprint: its code mixes the latents.)

In the denoiser's coordinates, :math:`x = x_0 + \sigma e` in image units, the two mixings are

.. math:: \bar x_t &= (1 - \lambda)\, x_t + \lambda\, x'_t
          \qquad\text{(linear, the paper's)} \\
          \bar x_t &= (1 - \lambda)\, x_0 + \lambda\, x'_0
          + \sigma (\sqrt{1 - \lambda}\, e + \sqrt\lambda\, e')
          \qquad\text{(variance-preserving)} .

Linear mixing leaves noise of variance :math:`((1 - \lambda)^2 + \lambda^2) \sigma^2`, half of what
the denoiser is told at :math:`\lambda = 1/2`, which it answers with flatter pictures. With square
roots the noise keeps its variance: :math:`\bar x_t \sim q(x_t | \bar x_0)`, the pixel blend in the
place of a picture. (Square roots on whole latents would brighten the pictures, too.)

The paper's reverse chain is stochastic. Down a long one its own noise, shared, decides, and from a
noisy latent every :math:`\lambda` gives the same picture; so the default is deterministic, whose
pictures are a continuous path of :math:`\lambda` at every level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.solvers.sampling import ReverseChain
from certes.errors import InputError
from certes.generation.chains import Callback, decode

Picture = Float[Tensor, "b c h w"]
Mixing = Literal["linear", "variance-preserving"]


def interpolate(
    model: Denoiser,
    first: Picture,
    second: Picture,
    lambdas: Sequence[float],
    level: float,
    mixing: Mixing = "variance-preserving",
    seed: int = 0,
    chain: ReverseChain | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "lambdas b c h w"]:
    r"""Pictures between ``first`` and ``second``.

    With the same ``seed`` the noise is the same at every level too, only scaled: calls for several
    levels make the paper's coarse-to-fine grid (figure 9).

    Args:
        model: what knows the pictures.
        first, second: :math:`x_0` and :math:`x'_0`, pair by pair, image units.
        lambdas: shares of ``second``, each in [0, 1]. 0 and 1 give the reconstructions of the two
            pictures from their latents.
        level: the noise standard deviation :math:`\sigma` of the latents, image units: how much the
            model may make up. 0 gives the plain blend of pixels;
            :func:`certes.generation.levels.ddpm_levels` has the paper's.
        mixing: ``linear``, the paper's, or ``variance-preserving``; see above.
        seed: pair i depends on ``seed`` and i alone.
        chain: how it is walked; default: ``ReverseChain("dpm_solver_2m")``; see above.
        callback: called with the solver's state after every network call.

    Raises:
        InputError: if the pictures differ in size, or for senseless settings.
    """
    _check(first, second, lambdas, level, mixing)
    if level == 0:
        return torch.stack([torch.lerp(first, second, share) for share in lambdas])
    e, e_second = (_noise(first, seed, name) for name in ("first", "second"))
    mixed = [
        torch.lerp(first, second, share) + level * _mixed_noise(e, e_second, share, mixing)
        for share in lambdas
    ]
    chain_seeds = _seeds(len(first), seed, "chain") * len(lambdas)
    chain = chain or ReverseChain("dpm_solver_2m")
    ends = decode(model, torch.cat(mixed), level, chain_seeds, chain, callback)
    return ends.reshape(len(lambdas), *first.shape)


def _mixed_noise(e: Picture, e_second: Picture, share: float, mixing: Mixing) -> Picture:
    if mixing == "linear":
        return (1 - share) * e + share * e_second
    return (1 - share) ** 0.5 * e + share**0.5 * e_second


def _noise(like: Picture, seed: int, name: str) -> Picture:
    """Drawn on the CPU, whatever the device, so that latents are the same on every machine."""
    source = NoiseSource(_seeds(len(like), seed, name))
    return source.normal(like.shape[1:], like.dtype).to(like)


def _seeds(count: int, seed: int, name: str) -> list[int]:
    return stream_seeds(seed, [f"interpolation/{name}/{i}" for i in range(count)])


def _check(
    first: Tensor, second: Tensor, lambdas: Sequence[float], level: float, mixing: str
) -> None:
    if first.shape != second.shape or first.ndim != 4:
        raise InputError(
            f"first, second: shapes {tuple(first.shape)}, {tuple(second.shape)}; give two of the "
            "same shape (B, C, H, W)"
        )
    if not lambdas or not all(0 <= share <= 1 for share in lambdas):
        raise InputError(f"lambdas: {list(lambdas)}; give at least one, each in [0, 1]")
    if not 0 <= level < float("inf"):
        raise InputError(f"level: {level}; give a noise standard deviation of 0 or more")
    if mixing not in get_args(Mixing):
        raise InputError(f"mixing: {mixing!r}; give one of {', '.join(get_args(Mixing))}")
