"""What a solver yields, and the walk along a grid that every solver makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError


@dataclass(frozen=True)
class State:
    """Where a solver stands after a step.

    Args:
        t: the time it has reached.
        x: the pictures there, in process coordinates.
        estimate: the clean pictures that the step believed in, image units.
    """

    t: float
    x: Float[Tensor, "b c h w"]
    estimate: Float[Tensor, "b c h w"]


def steps_of(
    times: Float[Tensor, " steps_and_end"],
) -> Iterator[tuple[Float[Tensor, ""], Float[Tensor, ""]]]:
    """The pairs (from, to) of a descending grid.

    Raises:
        InputError: if there are fewer than two times, or they do not descend.
    """
    if times.ndim != 1 or len(times) < 2 or not bool((times[1:] < times[:-1]).all()):
        raise InputError(
            f"times: shape {tuple(times.shape)}; give at least two, in strictly descending order"
        )
    return pairwise(times.unbind())
