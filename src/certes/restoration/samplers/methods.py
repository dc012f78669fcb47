"""The table of samplers: what each takes, where it starts, what its samples are worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from certes.diffusion.grids import Grid
from certes.diffusion.solvers.state import State
from certes.restoration.measurement import Measurement, measure
from certes.restoration.operators.base import DecomposedOperator, LinearOperator, Operator
from certes.restoration.operators.rounded import RoundedOperator
from certes.restoration.samplers.conditional import sample_conditional
from certes.restoration.samplers.ddnm import ddnm_levels, sample_ddnm
from certes.restoration.samplers.ddrm import sample_ddrm
from certes.restoration.samplers.diffpir import sample_diffpir
from certes.restoration.samplers.dps import sample_dps
from certes.restoration.samplers.jpeg import jpeg_levels, sample_jpeg
from certes.restoration.samplers.levels import whole_descent
from certes.restoration.samplers.pinned import noise_levels, sample_pinned
from certes.restoration.samplers.rounded import cells, rounded_levels, sample_rounded
from certes.restoration.samplers.twisted import sample_twisted, twisted_levels


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
    "conditional": Method(sample_conditional, whole_descent, LinearOperator),
    "rounded": Method(sample_rounded, rounded_levels, RoundedOperator, cells),
    "dps": Method(sample_dps, whole_descent, Operator, posterior=False),
    "ddrm": Method(sample_ddrm, noise_levels, DecomposedOperator, _spectral, posterior=False),
    "ddnm": Method(sample_ddnm, ddnm_levels, DecomposedOperator, _spectral, posterior=False),
    "diffpir": Method(sample_diffpir, whole_descent, LinearOperator, posterior=False),
    "jpeg": Method(sample_jpeg, jpeg_levels, RoundedOperator, posterior=False),
    "twisted": Method(sample_twisted, twisted_levels, DecomposedOperator, together=True),
}


def default_sampler(operator: Operator) -> str:
    """The first sampler of the table that takes this operator."""
    return next(name for name, method in SAMPLERS.items() if isinstance(operator, method.takes))
