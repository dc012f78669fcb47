"""How large a loss is at each noise level: running moments in equal strata of time."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

# What the latest of the many visits of a stratum counts: an average over the last 50.
_RATE = 0.02


class LevelMoments:
    """The mean and the mean square of a loss in each of ``strata`` equal parts of [0, 1].

    They are part of a run's state: later steps depend on them.

    Args:
        strata: how many.
        device: where the losses are.
    """

    def __init__(self, strata: int, device: torch.device) -> None:
        self.strata = strata
        self.mean = torch.zeros(strata, dtype=torch.float64, device=device)
        self.square = torch.zeros_like(self.mean)
        self.visits = torch.zeros_like(self.mean)

    def stratum(self, position: Float[Tensor, " b"]) -> Int64[Tensor, " b"]:
        """The stratum of each position in [0, 1]."""
        return (position * self.strata).long().clamp(0, self.strata - 1)

    @torch.no_grad()
    def update(self, position: Float[Tensor, " b"], loss: Float[Tensor, " b"]) -> None:
        """Take in the losses of one step: a plain average at first, later a running one."""
        k, loss = self.stratum(position), loss.to(self.mean)
        seen = torch.zeros_like(self.visits).index_add_(0, k, torch.ones_like(loss))
        self.visits += seen
        rate = torch.maximum(seen / self.visits.clamp(min=1), 1 - (1 - _RATE) ** seen)
        for moment, value in ((self.mean, loss), (self.square, loss**2)):
            total = torch.zeros_like(moment).index_add_(0, k, value)
            moment.lerp_(total / seen.clamp(min=1), rate)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds, by name; loading is copying into these."""
        return {"mean": self.mean, "square": self.square, "visits": self.visits}
