"""The table of samplers: what each takes, where it starts, what its samples are worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from certes.diffusion.grids import Grid
from certes.diffusion.solvers.state import State
from certes.restoration.measurement import Measurement, measure
from certes.restoration.operators.base import DecomposedOperator, LinearOperator, Operator
from certes.restoration.samplers.conditional import conditional_levels, sample_conditional
from certes.restoration.samplers.ddrm import sample_ddrm
from certes.restoration.samplers.pinned import noise_levels, sample_pinned


@dataclass(frozen=True)
class Method:
    """A sampler as :func:`certes.restore` calls it.

    Args:
        draw: the sampler, a generator of states.
        grid: its noise levels for a measurement and a number of network calls.
        takes: the most general kind of operator that it works with.
        view: how it sees a measurement.
        posterior: whether its samples mean to be posterior samples, whose spread is worth
            correcting by a model's inflation; else they are left as published.
        together: whether all samples of a picture must be drawn in one batch.
    """

    draw: Callable[..., Iterator[State]]
    grid: Callable[[Any, int], Grid]
    takes: type[Operator]
    view: Callable[[Measurement], Any] = lambda measurement: measurement
    posterior: bool = True
    together: bool = False


def _spectral(measurement: Measurement) -> Any:
    operator = measurement.operator
    assert isinstance(operator, DecomposedOperator)  # Method.takes was asked before
    return measure(operator, measurement.y, measurement.noise)


SAMPLERS: dict[str, Method] = {
    "pinned": Method(sample_pinned, noise_levels, DecomposedOperator, _spectral),
    "conditional": Method(sample_conditional, conditional_levels, LinearOperator),
    "ddrm": Method(sample_ddrm, noise_levels, DecomposedOperator, _spectral, posterior=False),
}


def default_sampler(operator: Operator) -> str:
    """The first sampler of the table that takes this operator."""
    return next(name for name, method in SAMPLERS.items() if isinstance(operator, method.takes))
