"""How does the noise grow with the signal? Gain and read noise, from the picture alone.

Blocks give pairs (mean, noise variance), through which photons and electronics lay a straight line
(Foi, Trimeche, Katkovnik and Egiazarian, "Practical Poissonian-Gaussian noise modeling and fitting
for single-image raw-data", IEEE Transactions on Image Processing 17, 2008). Blocks with texture are
left out. They are known by coarse differences, whose noise has next to nothing to do with that of
the fine differences that are measured, so that leaving them out does not favour quiet blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from scipy import special  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor
from torch.nn.functional import avg_pool2d

from certes.errors import InputError
from certes.restoration.noise import QUANTISATION, correlation, differences
from certes.restoration.noise_model import SignalNoise

_special = cast(Any, special)  # scipy publishes no types

_BLOCK = 8  # pixels: small enough to have one signal
_FEWEST = 20  # blocks, clear of the limits, that can tell a line
_GROUPS, _GROUP = 24, 16  # of blocks of like signal: how many at most, of how many blocks at least
_FINE, _COARSE = (1.0, -2.0, 1.0), (1.0, 1.0, -2.0, -2.0, 1.0, 1.0)
_CLIPPED = 0.05  # a block with a larger share of pixels at a limit is left out at first
_CLEAR = 2.0  # standard deviations that a block's mean stays clear of the limits
_SMOOTH = 0.9  # share of the blocks without texture that pass for such
_OUTLIER = 2.0  # standard errors beyond which a group pulls no harder
_REFITS, _REWEIGHTINGS = 6, 15


def measure_signal_noise(y: Float[Tensor, "c h w"]) -> SignalNoise:
    """The noise of a picture as Var[y | x] = gain x + read^2; all channels share one law.

    Accuracy on held-out pictures (gain .0025 to .01 and read noise .01 to .03, clipped and stored
    in 8 bits; 40 of fluorescence, 24 photographs): the deviation found for bright areas is within
    2 % of the truth in half of them, within 5 % in four fifths. In dark fields that are clipped it
    is 20 % too small to 15 % too large, and up to 15 % of such pictures are refused. How the noise
    is divided between the two is less certain than what they add up to where there is a signal.

    The darkest signals, within two standard deviations of 0, are not looked at where the picture
    has no values below 0, since what was clipped there cannot be told from what never was. Where
    pixels count photons, the gain is known: one photon, in image units, and read is 0.

    Args:
        y: one picture. Without values below 0 (above 1) it is taken as clipped there.

    Raises:
        InputError: a picture that is not finite, or that has too little clear of 0 and 1.
    """
    if y.ndim != 3 or not y.is_floating_point() or not bool(y.isfinite().all()):
        raise InputError(
            f"y is {y.dtype} of shape {tuple(y.shape)}; wanted finite floating values (C, H, W)"
        )
    blocks = _Blocks.of(y.double())
    kept = blocks.clipped <= _CLIPPED
    gain, variance = 0.0, 0.0
    for _ in range(_REFITS):
        if int(kept.sum()) < _FEWEST:
            raise InputError(
                f"y has {int(kept.sum())} blocks of {_BLOCK} x {_BLOCK} pixels clear of 0 and 1, "
                f"too few to tell how its noise grows; give the gain and the read noise"
            )
        gain, variance = _line(*_groups(blocks.mean[kept], blocks.variance[kept]))
        kept = blocks.fitting(gain, variance)
    read = variance**0.5
    return SignalNoise(gain, read if gain else max(read, QUANTISATION))


@dataclass(frozen=True)
class _Blocks:
    """What is known of each block.

    Args:
        mean: its signal.
        variance: of its noise, from fine differences; texture adds to it.
        coarse: the same from coarse differences, to which texture adds far more.
        clipped: the share of its pixels that lie at a limit.
        limits: between which the picture was clipped.
    """

    mean: Float[Tensor, " n"]
    variance: Float[Tensor, " n"]
    coarse: Float[Tensor, " n"]
    clipped: Float[Tensor, " n"]
    limits: tuple[float, float]

    @staticmethod
    def of(y: Float[Tensor, "c h w"]) -> _Blocks:
        if min(y.shape[-2:]) < _BLOCK + len(_COARSE) - 1:
            raise InputError(
                f"y has shape {tuple(y.shape)}; wanted at least "
                f"{_BLOCK + len(_COARSE) - 1} pixels a side"
            )
        low = 0.0 if bool(y.min() >= 0) else -torch.inf
        high = 1.0 if bool(y.max() <= 1) else torch.inf
        centre = y[:, 2:-3, 2:-3]
        return _Blocks(
            mean=_block_means(centre),
            variance=_block_means(differences(y, _FINE)[:, 1:-2, 1:-2].square()),
            coarse=_block_means(differences(y, _COARSE).square()),
            clipped=_block_means(((centre <= low) | (centre >= high)).to(y.dtype)),
            limits=(low, high),
        )

    def fitting(self, gain: float, variance: float) -> Bool[Tensor, " n"]:
        """Which blocks are clear of the limits and smooth, if this is the law of the noise; the
        smoothest in any case."""
        expected = (gain * self.mean.clamp(min=0) + variance).clamp(min=1e-12)
        room = _CLEAR * expected.sqrt()
        low, high = self.limits
        clear = (self.mean - room > low) & (self.mean + room < high)
        freedom = _BLOCK**2 / correlation(_COARSE)
        usual = 2 * float(_special.gammaincinv(freedom / 2, _SMOOTH)) / freedom
        texture = torch.where(clear, self.coarse / expected, torch.inf)
        enough = texture.kthvalue(min(_FEWEST, len(texture))).values
        return clear & (texture <= enough.clamp(min=usual))


def _block_means(y: Float[Tensor, "c h w"]) -> Float[Tensor, " n"]:
    return avg_pool2d(y[None], _BLOCK).flatten()


def _groups(
    mean: Float[Tensor, " n"], variance: Float[Tensor, " n"]
) -> tuple[Float[Tensor, " g"], Float[Tensor, " g"], float]:
    """Means over groups of like signal, and how many blocks are in each."""
    order = mean.argsort()
    count = max(2, min(_GROUPS, len(order) // _GROUP))
    parts = order.tensor_split(count)
    groups = [torch.stack([values[part].mean() for part in parts]) for values in (mean, variance)]
    return groups[0].clamp(min=0), groups[1], len(order) / count


def _line(
    mean: Float[Tensor, " g"], variance: Float[Tensor, " g"], blocks: float
) -> tuple[float, float]:
    """Slope and intercept, neither negative, of a line through the groups.

    Weighted by what each variance is worth, which grows with the variance that the line has there;
    outliers by their distance only (Huber, "Robust estimation of a location parameter", Annals of
    Mathematical Statistics 35, 1964).
    """
    error = (2 * correlation(_FINE) / _BLOCK**2 / blocks) ** 0.5
    fitted = variance.median().expand(len(mean)).clamp(min=1e-12)
    slope, intercept = 0.0, 0.0
    for _ in range(_REWEIGHTINGS):
        distance = (variance / fitted - 1).abs() / (_OUTLIER * error)
        slope, intercept = _nonnegative_line(mean, variance, 1 / fitted**2 / distance.clamp(min=1))
        fitted = (slope * mean + intercept).clamp(min=1e-12)
    return slope, intercept


def _nonnegative_line(
    x: Float[Tensor, " g"], y: Float[Tensor, " g"], weight: Float[Tensor, " g"]
) -> tuple[float, float]:
    """Least squares: the line itself, or the better of those without slope or intercept."""
    w = weight / weight.sum()
    centre, level = float((w * x).sum()), float((w * y).sum())
    spread, moment = float((w * (x - centre) ** 2).sum()), float((w * x**2).sum())
    slope = float((w * (x - centre) * (y - level)).sum()) / spread if spread > 0 else 0.0
    if slope <= 0:
        return 0.0, level
    if level >= slope * centre:
        return slope, level - slope * centre
    return float((w * x * y).sum()) / moment, 0.0
