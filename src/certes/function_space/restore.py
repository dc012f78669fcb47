"""From a picture to a posterior by what only models of functions can do.

Everything that is a measurement by an operator goes through :func:`certes.restore`, scattered
pixels included (:class:`certes.operators.SampledAt`). Here are the paper's own ways: a picture
encoded at one resolution and written at a finer one, and inpainting by guidance. Their samples are
a :class:`~certes.intervals.posterior.Posterior` like any other: what they are worth, a calibration
card says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from certes.diffusion.grids import Grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.schedules import EDM
from certes.diffusion.solvers.sampling import SIGMA_MAX, SIGMA_MIN, ReverseChain
from certes.diffusion.solvers.state import State
from certes.errors import InputError, ModelError
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.encoding import ddim_encode
from certes.function_space.guidance import Known, guided
from certes.function_space.missing import Unblurring, unblurring
from certes.function_space.model import FunctionModel
from certes.function_space.process import MollifiedNoise, MollifiedProcess
from certes.function_space.reconstruction import DOWN, Encoded, decoded, encode_functions
from certes.function_space.sampling import last_of, levels_at
from certes.function_space.unmollify import PowerLaw, SpectralFilter, WienerFilter
from certes.intervals.bounds import Provenance
from certes.intervals.posterior import Posterior, join
from certes.restoration.drawing import Draw
from certes.restoration.measurement import Measurement
from certes.restoration.operators import Denoise, Inpaint
from certes.restoration.operators.base import Operator, as_tensor
from certes.restoration.request import operator_label
from certes.restoration.restore import stream_names, suitable_batch

Picture = Float[Tensor, "b c h w"]
Callback = Callable[[State], None]
Walk = Callable[[Measurement, Grid, NoiseSource], Iterator[State]]


def super_resolve(
    y: Picture | npt.NDArray[Any],
    model: FunctionModel,
    factor: float,
    *,
    encoded_noise: bool = True,
    samples: int = 16,
    steps: int = 20,
    seed: int = 0,
    keep_samples: bool = True,
    alpha: float = 0.1,
    batch_size: int | None = None,
    callback: Callback | None = None,
) -> Posterior:
    """The paper's super-resolution: encode at one resolution, write at a finer one.

    Samples differ in what is finer than the pixels of ``y`` and, without encoded noise, in all that
    the code does not say.

    Args:
        y: pictures, image units, of the model's pitch.
        model: for pictures like ``y`` (:meth:`FunctionModel.at`).
        factor: how much finer.
        encoded_noise: keep what the code does not say of ``y`` by encoding its noise too (as many
            network calls again, once for each picture); without, as in the paper, it is drawn.
        samples, seed, keep_samples, alpha, batch_size, callback: see :func:`certes.restore`.
        steps: network calls for each answer.

    Raises:
        InputError: for a factor that does not make whole pixels, or senseless settings.
        ModelError: if the model has no codes and no noise is encoded.
    """
    y, pitch, denoiser = as_tensor(y), model.pitch, model.denoiser
    if not encoded_noise and denoiser.net.encoder is None:
        raise ModelError("model: has no encoder, so that nothing of y is known; encode its noise")
    chain = ReverseChain(DOWN.solver, steps)

    def walk(part: Measurement, grid: Grid, source: NoiseSource) -> Iterator[State]:
        once = part.y[: len(part.y) // part.copies]
        known = encode_functions(model, once, pitch, steps if encoded_noise else None)
        code, noise = (_repeated(value, part.copies) for value in (known.code, known.noise))
        many = Encoded(code, noise, known.extent)
        return decoded(denoiser, many, pitch / factor, source, chain)

    drawn = Draw(
        walk,
        lambda part, calls: levels_at(chain, pitch / factor),
        together=False,
        confined=model.confined,
        inflation=1.0,
        samples=samples,
        steps=steps,
        seed=seed,
        keep_samples=keep_samples,
        alpha=alpha,
        callback=callback,
    )
    label = f"function-super-resolution {json.dumps({'factor': factor})}"
    manner = f"{DOWN.solver}/{'encoded' if encoded_noise else 'code'}"
    channels, height, width = y.shape[1:]
    size = batch_size or suitable_batch(model.device, round(y[0].numel() * factor**2))
    provenance = Provenance(model.hash, label, None, manner)
    return _posterior(drawn, Denoise((channels, height, width)), y, model.device, size, provenance)


def inpaint(
    y: Picture | npt.NDArray[Any],
    mask: Shaped[Tensor, "*c h w"],
    model: FunctionModel,
    *,
    start: float = 1.0,
    samples: int = 16,
    steps: int = 50,
    seed: int = 0,
    keep_samples: bool = True,
    alpha: float = 0.1,
    batch_size: int | None = None,
    callback: Callback | None = None,
) -> Posterior:
    """Inpainting by the paper's reconstruction guidance (:mod:`.guidance`).

    Args:
        y: pictures, image units, of the model's pitch. Known pixels are kept. What stands in the
            hole is ignored if ``start`` is 1.
        mask: 1 where a pixel is known; see :class:`~certes.restoration.operators.Inpaint`.
        model: for pictures like ``y``; published, for the spectrum that was measured.
        start: the time :math:`t_s`, in (0, 1], at which the walk down starts from the encoding of
            ``y``: the less, the nearer the answer stays to what stands in the hole. 1: from noise.
        samples, seed, keep_samples, alpha, batch_size, callback: see :func:`certes.restore`.
        steps: network calls for each answer, there and back.

    Raises:
        InputError: for a mask that is none, a start outside of (0, 1], or senseless settings.
        ModelError: if no spectrum was measured.
    """
    if not 0 < start <= 1:
        raise InputError(f"start: {start}; give a time above 0, up to 1, which is pure noise")
    y = as_tensor(y)
    channels, height, width = y.shape[1:]
    operator = Inpaint((channels, height, width), mask)
    y = operator.observed(y) if start == 1 else y
    chain = ReverseChain(steps=steps)
    guide = Guide(model.denoiser, (height, width), chain.grid(_level(model.denoiser, start)))
    drawn = Draw(
        lambda part, grid, source: guide.walk(part, operator, source, start < 1),
        lambda part, calls: guide.grid,
        together=False,
        confined=model.confined,
        inflation=model.inflation,
        samples=samples,
        steps=steps,
        seed=seed,
        keep_samples=keep_samples,
        alpha=alpha,
        callback=callback,
    )
    manner = "guidance" if start == 1 else f"guidance/{start:g}"
    provenance = Provenance(model.hash, operator_label(operator), 0.0, manner)
    size = batch_size or suitable_batch(model.device, operator.n)
    return _posterior(drawn, operator, y, model.device, size, provenance)


@dataclass(frozen=True)
class Guide:
    """Guided walks of pictures of one size.

    Args:
        denoiser: knows them.
        shape: rows and columns.
        grid: noise of a unit of area, image units, descending to 0.
    """

    denoiser: FunctionDenoiser
    shape: tuple[int, int]
    grid: Grid

    def walk(
        self, part: Measurement, operator: Inpaint, source: NoiseSource, encoded: bool
    ) -> Iterator[State]:
        """One answer for each row.

        Args:
            part: pictures.
            operator: says which pixels are known.
            source: one stream for each row.
            encoded: whether the walk starts from the encoding of the pictures.
        """
        process = MollifiedProcess(EDM(), self.denoiser.reading.mollifier, self.denoiser.pitch)
        if encoded:
            x = self._encoding(process, part)
        else:
            fresh = MollifiedNoise(source, process.mollifier, process.pitch)
            center = self.denoiser.reading.center
            x = center + float(self.grid[0]) * fresh.normal(operator.in_shape, part.y.dtype)
        known = Known(part.y, operator.mask.to(part.y.device))
        unblurred = self._unblurring()
        return guided(process, self.denoiser, self.grid, x, source, known, unblurred)

    def _encoding(self, process: MollifiedProcess, part: Measurement) -> Picture:
        """Of each picture once, for all its copies."""
        once = part.y[: len(part.y) // part.copies]
        times = self.grid[:-1].flip(0)
        x = process.marginal(once, times[0])[0]
        with torch.no_grad():
            end = last_of(ddim_encode(process, self.denoiser, times, x), None)
        return end.x.repeat(part.copies, 1, 1, 1)

    def _unblurring(self) -> Unblurring:
        """By the paper's filter, with what it leaves out drawn; the measured one amplifies more,
        and is for the network's estimates, not for samples."""
        denoiser, reading = self.denoiser, self.denoiser.reading
        if not isinstance(denoiser.unmollify, SpectralFilter):
            raise ModelError(
                "model: no spectrum was measured, so that what the blur takes away is not known; "
                "publish it with certes.function_space.publish"
            )
        return unblurring(
            WienerFilter(reading.mollifier),
            _spectrum(denoiser.unmollify.beyond),
            self.shape,
            denoiser.pitch,
            reading.center,
            reading.scale,
        )


