"""What the bound says: its total, its parts, and the rate-distortion curve in it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.reverse import Variance


@dataclass(frozen=True)
class Level:
    """One step of the grid, or some that follow each other and were estimated by one draw.

    Args:
        noise_from: the noise level that the first step leaves, image units.
        noise_to: the noise level that the last step reaches, image units; 0 is the picture.
        steps: how many steps of the grid.
        bits: what they cost together, bits per dimension, mean over pictures.
        standard_error: of ``bits``, over pictures; ``None`` for a single picture.
        rmse: root mean square error of the estimate of ``x_0`` there, grey levels (0 to 255).
    """

    noise_from: float
    noise_to: float
    steps: int
    bits: float
    standard_error: float | None
    rmse: float


@dataclass(frozen=True)
class Bound:
    """The variational bound of some pictures, bits per dimension.

    Args:
        variance: of the reverse steps.
        prior: ``L_T``, the part of the first noisy picture.
        levels: the steps in order, from noise towards the picture, the last one excepted.
        decoder: the last step, ``L_0``.
        pictures: the bound of every picture.
    """

    variance: Variance
    prior: float
    levels: tuple[Level, ...]
    decoder: Level
    pictures: tuple[float, ...]

    @property
    def rate(self) -> float:
        """``L_1 + ... + L_T``: what it costs to send ``x_1``."""
        return self.prior + math.fsum(level.bits for level in self.levels)

    @property
    def distortion(self) -> float:
        """``L_0``: what it then costs to send the picture without loss."""
        return self.decoder.bits

    @property
    def total(self) -> float:
        """The bound, bits per dimension, mean over pictures."""
        return self.rate + self.distortion

    @property
    def standard_error(self) -> float | None:
        """Of :attr:`total` as the mean of the pictures' population; ``None`` for one picture."""
        return standard_error(torch.tensor(self.pictures, dtype=torch.float64))

    def rate_distortion(self) -> list[tuple[float, float]]:
        """Pairs (bits per dimension sent, RMSE of the estimate on [0, 255]), rates increasing.

        The rate is all that was spent before the estimate is made (Ho et al. 2020, table 4), spread
        evenly over the steps of a level.
        """
        levels = [*self.levels, self.decoder]
        spent = accumulate((level.bits for level in self.levels), initial=self.prior)
        return [
            (before + level.bits * (level.steps - 1) / (2 * level.steps), level.rmse)
            for before, level in zip(spent, levels, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "variance": self.variance,
            "bits_per_dimension": self.total,
            "standard_error": self.standard_error,
            "prior": self.prior,
            "rate": self.rate,
            "distortion": self.distortion,
            "rate_distortion": [{"bits": bits, "rmse": e} for bits, e in self.rate_distortion()],
            "levels": [asdict(level) for level in self.levels],
            "decoder": asdict(self.decoder),
            "pictures": list(self.pictures),
        }


def standard_error(values: Float[Tensor, " n"]) -> float | None:
    """Of the mean of independent values; ``None`` for a single one, which tells nothing of it."""
    return None if len(values) < 2 else float(values.std()) / math.sqrt(len(values))
