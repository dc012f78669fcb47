"""What every loaded model of pictures has: a denoiser with a name, a hash and a card."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import nn

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.rates import RateCurve


class Prior(Denoiser):
    """A trained denoiser of pictures and what is known of it.

    Args:
        name: how people call it.
        card: the content of ``certes.json``.
        digest: hash of everything that its answers depend on.
        inflation: see :class:`~certes.diffusion.denoiser.Denoiser`.
    """

    confined = True

    rates: RateCurve | None = None
    """Bits that its chains are expected to spend, if measured."""

    def __init__(self, name: str, card: dict[str, Any], digest: str, inflation: float) -> None:
        self.name = name
        self.card = card
        self.hash = digest
        self.inflation = inflation

    @property
    @abstractmethod
    def net(self) -> nn.Module:
        """The network."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Colour channels of the pictures it knows."""

    @property
    @abstractmethod
    def center(self) -> float:
        """The brightness about which its pictures lie."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """Image units for one unit of its network."""

    @property
    @abstractmethod
    def side(self) -> int | None:
        """Side of its training pictures, pixels, if known."""

    @property
    @abstractmethod
    def rigid(self) -> bool:
        """Whether its answers depend on the whole picture at once, so that it wants its side."""