def _spectrum(beyond: PowerLaw) -> PowerLaw:
    """The power law on all of the octave that it was fitted to; below, little is missing."""
    return PowerLaw(beyond.power * 2**beyond.exponent, beyond.exponent, beyond.frequency / 2)


def _level(denoiser: FunctionDenoiser, start: float) -> float:
    """The noise of a unit of area at a time of the model's schedule, image units."""
    if start == 1:
        return SIGMA_MAX
    level = float(denoiser.reading.level(torch.tensor([start]))) * denoiser.reading.scale
    return min(max(level, 2 * SIGMA_MIN), SIGMA_MAX)


def _posterior(
    drawn: Draw,
    operator: Operator,
    y: Picture,
    device: torch.device,
    size: int,
    provenance: Provenance,
) -> Posterior:
    """The posteriors of pictures, some at a time."""
    if min(drawn.samples, drawn.steps, size) < 1 or not len(y):
        raise InputError(
            f"samples, steps, batch_size: {drawn.samples}, {drawn.steps}, {size}; give at least 1 "
            "of each, and a picture"
        )
    names, parts = stream_names(y), list[Posterior]()
    for rows in (slice(first, first + size) for first in range(0, len(y), size)):
        some = y[rows].to(device)
        part = Measurement(operator, some, some.new_zeros(len(some)))
        together = max(1, size // len(some))
        parts.append(drawn(part, torch.zeros(len(some)), names[rows], together, provenance))
    return join(parts)


def _repeated(value: Tensor | None, copies: int) -> Tensor | None:
    """A batch several times, one copy after another."""
    return None if value is None else value.repeat(copies, *[1] * (value.ndim - 1))
