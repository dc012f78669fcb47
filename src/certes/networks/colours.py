r"""Colour pictures with a prior that knows grey ones.

The colours of a pixel are turned into three others by an orthogonal matrix :math:`T`, each of which
is judged as a grey picture of its own. White noise stays white, so that the prior is a prior of the
colour picture, and every operator and sampler works with it, those that mix the channels too.

* ``opponent``: brightness :math:`(R + G + B) / \sqrt 3` and two differences of colours (Ohta et
  al., "Color information for region segmentation", 1980). Channels of photographs have most of
  their content in common, and what they have in common is restored from all three of them. The
  grey prior sees brightness as the mean of the channels and colour differences around mid-grey,
  both at :math:`\sigma / \sqrt 3`.
* ``separate``: :math:`T = I`; for channels that have nothing in common (stains).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.errors import InputError

Colours = Literal["opponent", "separate"]


@dataclass(frozen=True)
class _Turn:
    """``z = gain T x + offset`` for the three colours of a pixel, T orthogonal."""

    matrix: Float[Tensor, "3 3"]
    gain: float
    offset: Float[Tensor, " 3"]


_S2, _S3, _S6 = math.sqrt(2), math.sqrt(3), math.sqrt(6)
_TURNS: dict[str, _Turn] = {
    "opponent": _Turn(
        torch.tensor(
            [
                [1 / _S3, 1 / _S3, 1 / _S3],
                [1 / _S2, 0.0, -1 / _S2],
                [-1 / _S6, 2 / _S6, -1 / _S6],
            ],
            dtype=torch.float64,
        ),
        1 / _S3,
        torch.tensor([0.0, 0.5, 0.5], dtype=torch.float64),
    ),
    "separate": _Turn(torch.eye(3, dtype=torch.float64), 1.0, torch.zeros(3, dtype=torch.float64)),
}


class ColourDenoiser(Denoiser):
    """A denoiser of grey pictures as one of colour pictures (B, 3, H, W).

    Args:
        grey: judges one channel.
        colours: how colours become grey pictures: ``opponent`` or ``separate``.

    Raises:
        InputError: for another way.
    """

    def __init__(self, grey: Denoiser, colours: Colours) -> None:
        if colours not in _TURNS:
            raise InputError(f"colours: {colours!r}; give one of {', '.join(_TURNS)}")
        self.grey = grey
        self.inflation = grey.inflation
        self.confined = grey.confined
        self._turn = _TURNS[colours]

    def __call__(self, x: Float[Tensor, "b 3 h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        turn, matrix = self._turn, self._turn.matrix.to(x)
        offset = turn.offset.to(x)[:, None, None]
        turned = turn.gain * _mixed(matrix, x) + offset
        answer = self.grey(apart(turned), self._levels(sigma))
        mean = _mixed(matrix.T, (together(answer.mean, 3) - offset) / turn.gain)
        variance = None
        if answer.variance is not None:
            variance = _mixed(matrix.T.square(), together(answer.variance, 3) / turn.gain**2)
        return ColourDenoised(mean, variance, answer)

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        """That of the three grey pictures, turned back.

        Raises:
            InputError: for an answer that is not this denoiser's own.
        """
        if not isinstance(denoised, ColourDenoised) or denoised.grey is None:
            raise InputError("denoised: not an answer of this denoiser, so its colours are unknown")
        known = self.grey.covariance(denoised.grey, self._levels(sigma))
        return ColourCovariance(known, self._turn.matrix, self._turn.gain)

    def _levels(self, sigma: Float[Tensor, " b"]) -> Float[Tensor, " b_times_3"]:
        return (self._turn.gain * sigma).repeat_interleave(3)


@dataclass(frozen=True)
class ColourDenoised(Denoised):
    """An answer that remembers the grey ones that it was made of.

    Args:
        grey: of the three turned channels, (3 B, 1, H, W).
    """

    grey: Denoised | None = None


class ColourCovariance(Covariance):
    """``T^T P T`` with a covariance for each of the turned channels.

    Args:
        grey: of 3 B grey pictures.
        matrix: ``T``.
        gain: units of the grey pictures for one of the colour picture.
    """

    def __init__(self, grey: Covariance, matrix: Float[Tensor, "3 3"], gain: float) -> None:
        self.grey, self.matrix, self.gain = grey, matrix, gain

    def apply(self, v: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        matrix = self.matrix.to(v)
        moved = self.grey.apply(apart(_mixed(matrix, v)))
        return _mixed(matrix.T, together(moved, 3)) / self.gain**2

    def diagonal(self) -> Float[Tensor, "b 3 #h #w"]:
        known = self.grey.diagonal()
        # A covariance may say one thing of all its pictures.
        known = together(known.expand(3, -1, -1, -1) if len(known) == 1 else known, 3)
        return _mixed(self.matrix.to(known).T.square(), known) / self.gain**2


def apart(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b_times_c 1 h w"]:
    """Every channel as a grey picture."""
    return x.reshape(-1, 1, *x.shape[2:])


def together(x: Float[Tensor, "b_times_c 1 h w"], channels: int) -> Float[Tensor, "b c h w"]:
    """Undoes ``apart``."""
    return x.reshape(-1, channels, *x.shape[2:])


def _mixed(matrix: Float[Tensor, "3 3"], x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    return torch.einsum("dc,bchw->bdhw", matrix, x)
