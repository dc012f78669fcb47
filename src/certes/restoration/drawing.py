"""Samples of a group of measurements that share an operator, a grid and a noise level."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.grids import Grid
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.solvers.state import State
from certes.intervals.bounds import Provenance
from certes.intervals.posterior import Posterior, PosteriorBuilder
from certes.restoration.measurement import Measurement
from certes.restoration.noise_model import NoiseEstimate

# Standard errors that a drawn noise level may be from its estimate.
_FARTHEST = 3.0


@dataclass(frozen=True)
class Draw:
    """How samples are drawn, whatever the measurement.

    Args:
        chain: the sampler, from measurements, noise levels and a source of noise to states.
        grid: its noise levels for measurements and a number of network calls.
        together: whether all samples of a picture must be drawn in one batch.
        confined: whether the prior's pictures lie in [0, 1].
        inflation: spread of its errors over that of its samples.
        samples, steps, seed, keep_samples, alpha, callback: see
            :func:`certes.restoration.restore`.
    """

    chain: Callable[[Measurement, Grid, NoiseSource], Iterator[State]]
    grid: Callable[[Measurement, int], Grid]
    together: bool
    confined: bool
    inflation: float
    samples: int
    steps: int
    seed: int
    keep_samples: bool
    alpha: float
    callback: Callable[[State], None] | None

    def __call__(
        self,
        part: Measurement,
        deviation: Float[Tensor, " b"],
        names: Sequence[str],
        together: int,
        provenance: Provenance,
    ) -> Posterior:
        """The posterior of some measurements.

        Args:
            part: the measurements.
            deviation: standard error of the noise level of each.
            names: of the streams of noise of each.
            together: how many samples of each are drawn at once, where the sampler does not mind.
            provenance: all that is known beforehand of what makes the samples.
        """
        noise = NoiseEstimate(part.noise, deviation)
        grid = self._serving(part, noise)
        builder = PosteriorBuilder(self.samples, self.keep_samples, self.alpha, self.confined)
        together = self.samples if self.together else together
        for first in range(0, self.samples, together):
            block = range(first, min(first + together, self.samples))
            keys = [f"{name}/{k}" for k in block for name in names]
            copies = part.repeat(len(block))
            if bool(deviation.any()):
                copies = replace(copies, noise=_drawn(noise, self.seed, keys))
            source = NoiseSource(stream_seeds(self.seed, keys), part.y.device)
            states = self.chain(copies, grid, source)
            builder.add(*_run(states, len(block), len(grid) - 1, self.callback))
        made = replace(provenance, steps=len(grid) - 1, samples=self.samples)
        return builder.build(made, self.inflation)

    def _serving(self, part: Measurement, noise: NoiseEstimate) -> Grid:
        """Noise levels that serve whatever level is drawn for a sample."""
        if bool(noise.deviation.any()):
            far = torch.full_like(noise.level, _FARTHEST)
            part = replace(part.repeat(2), noise=torch.cat([noise.draw(-far), noise.draw(far)]))
        return self.grid(part, self.steps)


def _drawn(noise: NoiseEstimate, seed: int, keys: Sequence[str]) -> Float[Tensor, " rows"]:
    """A noise level for every sample, so that intervals allow for what the estimate may be off."""
    source = NoiseSource(stream_seeds(seed, [f"{key}/noise" for key in keys]))
    deviates = source.normal(()).clamp(-_FARTHEST, _FARTHEST).to(noise.level)
    copies = len(keys) // len(noise.level)
    return NoiseEstimate(noise.level.repeat(copies), noise.deviation.repeat(copies)).draw(deviates)


def _run(
    states: Iterator[State], count: int, calls: int, callback: Callable[[State], None] | None
) -> tuple[Tensor, Tensor]:
    """Samples and estimates, each (k, b, c, h, w), of ``count`` copies of a group of pictures."""
    total, last = torch.zeros(()), None
    for index, last in enumerate(states):
        if callback is not None:
            callback(last)
        if index >= calls // 2:
            total = total + last.estimate
    assert last is not None  # a grid has at least one step
    shape = (count, -1, *last.x.shape[1:])
    return last.x.reshape(shape), (total / (calls - calls // 2)).reshape(shape)
