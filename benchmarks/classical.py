"""The classical restorations that a user of scikit-image would pick, each with its best weight.

Their weights are tuned for the highest mean PSNR on training pictures (`tune`), never on those that
are scored. All pictures are grey arrays (H, W) in [0, 1], noise is in the same units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import restoration
from skimage.transform import resize

Picture = NDArray[np.float64]
Weights = tuple[float, ...]

PADDING = 16
"""Pixels of mirrored border for deconvolution, which takes pictures to be periodic."""


@dataclass(frozen=True)
class Measurement:
    """A degraded picture and what is known of how it came about.

    `task` is denoise, super-resolve, inpaint or deblur; `known` (H, W) is True where a pixel was
    measured (inpaint); `factor` is that of super-resolve; `kernel` the centred odd-sided (k, k)
    point spread function of deblur.
    """

    task: str
    y: Picture
    noise: float
    known: NDArray[np.bool_] | None = None
    factor: int = 4
    kernel: Picture | None = None


@dataclass(frozen=True)
class Method:
    """`prepare` needs no weights and is run once a picture; `finish` is run for each of `grid`."""

    prepare: Callable[[Measurement], Picture]
    finish: Callable[[Picture, Measurement, Weights], Picture]
    grid: Sequence[Weights]


def classical(measurement: Measurement, weights: Mapping[str, Weights]) -> dict[str, Picture]:
    """Restore with every method of the task, at the weights that `tune` chose."""
    methods = METHODS[measurement.task]
    prepared = {prepare: prepare(measurement) for prepare in {m.prepare for m in methods.values()}}
    return {
        name: _clipped(method.finish(prepared[method.prepare], measurement, weights[name]))
        for name, method in methods.items()
    }


def tune(measurements: Sequence[Measurement], truths: Sequence[Picture]) -> dict[str, Weights]:
    """Choose each method's weights of highest mean PSNR over pictures of one task."""
    methods = METHODS[measurements[0].task]
    return {name: _best(method, measurements, truths) for name, method in methods.items()}


def _best(
    method: Method, measurements: Sequence[Measurement], truths: Sequence[Picture]
) -> Weights:
    scores = np.zeros(len(method.grid))
    for measurement, truth in zip(measurements, truths, strict=True):
        prepared = method.prepare(measurement)
        restored = [_clipped(method.finish(prepared, measurement, w)) for w in method.grid]
        scores += [-10 * np.log10(np.mean((r - truth) ** 2)) for r in restored]
    return method.grid[int(scores.argmax())]


def _clipped(picture: Picture) -> Picture:
    return np.clip(np.nan_to_num(picture), 0, 1)


def _measured(m: Measurement) -> Picture:
    return m.y


def _bicubic(m: Measurement) -> Picture:
    shape = tuple(m.factor * n for n in m.y.shape)
    return resize(m.y, shape, order=3, mode="symmetric", anti_aliasing=False)


def _biharmonic(m: Measurement) -> Picture:
    assert m.known is not None
    return restoration.inpaint_biharmonic(np.where(m.known, m.y, 0), ~m.known)


def _mirrored(m: Measurement) -> Picture:
    return np.pad(m.y, PADDING, mode="symmetric")


def _unmirrored(padded: Picture) -> Picture:
    return padded[PADDING:-PADDING, PADDING:-PADDING]


def _nothing(x: Picture, m: Measurement, w: Weights) -> Picture:
    return x


def _tv(x: Picture, m: Measurement, w: Weights) -> Picture:
    return restoration.denoise_tv_chambolle(x, weight=w[0], max_num_iter=200) if w[0] else x


def _nlm(x: Picture, m: Measurement, w: Weights) -> Picture:
    h, sigma = w[0], w[1] * m.noise
    return restoration.denoise_nl_means(x, patch_size=5, patch_distance=6, h=h, sigma=sigma)


def _wavelet(method: str) -> Callable[[Picture, Measurement, Weights], Picture]:
    def finish(x: Picture, m: Measurement, w: Weights) -> Picture:
        return restoration.denoise_wavelet(
            x, sigma=w[0] * m.noise, wavelet="db2", method=method, mode="soft"
        )

    return finish


def _wiener(x: Picture, m: Measurement, w: Weights) -> Picture:
    sharp = restoration.wiener(x, m.kernel, balance=w[0], clip=False)
    return _tv(_unmirrored(sharp), m, w[1:])


def _unsupervised_wiener(x: Picture, m: Measurement, w: Weights) -> Picture:
    options: dict[str, Any] = {"clip": False, "rng": 0}
    return _unmirrored(restoration.unsupervised_wiener(x, m.kernel, **options)[0])


def _richardson_lucy(x: Picture, m: Measurement, w: Weights) -> Picture:
    iterations, weight = int(w[0]), w[1:]
    positive = np.clip(x, 1e-4, None)
    sharp = restoration.richardson_lucy(positive, m.kernel, num_iter=iterations, clip=False)
    return _tv(_unmirrored(sharp), m, weight)


def _grid(*axes: Sequence[float]) -> list[Weights]:
    return list(product(*axes))


TV = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.18, 0.25)
STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
BALANCES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)

METHODS: dict[str, dict[str, Method]] = {
    "denoise": {
        "non-local means": Method(
            _measured, _nlm, _grid((0.04, 0.06, 0.08, 0.1, 0.13, 0.16), (0.0, 0.8, 1.0))
        ),
        "total variation": Method(_measured, _tv, _grid(TV)),
        "wavelets, BayesShrink": Method(_measured, _wavelet("BayesShrink"), _grid(STRENGTHS)),
        "wavelets, VisuShrink": Method(_measured, _wavelet("VisuShrink"), _grid(STRENGTHS)),
    },
    "super-resolve": {
        "bicubic": Method(_bicubic, _nothing, _grid()),
        "bicubic, total variation": Method(_bicubic, _tv, _grid(TV)),
    },
    "inpaint": {
        "biharmonic": Method(_biharmonic, _nothing, _grid()),
        "biharmonic, non-local means": Method(
            _biharmonic, _nlm, _grid((0.005, 0.01, 0.02, 0.03, 0.05), (0.0, 1.0))
        ),
        "biharmonic, total variation": Method(_biharmonic, _tv, _grid(TV)),
    },
    "deblur": {
        "Wiener": Method(_mirrored, _wiener, _grid(BALANCES, (0.0,))),
        "unsupervised Wiener": Method(_mirrored, _unsupervised_wiener, _grid()),
        "Wiener, total variation": Method(_mirrored, _wiener, _grid(BALANCES, TV[1:6])),
        "Richardson-Lucy": Method(
            _mirrored, _richardson_lucy, _grid((2, 4, 6, 8, 12, 16, 24, 32), (0.0,))
        ),
        "Richardson-Lucy, total variation": Method(
            _mirrored, _richardson_lucy, _grid((6, 12, 24, 48), TV[1:5])
        ),
    },
}
