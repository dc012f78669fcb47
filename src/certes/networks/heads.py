r"""What a network may say of a pixel in one pass, and how that is read as bounds and learned.

Every head answers with some values for each value of a picture, in network units about a base (what
the network was shown, or nothing). Sources: Koenker & Bassett 1978 and Angelopoulos et al. 2022
(im2im-uq) for quantiles, Gaussian, residual magnitude and softmax; Horwitz & Hoshen 2022
(Conffusion) for bounds regressed on sampled ones.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from certes.errors import ModelError
from certes.networks.conditional import Block
from certes.networks.denoiser import bounded_exp

Answer = Float[Tensor, "b k c h w"]
Picture = Float[Tensor, "b c h w"]
Ends = Float[Tensor, "b 3 c h w"]

_BINS = 50
_RESIDUAL = 0.3  # an untrained network's guess at its errors, network units


class Head(ABC):
    """A way to answer.

    Args:
        alpha: share of pixels that the bounds aim to miss, half of it on either side.
        x: the picture's block: image units and network units.
    """

    kind: ClassVar[str]
    outputs: ClassVar[int]
    """Values answered for each value of a picture."""
    copies: ClassVar[int]
    """How many of them, the first, are estimates: they start as the network's own."""
    start: ClassVar[float] = 0.0
    """Where the others start."""
    targets: ClassVar[int] = 1
    """Values that it learns from, for each value of a picture."""

    def __init__(self, alpha: float, x: Block) -> None:
        self.alpha, self.x = alpha, x

    @abstractmethod
    def read(self, answer: Answer, base: Picture) -> Ends:
        """Lower ends, estimates and upper ends, image units, as they fell."""

    @abstractmethod
    def loss(self, answer: Answer, base: Picture, target: Float[Tensor, "b t c h w"]) -> Picture:
        """What is minimised, for each value.

        Args:
            answer: what the network answered.
            base: what it answered about, network units.
            target: what it learns from, network units.
        """

    def denormalised(self, z: Tensor) -> Tensor:
        """Network units to image units."""
        return self.x.center + self.x.scale * z


class Quantiles(Head):
    r"""Both ends by the quantile loss at :math:`\alpha / 2`, :math:`1 - \alpha / 2`; the mean."""

    kind = "quantiles"
    outputs = 3
    copies = 3

    def read(self, answer: Answer, base: Picture) -> Ends:
        return self.denormalised(base[:, None] + answer)

    def loss(self, answer: Answer, base: Picture, target: Float[Tensor, "b t c h w"]) -> Picture:
        lower, estimate, upper = (base[:, None] + answer).unbind(1)
        truth = target[:, 0]
        low = pinball(lower, truth, self.alpha / 2)
        high = pinball(upper, truth, 1 - self.alpha / 2)
        return low + high + (estimate - truth) ** 2


class Sampled(Quantiles):
    """The same, learned by squared errors from bounds and means of samples (DM_SBA)."""

    kind = "sampled"
    targets = 3

    def loss(self, answer: Answer, base: Picture, target: Float[Tensor, "b t c h w"]) -> Picture:
        return (base[:, None] + answer - target).square().sum(dim=1)


class Gaussian(Head):
    """Mean and log-variance, by their likelihood; the bounds are one standard deviation away."""

    kind = "gaussian"
    outputs = 2
    copies = 1
    start = 2 * math.log(_RESIDUAL)

    def read(self, answer: Answer, base: Picture) -> Ends:
        mean = base + answer[:, 0]
        deviation = bounded_exp(answer[:, 1] / 2)
        return self.denormalised(torch.stack([mean - deviation, mean, mean + deviation], dim=1))

    def loss(self, answer: Answer, base: Picture, target: Float[Tensor, "b t c h w"]) -> Picture:
        squared = (base + answer[:, 0] - target[:, 0]) ** 2
        return (squared / bounded_exp(answer[:, 1]) + answer[:, 1]) / 2


class Magnitude(Head):
    """Estimate and the size of its error, both by squared errors; that size gives the bounds."""

    kind = "magnitude"
    outputs = 2
    copies = 1
    start = math.log(math.expm1(_RESIDUAL))

    def read(self, answer: Answer, base: Picture) -> Ends:
        estimate, size = base + answer[:, 0], F.softplus(answer[:, 1])
        return self.denormalised(torch.stack([estimate - size, estimate, estimate + size], dim=1))

    def loss(self, answer: Answer, base: Picture, target: Float[Tensor, "b t c h w"]) -> Picture:
        error = base + answer[:, 0] - target[:, 0]
        return error**2 + (F.softplus(answer[:, 1]) - error.detach().abs()) ** 2


class Softmax(Head):
    """A histogram of the value over [0, 1]: its mean, and quantiles between the bins' edges."""

    kind = "softmax"
    outputs = _BINS
    copies = 0

    def read(self, answer: Answer, base: Picture) -> Ends:
        shares = answer.softmax(dim=1)
        centres = (torch.arange(_BINS, device=answer.device) + 0.5).to(answer) / _BINS
        mean = (shares * centres[:, None, None, None]).sum(dim=1)
        below = shares.cumsum(dim=1)
        ends = [self._quantile(shares, below, q) for q in (self.alpha / 2, 1 - self.alpha / 2)]
        return torch.stack([ends[0], mean, ends[1]], dim=1)

    def loss(self, answer: Answer, base: Picture, target: Float[Tensor, "b t c h w"]) -> Picture:
        bins = (self.denormalised(target[:, 0]) * _BINS).long().clamp(0, _BINS - 1)
        return F.cross_entropy(answer, bins, reduction="none")

    @staticmethod
    def _quantile(shares: Answer, below: Answer, level: float) -> Picture:
        """Where the cumulated histogram, straight within each bin, reaches a level."""
        index = (below < level).sum(dim=1, keepdim=True).clamp(max=_BINS - 1)
        share, reached = shares.gather(1, index), below.gather(1, index)
        part = 1 - ((reached - level) / share.clamp(min=1e-12)).clamp(0, 1)
        return ((index + part) / _BINS)[:, 0]


HEADS: dict[str, type[Head]] = {
    head.kind: head for head in (Quantiles, Sampled, Gaussian, Magnitude, Softmax)
}


def head_named(kind: str, alpha: float, x: Block) -> Head:
    """The head of a kind.

    Raises:
        ModelError: if there is none, or alpha is no share.
    """
    if kind not in HEADS:
        raise ModelError(f"head: {kind!r}; give one of {', '.join(HEADS)}")
    if not 0 < alpha < 1:
        raise ModelError(f"alpha: {alpha}; give a share of pixels in (0, 1)")
    return HEADS[kind](alpha, x)


def pinball(answer: Tensor, truth: Tensor, level: float) -> Float[Tensor, " ..."]:
    r"""The quantile loss :math:`\max(q (x - a), (q - 1)(x - a))`, least at the quantile ``q``."""
    error = truth - answer
    return torch.maximum(level * error, (level - 1) * error)
