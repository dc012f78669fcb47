"""Moments and quantiles of samples that arrive in chunks, in memory that does not grow with them.

Sources: Welford 1962 and Chan, Golub, LeVeque 1983 (moments); Jain and Chlamtac 1985 (P-square).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError


class StreamingMoments:
    """Mean and standard deviation of samples that arrive in chunks, in float64.

    Memory is two float64 pictures, whatever the number of samples. Sources: Welford 1962;
    Chan, Golub, LeVeque 1983 for whole chunks at once.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = torch.zeros((), dtype=torch.float64)
        self._squares = torch.zeros((), dtype=torch.float64)

    def update(self, chunk: Float[Tensor, "k ..."]) -> None:
        """Take in k more samples; an empty chunk changes nothing."""
        if not len(chunk):
            return
        # Doubles live on the CPU: not every accelerator has them.
        values = chunk.to("cpu", torch.float64)
        new, total = len(values), self.count + len(values)
        mean = values.mean(dim=0)
        gap = mean - self._mean
        self._squares = self._squares + (values - mean).square().sum(dim=0)
        self._squares = self._squares + gap.square() * (self.count * new / total)
        self._mean = self._mean + gap * (new / total)
        self.count = total

    @property
    def mean(self) -> Float[Tensor, ...]:
        """Mean of the samples so far, float64, on the CPU."""
        return self._mean

    @property
    def std(self) -> Float[Tensor, ...]:
        """Standard deviation (n - 1 in the denominator) of the samples so far; 0 for one sample."""
        return (self._squares / max(1, self.count - 1)).sqrt()


class StreamingQuantiles:
    r"""Quantiles of samples that arrive in chunks, without storing them (P-square).

    For each probability p five markers follow the minimum, the p/2, p and (1+p)/2 quantiles and
    the maximum; a marker that falls a rank or more behind moves by one rank, its height along a
    parabola. Memory is five pictures per probability once `exact` samples have been seen; until
    then the samples are kept and the answer is exact. Ranks are as in `torch.quantile`,
    :math:`1 + p (K - 1)`; levels 0 and 1, the extremes, stay exact for ever.

    Source: Jain and Chlamtac 1985. Theirs is ``exact=5``; starting later helps in the tails, where
    the first few ranks cannot tell the markers apart.

    Args:
        probabilities: levels in [0, 1].
        exact: number of samples kept before markers take over, at least 5.

    Raises: InputError for levels outside [0, 1] or ``exact`` under 5.
    """

    def __init__(self, probabilities: Sequence[float], exact: int = 32) -> None:
        if not probabilities or not all(0 <= p <= 1 for p in probabilities) or exact < 5:
            raise InputError(
                "probabilities, exact: levels in [0, 1] and at least 5 samples are wanted,"
                f" not {list(probabilities)}, {exact}"
            )
        self.count = 0
        self.probabilities = tuple(probabilities)
        p = torch.tensor(self.probabilities, dtype=torch.float64)
        self._levels = torch.stack([0 * p, p / 2, p, (1 + p) / 2, 0 * p + 1])  # (5, p)
        self._exact = exact
        self._kept: list[Tensor] = []
        self._heights = torch.empty(0)  # (5, p, *shape)
        self._ranks = torch.empty(0)  # the same, float, 1-based

    def update(self, chunk: Float[Tensor, "k ..."]) -> None:
        """Take in k more samples (any k, any float dtype)."""
        for sample in chunk:
            self.count += 1
            if self.count <= self._exact:
                self._kept.append(sample.clone())
            else:
                if self._kept:
                    self._start_markers()
                self._insert(sample)

    @property
    def values(self) -> Float[Tensor, "p ..."]:
        """The quantiles so far, one per probability."""
        if self._kept:
            samples = torch.stack(self._kept)
            p = samples.new_tensor(self.probabilities)
            return torch.quantile(samples, p, dim=0)
        return self._read()

    def _start_markers(self) -> None:
        """Put the markers at distinct ranks of the kept samples, as near as can be to their levels.

        A rank of its own for each marker: at least its own number from either end.
        """
        ordered = torch.stack(self._kept).sort(dim=0).values
        last = len(ordered) - 1
        ranks = (self._levels * last).round()
        for j in range(1, 4):
            ranks[j] = ranks[j].maximum(ranks[j - 1] + 1).clamp(max=last - 4 + j)
        self._heights = ordered[ranks.long()]
        shape = (*ranks.shape, *(1,) * (ordered.ndim - 1))
        self._ranks = (ranks + 1).to(ordered).reshape(shape).expand_as(self._heights).clone()
        self._kept = []

    def _insert(self, sample: Tensor) -> None:
        heights, ranks = self._heights, self._ranks
        heights[0] = heights[0].minimum(sample)
        heights[4] = heights[4].maximum(sample)
        ranks[1:4] += (sample < heights[1:4]).to(ranks)
        ranks[4] += 1
        wanted = self._wanted()
        for j in (1, 2, 3):
            self._move(j, wanted[j])

    def _wanted(self) -> Tensor:
        """The rank, whole or not, that each marker should have by now."""
        ranks = 1 + self._levels * (self.count - 1)
        return ranks.to(self._heights).reshape(5, -1, *(1,) * (self._heights.ndim - 2))

    def _move(self, j: int, wanted: Tensor) -> None:
        """Move marker j by one rank towards its wanted rank, where it lags and there is room."""
        (below, here, above), (n0, n1, n2) = (
            self._heights[j - 1 : j + 2],
            self._ranks[j - 1 : j + 2],
        )
        behind = (wanted - n1 >= 1) & (n2 - n1 > 1)
        ahead = (wanted - n1 <= -1) & (n1 - n0 > 1)
        step = behind.to(n1) - ahead.to(n1)
        rise, fall = (above - here) / (n2 - n1), (here - below) / (n1 - n0)
        parabola = here + step / (n2 - n0) * ((n1 - n0 + step) * rise + (n2 - n1 - step) * fall)
        line = here + torch.where(step > 0, rise, -fall) * step.abs()
        smooth = (below < parabola) & (parabola < above)
        self._heights[j] = torch.where(step == 0, here, torch.where(smooth, parabola, line))
        self._ranks[j] = n1 + step

    def _read(self) -> Tensor:
        """Heights at the wanted ranks, on straight lines between the markers.

        The middle marker alone may still be a rank off, which matters in the tails.
        """
        wanted = self._wanted()[2]
        value = self._heights[0]
        for j in range(4):
            n0, n1 = self._ranks[j], self._ranks[j + 1]
            share = ((wanted - n0) / (n1 - n0)).clamp(0, 1)
            value = torch.where(
                wanted >= n0, self._heights[j].lerp(self._heights[j + 1], share), value
            )
        return value
