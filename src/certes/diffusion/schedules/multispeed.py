r"""Multi-speed diffusion: parts of a picture that turn into noise at speeds of their own.

.. math:: x_t^i = \alpha_{k(i)}(t)\, x_0^i + \sigma_{k(i)}(t)\, e^i

with a schedule :math:`k(i)` for every coordinate :math:`i` (Batzolis et al. 2021,
arXiv:2111.13606, where the coordinates are two blocks).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Int
from torch import Tensor

from certes.diffusion.schedules.base import Schedule, Time
from certes.diffusion.schedules.still import Still
from certes.errors import InputError


@dataclass(frozen=True, eq=False)
class Multispeed(Schedule):
    """Every coordinate of a picture follows the schedule that ``index`` names.

    All values have the shape of the times followed by that of ``index``.

    Args:
        schedules: of plain numbers, which are all asked at the same times.
        index: which of them each coordinate follows, counted from 0, of the shape (c, h, w) or one
            that broadcasts to it, such as (c, 1, 1). In the coordinates of the process: pixels, or
            the coefficients of its basis.

    Raises:
        InputError: if there is no schedule, one is multi-speed itself, or the index has another
            shape or names what is not there.
    """

    kind: ClassVar[str] = "multispeed"
    schedules: tuple[Schedule, ...]
    index: Int[Tensor, "c h w"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedules", tuple(self.schedules))
        object.__setattr__(self, "index", torch.as_tensor(self.index))
        if not self.schedules or any(isinstance(part, Multispeed) for part in self.schedules):
            kinds = [part.kind for part in self.schedules]
            raise InputError(f"schedules: {kinds}; give at least one, none of them multi-speed")
        _check_index(self.index, len(self.schedules))

    @property
    def reference(self) -> Schedule:
        """The first schedule that has noise: its times can be found from its noise levels.

        Raises:
            InputError: if there is none.
        """
        for schedule in self.schedules:
            if not isinstance(schedule, Still):
                return schedule
        raise InputError("schedules: all are 'still'; give one that diffuses")

    def log_alpha(self, t: Time) -> Tensor:
        r""":math:`\log\alpha` of every coordinate."""
        return self._each(lambda schedule: schedule.log_alpha(t))

    def sigma(self, t: Time) -> Tensor:
        r""":math:`\sigma` of every coordinate."""
        return self._each(lambda schedule: schedule.sigma(t))

    def dlog_alpha(self, t: Time) -> Tensor:
        """The drift of every coordinate."""
        return self._each(lambda schedule: schedule.dlog_alpha(t))

    def diffusion_squared(self, t: Time) -> Tensor:
        """The squared diffusion of every coordinate."""
        return self._each(lambda schedule: schedule.diffusion_squared(t))

    # Derived numbers are gathered too, rather than derived again: each coordinate then has the very
    # bits that its own schedule would give it.

    def alpha(self, t: Time) -> Tensor:
        return self._each(lambda schedule: schedule.alpha(t))

    def log_snr(self, t: Time) -> Tensor:
        return self._each(lambda schedule: schedule.log_snr(t))

    def noise_level(self, t: Time) -> Tensor:
        return self._each(lambda schedule: schedule.noise_level(t))

    def time(self, log_snr: Time) -> Tensor:
        """There is none: coordinates differ.

        Raises:
            InputError: always.
        """
        raise InputError(
            "schedule: 'multispeed' has no time for one log-SNR, in which its coordinates differ; "
            "give times, or ask one of its schedules"
        )

    def to_config(self) -> dict[str, Any]:
        parts = [schedule.to_config() for schedule in self.schedules]
        index = cast(Any, self.index).tolist()  # torch leaves it untyped
        return {"kind": self.kind, "schedules": parts, "index": index}

    def _invert(self, log_snr: Tensor) -> Tensor:
        return self.time(log_snr)

    def _each(self, ask: Callable[[Schedule], Tensor]) -> Tensor:
        values = torch.stack([ask(schedule) for schedule in self.schedules], dim=-1)
        return values[..., self.index.to(values.device)]


def per_block(channels: Sequence[int], schedules: Sequence[Schedule]) -> Multispeed:
    """Blocks of channels, one after another, each with its own speed.

    Args:
        channels: how many there are in each block.
        schedules: one for each block.

    Raises:
        InputError: if there are not as many schedules as blocks.
    """
    if len(channels) != len(schedules) or min(channels, default=0) < 1:
        raise InputError(
            f"channels, schedules: {list(channels)}, {len(schedules)} of them; give one schedule "
            "for each block, and each block at least one channel"
        )
    blocks = torch.arange(len(channels)).repeat_interleave(torch.tensor(channels))
    return Multispeed(tuple(schedules), blocks[:, None, None])


def per_pixel(map: Int[Tensor, "*c h w"], schedules: Sequence[Schedule]) -> Multispeed:
    """Pixels with the schedule that a map names.

    Args:
        map: which schedule each pixel follows, counted from 0, for all channels or for each.
        schedules: what it names.
    """
    return Multispeed(tuple(schedules), map[None] if map.ndim == 2 else map)


def per_band(
    size: tuple[int, int], edges: Sequence[float], schedules: Sequence[Schedule]
) -> Multispeed:
    r"""Rings of frequencies of the cosine basis, each with its own speed.

    For a process in :class:`~certes.diffusion.bases.CosineBasis`. The frequency of coefficient
    :math:`(k, l)` is :math:`\sqrt{(k / H)^2 + (l / W)^2}`, 1 being the finest along an axis.

    Args:
        size: (H, W) of the pictures.
        edges: where one band ends and the next begins, ascending; a frequency on an edge belongs to
            the higher band.
        schedules: of the bands, lowest frequencies first; one more than there are edges.

    Raises:
        InputError: if the numbers of edges and schedules do not fit, or edges do not ascend.
    """
    if len(schedules) != len(edges) + 1 or list(edges) != sorted(set(edges)):
        raise InputError(
            f"edges, schedules: {list(edges)}, {len(schedules)} of them; give ascending edges, and "
            "one more schedule than edges"
        )
    rows, columns = (torch.arange(n, dtype=torch.float64) / n for n in size)
    frequency = torch.hypot(rows[:, None], columns)
    bands = torch.bucketize(frequency, torch.tensor(edges, dtype=torch.float64), right=True)
    return Multispeed(tuple(schedules), bands[None])


def _check_index(index: Tensor, schedules: int) -> None:
    whole = not (index.is_floating_point() or index.is_complex() or index.dtype == torch.bool)
    if index.ndim != 3 or not index.numel() or not whole:
        raise InputError(
            f"index: shape {tuple(index.shape)} of {index.dtype}; give integers of the shape "
            "(c, h, w), with 1 where all are alike"
        )
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= schedules:
        raise InputError(
            f"index: from {low} to {high} with {schedules} schedules; count them from 0"
        )
