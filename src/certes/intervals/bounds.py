"""Bounds: lower end, estimate and upper end of every pixel, and what made them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from certes.errors import InputError


@dataclass(frozen=True)
class Provenance:
    """What made some bounds. A guarantee holds for bounds made in the same way, and for no others.

    Args:
        model: hash of the model.
        operator: the degradation, with its parameters, in words.
        noise: noise standard deviation, image units; ``None`` when there was none to speak of.
        sampler: name of the sampler, or of the network head that said the bounds.
        steps: network calls per sample.
        samples: number of samples behind the bounds.
        alpha: nominal miss rate that the bounds aimed at.
    """

    model: str
    operator: str
    noise: float | None = None
    sampler: str | None = None
    steps: int | None = None
    samples: int | None = None
    alpha: float | None = None

    def differences(self, other: Provenance) -> list[str]:
        """One phrase ``field: mine, not theirs`` for every field that differs."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{k}: {mine[k]!r}, not {theirs[k]!r}" for k in mine if mine[k] != theirs[k]]


@dataclass(frozen=True, eq=False)
class Bounds:
    """An interval around an estimate for every pixel, in image units.

    Args:
        lower: lower ends, float32 (B, C, H, W).
        estimate: the restored pictures, same shape, nowhere outside [lower, upper].
        upper: upper ends, same shape.
        provenance: what made them, if that is to be checked when a calibration is applied.
        guarantee: the guarantee that they carry, in words; set by a calibration only.
        rungs: further intervals (rungs, 2, B, C, H, W), lower and upper ends, from the innermost to
            the outermost; each encloses the one before it, and all enclose the estimate. The family
            ``level`` needs them.

    Raises: InputError for another type or shape, values that are not finite, or ends that do not
        enclose the estimate (`Bounds.ordered` widens them where that is wanted).
    """

    lower: Float[Tensor, "b c h w"]
    estimate: Float[Tensor, "b c h w"]
    upper: Float[Tensor, "b c h w"]
    provenance: Provenance | None = None
    guarantee: str | None = None
    rungs: Float[Tensor, "r 2 b c h w"] | None = None

    def __post_init__(self) -> None:
        for name in ("lower", "estimate", "upper"):
            check_pictures(name, getattr(self, name), like=self.estimate)
        if not bool(((self.lower <= self.estimate) & (self.estimate <= self.upper)).all()):
            raise InputError(
                "bounds: lower <= estimate <= upper does not hold everywhere;"
                " Bounds.ordered(lower, estimate, upper) widens the ends to enclose the estimate"
            )
        if self.rungs is not None:
            _check_rungs(self.rungs, self.estimate)

    @classmethod
    def ordered(
        cls,
        lower: Float[Tensor, "b c h w"],
        estimate: Float[Tensor, "b c h w"],
        upper: Float[Tensor, "b c h w"],
        provenance: Provenance | None = None,
        rungs: Float[Tensor, "r 2 b c h w"] | None = None,
    ) -> Bounds:
        """Bounds whose ends (and rungs) are moved outwards where needed, to enclose the estimate.

        A quantile head may put its median outside its own quantiles, and the mean of skewed
        samples may lie outside their quantiles; the interval then grows to reach the estimate.
        """
        below, above = torch.minimum(lower, estimate), torch.maximum(upper, estimate)
        if rungs is not None:
            rungs = torch.stack(
                [rungs[:, 0].minimum(estimate), rungs[:, 1].maximum(estimate)], dim=1
            )
        return cls(below, estimate, above, provenance, rungs=rungs)

    @property
    def width(self) -> Float[Tensor, "b c h w"]:
        """``upper - lower``, image units."""
        return self.upper - self.lower

    def contains(self, truth: Float[Tensor, "b c h w"]) -> Bool[Tensor, "b c h w"]:
        """Which pixels of `truth` lie inside their interval, the ends included."""
        return (self.lower <= truth) & (truth <= self.upper)


def check_pictures(name: str, pictures: Tensor, like: Tensor) -> None:
    """Raise InputError unless `pictures` is float32 (B, C, H, W), finite, and shaped `like`."""
    if pictures.dtype != torch.float32 or pictures.ndim != 4:
        raise InputError(
            f"{name}: a float32 tensor (B, C, H, W) is wanted,"
            f" this is {pictures.dtype} {tuple(pictures.shape)}"
        )
    if pictures.shape != like.shape or pictures.device != like.device:
        raise InputError(
            f"{name}: shape {tuple(pictures.shape)} on {pictures.device} does not match the"
            f" estimate's {tuple(like.shape)} on {like.device}"
        )
    if pictures.numel() == 0 or not bool(torch.isfinite(pictures).all()):
        raise InputError(f"{name}: holds no pixels, or values that are not finite")


def _check_rungs(rungs: Tensor, estimate: Tensor) -> None:
    wanted = (2, *estimate.shape)
    if rungs.dtype != torch.float32 or tuple(rungs.shape[1:]) != wanted or not len(rungs):
        raise InputError(
            f"rungs: a float32 tensor (rungs, {', '.join(map(str, wanted))}) is wanted, this is"
            f" {rungs.dtype} {tuple(rungs.shape)}"
        )
    inner = torch.stack([estimate, estimate])
    for j, outer in enumerate(rungs):
        nested = (outer[0] <= inner[0]) & (inner[1] <= outer[1]) & torch.isfinite(outer).all(dim=0)
        if not bool(nested.all()):
            raise InputError(
                f"rungs: number {j} does not enclose {'the one before it' if j else 'the estimate'}"
                " everywhere, or is not finite; give nested intervals, the innermost first"
            )
        inner = outer


def check_counted(
    counted: Tensor | None, truth: Float[Tensor, "b c h w"]
) -> Bool[Tensor, "b c h w"]:
    """Which values count, shaped as `truth`: all of them without a mask.

    Raises: InputError unless `counted` is bool (B, C or 1, H, W) and leaves every picture a pixel.
    """
    if counted is None:
        return torch.ones_like(truth, dtype=torch.bool)
    wanted = {tuple(truth.shape), (len(truth), 1, *truth.shape[2:])}
    if counted.dtype != torch.bool or tuple(counted.shape) not in wanted:
        raise InputError(
            f"counted: bool of shape {tuple(truth.shape)}, or with one channel, is wanted; this is"
            f" {counted.dtype} {tuple(counted.shape)}"
        )
    empty = (~counted).flatten(1).all(dim=1).nonzero()
    if len(empty):
        raise InputError(
            f"counted: no pixel of picture {int(empty[0])} counts; leave such pictures out"
        )
    return counted.expand(truth.shape)


def check_truth(truth: Tensor, bounds: Bounds) -> None:
    """Raise InputError unless `truth` has the shape of `bounds` and values in [0, 1].

    The final interval is cut to [0, 1]; only a truth in that range cannot lose its cover by it.
    """
    check_pictures("truth", truth, like=bounds.estimate)
    low, high = float(truth.min()), float(truth.max())
    if low < 0 or high > 1:
        raise InputError(f"truth: values from {low:.4g} to {high:.4g}, they must lie in [0, 1]")


def check_groups(groups: Sequence[Hashable] | None, images: int) -> None:
    """Raise InputError unless there are no groups, or one label for each image."""
    if groups is not None and len(groups) != images:
        raise InputError(
            f"groups: one label per image is wanted, {len(groups)} for {images} images"
        )
