"""What sender and receiver must share: a model, its rates, and how a picture becomes its input."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.rates import RateCurve
from certes.errors import InputError, ModelError
from certes.generation.codec.plan import Plan, make_plan
from certes.generation.codec.portable import PortableDenoiser
from certes.networks.model import load
from certes.networks.prior import Prior


@dataclass(frozen=True)
class Setting:
    """A model, its rates, and the shape of a picture.

    Args:
        prior: the denoiser.
        rates: what it expects to spend.
        picture: the shape (c, h, w).

    Raises:
        InputError: if the model knows other channels.
    """

    prior: Denoiser
    rates: RateCurve
    picture: tuple[int, int, int]

    def __post_init__(self) -> None:
        if self._known not in (1, self.picture[0]):
            raise InputError(
                f"picture: {self.picture[0]} channel(s), but model {self.name} knows "
                f"{self._known}; convert the picture, or choose another model"
            )

    @property
    def name(self) -> str:
        """How people call the model."""
        return self.prior.name if isinstance(self.prior, Prior) else type(self.prior).__name__

    @property
    def hash(self) -> str:
        """Of the model alone, as restorations say it."""
        return self.prior.hash if isinstance(self.prior, Prior) else type(self.prior).__name__

    @property
    def identity(self) -> bytes:
        """Four bytes that tell this model and these rates from others."""
        content = json.dumps([self.hash, self.rates.to_dict()], sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=4).digest()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The batch (b, c, h, w) that the picture is: for a grey model each channel is one."""
        channels, height, width = self.picture
        return channels // self._known, self._known, height, width

    @cached_property
    def plan(self) -> Plan:
        """The chain."""
        channels, height, width = self.picture
        return make_plan(self.rates, channels * height * width)

    def denoiser(self) -> PortableDenoiser:
        """The model, ready for the picture."""
        return PortableDenoiser(self.prior, self.shape, self.rates)

    @property
    def _known(self) -> int:
        """Channels that the model knows."""
        return self.prior.channels if isinstance(self.prior, Prior) else self.picture[0]


def make_setting(
    model: str | Denoiser, rates: RateCurve | None, picture: tuple[int, int, int]
) -> Setting:
    """Load a model where only its name is given, and find its rates.

    Raises:
        ModelError: if there is no such model, or no rates.
        InputError: if it knows other channels.
    """
    prior = load(model) if isinstance(model, str) else model
    known = rates or (prior.rates if isinstance(prior, Prior) else None)
    if known is None:
        raise ModelError(
            "model: no rates are stored with it, which the codec needs; measure them with "
            "certes.training.rates.measure_rates(model, patches) and save the model with them"
        )
    return Setting(prior, known, picture)
