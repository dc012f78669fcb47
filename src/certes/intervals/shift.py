r"""Do new pictures look like those of the calibration? A check that warns, and promises nothing.

A guarantee speaks of pictures like those that it was calibrated on. What a picture looks like is
told by a handful of numbers from its raw bounds (`features`), which a card keeps of every
calibration picture. Two tests share a false-alarm rate of 1 % a call:

* of every new picture by itself: its robust distance from the calibration pictures, ranked among
  theirs (a conformal p-value: Vovk, Gammerman, Shafer 2005). Centre and scatter are those of the
  calibration pictures *and* the new one, so that on exchangeable pictures the rank is uniform
  whatever their distribution. With n pictures the smallest such value is 1 / (n + 1); beyond the
  farthest calibration picture it falls on as the fourth power of the distance, a heavier tail than
  that of any normal distribution;
* of two or more together: the mean ranks of every feature, and of the distance, against those of
  the calibration pictures (Puri and Sen 1966), with a permutation p-value, hence at its level for
  any number of pictures.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray
from torch import Tensor

from certes.errors import CertesWarning
from certes.intervals.bounds import Bounds

FALSE_ALARMS = 0.01
"""How often a call warns although nothing has changed."""

_SMALLEST = 8  # pixels a side: smaller pictures look like nothing
_FEWEST = 20  # calibration pictures: of fewer, scatter in five features is anybody's guess
_SEEN = 2**12  # pixels of a picture that its quantiles are taken of
_FLOOR = 1e-4  # below what an 8-bit picture can show, image units
_TAIL = 4
_CLIP = 3.0  # robust standard deviations
_NORMAL = 1.4826  # of a normal distribution, standard over median absolute deviation
_PERMUTATIONS = 999
_NAMED = 5

Table = Float64[ndarray, "n f"]


def features(bounds: Bounds) -> Float64[ndarray, "b f"]:
    """What the raw bounds of each picture look like, whatever its size.

    Args:
        bounds: raw bounds (B, C, H, W).

    Returns: (B, 5): mean of the estimate; logarithms of its standard deviation, of the mean width
        and of the root mean square of its finest details (image units, at least 1e-4); and how
        much farther from the median the widest tenth of the pixels is than the narrowest, -1 to 1.
    """
    estimate, width = bounds.estimate.cpu().float(), bounds.width.cpu().float()
    flat = width.flatten(1)
    step = flat.shape[1] // _SEEN | 1  # odd, so that it visits all columns of pictures of any size
    low, middle, high = np.quantile(flat[:, ::step].numpy(), (0.1, 0.5, 0.9), axis=1)
    skew = (high + low - 2 * middle) / (high - low + _FLOOR)
    mean = estimate.mean(dim=(1, 2, 3), keepdim=True)
    columns = [
        mean.flatten().numpy(),
        # quicker than Tensor.std
        _log((estimate - mean).square().mean(dim=(1, 2, 3)).sqrt()),
        _log(flat.mean(dim=1)),
        _log(_details(estimate)),
        skew,
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def check_shift(card_features: Sequence[Sequence[float]], bounds: Bounds) -> None:
    """Warn if raw bounds do not look like those of the calibration.

    On exchangeable pictures about 1 call in 100 warns, however many pictures it is given. Pictures
    of less than 8 pixels a side, and cards of less than 20 pictures, are not looked at.

    Args:
        card_features: `features` of the raw bounds of the calibration pictures.
        bounds: raw bounds of new pictures.
    """
    if len(card_features) < _FEWEST or min(bounds.estimate.shape[-2:]) < _SMALLEST:
        return
    known, new = np.array(card_features, np.float64), features(bounds)
    count = len(new)
    level = FALSE_ALARMS if count == 1 else FALSE_ALARMS / 2
    strange = np.flatnonzero(strangeness(known, new) <= level / count).tolist()
    if strange:
        _warn(f"{_pictures(strange, count)} not look like those")
    elif count > 1 and difference(known, new) <= level:
        _warn(f"taken together, these {count} pictures do not look like those")


def strangeness(known: Table, new: Table) -> Float64[ndarray, " m"]:
    """A p-value for every new picture: small if it is unlike the known ones."""
    joined = np.concatenate(
        [np.broadcast_to(known, (len(new), *known.shape)), new[:, None]], axis=1
    )
    distance = _distances(joined)
    mine, theirs = distance[:, -1:], distance[:, :-1]
    rank = (1 + (theirs >= mine).sum(axis=1)) / (1 + len(known))
    beyond = theirs.max(axis=1) / np.maximum(mine[:, 0], np.finfo(float).tiny)
    return rank * np.minimum(beyond, 1) ** _TAIL


def difference(known: Table, new: Table) -> float:
    """A p-value for new pictures together: small if they are unlike the known ones."""
    joined = np.concatenate([known, new])
    numbers = np.column_stack([joined, _distances(joined[None])[0]])
    ranks = numbers.argsort(axis=0, kind="stable").argsort(axis=0) / len(joined) - 0.5
    scatter: Table = np.cov(ranks.T)
    whitened = ranks @ np.linalg.inv(np.linalg.cholesky(_shrunk(scatter, len(ranks)))).T
    rng = np.random.default_rng(0)
    chosen = np.stack([np.arange(len(joined)) >= len(known)] * (1 + _PERMUTATIONS)).astype(float)
    chosen[1:] = rng.permuted(chosen[1:], axis=1)
    statistic = np.square(chosen @ whitened).sum(axis=1)
    # Itself and, of the others, those that are as extreme but for rounding.
    return np.count_nonzero(statistic >= statistic[0] * (1 - 1e-9)) / len(statistic)


def _distances(pictures: Float64[ndarray, "m n f"]) -> Float64[ndarray, "m n"]:
    """Mahalanobis distances of n pictures from their own middle, m times, made robust.

    Medians and median absolute deviations stand for means and deviations, and correlations are
    those of values cut off at 3 deviations, so that a few strange pictures cannot hide themselves.
    """
    centred = pictures - np.median(pictures, axis=1, keepdims=True)
    scale = _NORMAL * np.median(np.abs(centred), axis=1, keepdims=True)
    z = centred / (scale + _FLOOR)
    cut = z.clip(-_CLIP, _CLIP)
    scatter = _shrunk(cut.swapaxes(1, 2) @ cut / z.shape[1], z.shape[1])
    return np.sqrt(np.einsum("mnf,mfg,mng->mn", z, np.linalg.inv(scatter), z))


def _shrunk(scatter: Float64[ndarray, "*m f f"], count: int) -> Float64[ndarray, "*m f f"]:
    """A scatter matrix that can be inverted also where pictures are few, or a feature constant."""
    size = scatter.shape[-1]
    share = size / (size + count)
    mean = np.trace(scatter, axis1=-2, axis2=-1)[..., None, None] / size
    return (1 - share) * scatter + (share * mean + _FLOOR) * np.eye(size)


def _details(estimate: Tensor) -> Tensor:
    """Root mean square of what differs between each pixel and the middle of its neighbours."""
    squares = [
        torch.sub(middle, before + after, alpha=0.5).square().mean(dim=(1, 2, 3))
        for before, middle, after in (
            (estimate[..., :-2, :], estimate[..., 1:-1, :], estimate[..., 2:, :]),
            (estimate[..., :-2], estimate[..., 1:-1], estimate[..., 2:]),
        )
        if middle.numel()
    ]
    if not squares:
        return estimate.new_zeros(len(estimate))
    return torch.stack(squares).mean(dim=0).sqrt()


def _log(values: Tensor) -> Float64[ndarray, " b"]:
    return values.clamp(min=_FLOOR).log().numpy()


def _pictures(strange: Sequence[int], count: int) -> str:
    if count == 1:
        return "this picture does"
    numbers = ", ".join(str(i + 1) for i in strange[:_NAMED])
    more = f" and {len(strange) - _NAMED} more" if len(strange) > _NAMED else ""
    verb = "picture" if len(strange) == 1 else "pictures"
    return f"{verb} {numbers}{more} of {count} {'does' if len(strange) == 1 else 'do'}"


def _warn(what: str) -> None:
    warnings.warn(
        f"{what} that the card was calibrated on: its guarantee may not hold for them; calibrate "
        "with pictures like these",
        CertesWarning,
        stacklevel=4,
    )
