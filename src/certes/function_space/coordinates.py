r"""Where functions are known: lattices of pixels, subsets of them, positions anywhere.

A position is (row, column) in physical units (a training pixel is 1) from the corner of the domain.
Pixel :math:`i` of pitch :math:`p` has its centre at :math:`(i + 1/2)\, p`: so do the samples of the
cosine basis, and so do pictures of other resolutions. (The original puts the first and last pixel
on the domain's border, which moves a picture by up to half a pixel with its resolution.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from certes.errors import InputError

Sequences = Literal["uniform", "low-discrepancy"]


@dataclass(frozen=True)
class Lattice:
    """Pixels of a picture.

    Args:
        height, width: how many.
        pitch: length of one, physical units.
    """

    height: int
    width: int
    pitch: float = 1.0

    def __len__(self) -> int:
        return self.height * self.width

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def extent(self) -> tuple[float, float]:
        """Sides of the domain, physical units."""
        return self.height * self.pitch, self.width * self.pitch

    def centres(self, cells: Int64[Tensor, "*n"]) -> Float[Tensor, "*n 2"]:
        """Positions of pixels that are numbered row by row, float32."""
        rows, columns = cells // self.width, cells % self.width
        return (torch.stack([rows, columns], dim=-1).float() + 0.5) * self.pitch

    def cells(self, positions: Float[Tensor, "*n 2"]) -> Int64[Tensor, "*n"]:
        """The pixels in which positions lie."""
        index = (positions / self.pitch).floor().long()
        rows = index[..., 0].clamp(0, self.height - 1)
        return rows * self.width + index[..., 1].clamp(0, self.width - 1)


@dataclass(frozen=True, eq=False)
class Points:
    """The coordinates at which a batch of functions is known.

    Args:
        lattice: the domain; for pixels, also which ones they are pixels of.
        positions: physical units.
        cells: numbers of the pixels; ``None`` for positions that are no pixel centres.
        whole: whether they are all pixels of the lattice in their order.
    """

    lattice: Lattice
    positions: Float[Tensor, "b l 2"]
    cells: Int64[Tensor, "b l"] | None
    whole: bool = False

    @property
    def density(self) -> float:
        """Points for each pixel of the lattice."""
        return self.positions.shape[1] / len(self.lattice)

    def values(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b l c"]:
        """What pictures on the lattice are at these pixels.

        Raises:
            InputError: for positions that are no pixel centres.
        """
        tokens = x.flatten(2).transpose(1, 2)
        if self.whole:
            return tokens
        if self.cells is None:
            raise InputError("points: positions between pixels; a picture says nothing of them")
        return tokens.gather(1, self.cells[..., None].expand(-1, -1, tokens.shape[2]))

    def picture(self, values: Float[Tensor, "b l c"]) -> Float[Tensor, "b c h w"]:
        """Values of all pixels as a picture.

        Raises:
            InputError: if some pixels are missing.
        """
        if not self.whole:
            raise InputError("points: not all pixels of the lattice; there is no whole picture")
        b, _, c = values.shape
        return values.transpose(1, 2).reshape(b, c, *self.lattice.shape)


def all_points(lattice: Lattice, count: int, device: torch.device | str = "cpu") -> Points:
    """Every pixel, of ``count`` pictures."""
    cells = torch.arange(len(lattice), device=device).expand(count, -1)
    return Points(lattice, lattice.centres(cells), cells, whole=True)


def points_at(lattice: Lattice, cells: Int64[Tensor, "b l"]) -> Points:
    """Some pixels, other ones in each picture."""
    return Points(lattice, lattice.centres(cells), cells)


def scattered_points(lattice: Lattice, positions: Float[Tensor, "b l 2"]) -> Points:
    """Positions anywhere in the lattice's domain.

    Raises:
        InputError: for positions outside.
    """
    limits = torch.tensor(lattice.extent, device=positions.device)
    if bool(((positions < 0) | (positions > limits)).any()):
        raise InputError(
            f"positions: some lie outside of the domain, {lattice.extent[0]:g} by "
            f"{lattice.extent[1]:g}; give rows and columns from its corner, physical units"
        )
    return Points(lattice, positions, None)


def subset(
    lattice: Lattice,
    count: int,
    share: float,
    generator: torch.Generator,
    sequence: Sequences = "uniform",
) -> Points:
    """A share of the pixels, drawn anew for each picture, without repetition.

    Args:
        lattice: the pixels.
        count: pictures.
        share: of the pixels, in (0, 1].
        generator: of the choice, on the device of the points.
        sequence: ``uniform``, or ``low-discrepancy``: a randomly shifted R2 sequence (Roberts
            2018), whose points keep their distance, so that averages over them vary less.

    Raises:
        InputError: for another share or sequence.
    """
    if not 0 < share <= 1:
        raise InputError(f"share: {share}; give a share of the pixels, in (0, 1]")
    if sequence not in get_args(Sequences):
        raise InputError(f"sequence: {sequence!r}; give one of {', '.join(get_args(Sequences))}")
    kept = max(1, round(share * len(lattice)))
    if kept == len(lattice):
        return all_points(lattice, count, generator.device)
    rank = _uniform_rank if sequence == "uniform" else _low_discrepancy_rank
    order = rank(lattice, count, generator).argsort(dim=1)
    return points_at(lattice, order[:, :kept].sort(dim=1).values)


def _uniform_rank(lattice: Lattice, count: int, generator: torch.Generator) -> Float[Tensor, "b n"]:
    return torch.rand(count, len(lattice), generator=generator, device=generator.device)


# The plastic number's powers: the additive recurrence that fills the square most evenly.
_PLASTIC = 1.32471795724474602596


def _low_discrepancy_rank(
    lattice: Lattice, count: int, generator: torch.Generator
) -> Float[Tensor, "b n"]:
    """When the sequence first falls into each pixel; never: late, at random.

    Four points a pixel leave few pixels without one, and these come last anyway.
    """
    device, points = generator.device, 4 * len(lattice)
    n = torch.arange(1, points + 1, dtype=torch.float64, device=device)
    steps = torch.tensor([1 / _PLASTIC, 1 / _PLASTIC**2], dtype=torch.float64, device=device)
    shift = torch.rand(count, 1, 2, generator=generator, dtype=torch.float64, device=device)
    unit = (n[:, None] * steps + shift) % 1
    scale = torch.tensor(lattice.shape, device=device)
    index = (unit * scale).long()
    cells = index[..., 0] * lattice.width + index[..., 1]
    late = points * (1 + _uniform_rank(lattice, count, generator))
    when = n.float().expand(count, -1)
    return late.scatter_reduce(1, cells, when, reduce="amin")
