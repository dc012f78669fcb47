"""Computed tomography: a picture was measured by its shadows, one for every angle."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from certes.errors import InputError
from certes.restoration.operators.base import LinearOperator, checked_shape


class Tomography(LinearOperator):
    r"""The Radon transform of every channel, parallel beams: integrals along straight lines.

    A measurement is (C, angles, detectors). The ray of angle :math:`\theta` at the detector
    position t, both from the middle of the picture, in pixels, goes through the points (row i,
    column j) with :math:`j \cos\theta - i \sin\theta = t`, as :func:`skimage.transform.radon` has
    it (whose middle, though, is pixel n // 2). Detectors are one pixel apart. Along a ray the
    picture is interpolated linearly on those rows, or columns, that cross it most steeply (Joseph,
    "An improved algorithm for reprojecting rays through pixel images", IEEE Trans. Med. Imaging 1,
    1982), which gives the pixel at distance d from it the weight

    .. math:: \frac{1}{L} \frac{1}{m} \max\left(0, 1 - \frac{|d|}{m}\right), \qquad
        m = \max(|\cos\theta|, |\sin\theta|).

    **Unit**: L is the longer side of the picture. So a value is the mean brightness along L pixels
    of a ray, about 1 for a white picture, and ``noise`` is in the same unit; line integrals in
    pixels are to be divided by L.

    It holds some four numbers for every pixel and angle: 0.4 GB at 256 x 256 and 180 angles.

    Args:
        shape: (C, H, W) of a picture.
        angles: :math:`\theta`, in degrees.
        detectors: how many, centred; by default as many as see all of the picture.

    Raises:
        InputError: no angles, angles that are not finite, or no detector.
    """

    name = "tomography"

    def __init__(
        self,
        shape: tuple[int, int, int],
        angles: Sequence[float] | Float[Tensor, " angles"],
        detectors: int | None = None,
    ) -> None:
        channels, height, width = shape = checked_shape(shape)
        self.angles = _checked_angles(angles)
        count = math.ceil(math.hypot(height, width)) if detectors is None else detectors
        if count < 1 or count != int(count):
            raise InputError(f"detectors is {detectors}; wanted a positive integer")
        self._geometry = _Geometry(height, width, self.angles, int(count))
        self._forward = _Table(self._geometry.rays)
        self._backward = _Table(self._geometry.pixels)
        super().__init__(shape, (channels, len(self.angles), int(count)))

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c angles detectors"]:
        return self._forward(x.flatten(2)).reshape(-1, *self.out_shape)

    def _adjoint(self, y: Float[Tensor, "b c angles detectors"]) -> Float[Tensor, "b c h w"]:
        return self._backward(y.flatten(2)).reshape(-1, *self.in_shape)

    def _parameters(self) -> dict[str, Any]:
        return {"angles": cast(Any, self.angles).tolist(), "detectors": self.out_shape[2]}


@dataclass(frozen=True)
class Rows:
    """The rows of a sparse matrix, one after another.

    Args:
        sources: column of each entry.
        weights: its value.
        starts: the first entry of each row.
    """

    sources: Int[Tensor, " entries"]
    weights: Float[Tensor, " entries"]
    starts: Int[Tensor, " rows"]


class _Table:
    """A sparse matrix as a table of rows, made when it is first needed in a precision.

    Args:
        make: the rows, with weights in this precision, on the CPU.
    """

    def __init__(self, make: Callable[[torch.dtype], Rows]) -> None:
        self._make = make
        self._copies: dict[tuple[torch.dtype, torch.device], Rows] = {}

    def __call__(self, x: Float[Tensor, "b c n"]) -> Float[Tensor, "b c m"]:
        """The product with every channel of every picture."""
        rows = self._like(x)
        # Bags of rows of a table, that is sums of chosen rows of a matrix with weights, are what
        # every device gathers fast; sparse matrices are not known on all of them.
        bags = embedding_bag(
            rows.sources,
            # A copy in any case: strides of a column taken as it is would miss the fast kernels.
            x.flatten(0, 1).T.clone(memory_format=torch.contiguous_format),
            rows.starts,
            mode="sum",
            per_sample_weights=rows.weights,
        )
        return bags.T.reshape(*x.shape[:2], -1)

    def _like(self, x: Tensor) -> Rows:
        key = (x.dtype, x.device)
        if key not in self._copies:
            # A table made under inference_mode could not take part in a later backward pass.
            with torch.inference_mode(False):
                rows = self._make(x.dtype)
                parts = (rows.sources, rows.weights, rows.starts)
                self._copies[key] = Rows(*(part.to(x.device) for part in parts))
        return self._copies[key]


@dataclass(frozen=True)
class _Geometry:
    """Which pixels a ray sees, and which rays see a pixel.

    Args:
        height, width: of the picture.
        angles: degrees.
        detectors: how many.
    """

    height: int
    width: int
    angles: Float[Tensor, " angles"]
    detectors: int

    def rays(self, dtype: torch.dtype) -> Rows:
        """A row for each angle and detector, its pixels in order."""
        sources: list[Tensor] = []
        weights: list[Tensor] = []
        counts: list[Tensor] = []
        for angle in self._degrees():
            detector, weight = self._shadows(angle)
            seen = (weight > 0).flatten().nonzero()[:, 0]
            detector = detector.flatten()[seen]
            order = detector.argsort(stable=True)
            sources.append((seen[order] // 2).int())
            weights.append(weight.flatten()[seen[order]].to(dtype))
            counts.append(detector.bincount(minlength=self.detectors))
        return Rows(torch.cat(sources), torch.cat(weights), _starts(torch.cat(counts)))

    def pixels(self, dtype: torch.dtype) -> Rows:
        """A row for each pixel, its rays in order, some of them with weight zero."""
        size = (self.height * self.width, len(self.angles), 2)
        sources, weights = torch.empty(size, dtype=torch.int32), torch.empty(size, dtype=dtype)
        for i, angle in enumerate(self._degrees()):
            detector, weight = self._shadows(angle)
            sources[:, i], weights[:, i] = detector + i * self.detectors, weight
        counts = torch.full((size[0],), 2 * len(self.angles))
        return Rows(sources.flatten(), weights.flatten(), _starts(counts))

    def _degrees(self) -> list[float]:
        return cast(Any, self.angles).tolist()

    def _shadows(self, angle: float) -> tuple[Int[Tensor, "pixels 2"], Float[Tensor, "pixels 2"]]:
        """The two detectors that a pixel's shadow falls on, and with what weight."""
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        steepest = max(abs(cosine), abs(sine))
        i, j = (torch.arange(n).double() - (n - 1) / 2 for n in (self.height, self.width))
        place = (j * cosine - i[:, None] * sine).flatten() + (self.detectors - 1) / 2
        detector = place.floor()[:, None] + torch.arange(2)
        weight = (1 - (place[:, None] - detector).abs() / steepest).clamp(min=0)
        on = (detector >= 0) & (detector < self.detectors)
        weight = torch.where(on, weight / (steepest * max(self.height, self.width)), 0.0)
        return torch.where(on, detector, 0.0).int(), weight


def _starts(counts: Int[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    return (counts.cumsum(0) - counts).int()


def _checked_angles(angles: Sequence[float] | Tensor) -> Float[Tensor, " angles"]:
    values = torch.as_tensor(angles, dtype=torch.float64, device="cpu")
    if values.ndim != 1 or len(values) == 0 or not bool(values.isfinite().all()):
        raise InputError(
            f"angles have shape {tuple(values.shape)} or are not finite; wanted one row of "
            f"numbers, degrees"
        )
    return values
