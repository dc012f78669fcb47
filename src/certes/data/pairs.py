"""Pairs of aligned pictures: what a conditional model restores (x) and what it is given (y).

A pair is one stack of channels, x first, so that both halves are cropped and turned alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from PIL import Image
from torch import Tensor

from certes.data.patches import PatchDataset
from certes.data.pictures import find_pictures, read_picture
from certes.data.raster import FULL_SCALE
from certes.errors import InputError

CELEBA_CROP = 140
"""Side of the middle of a CelebA picture (178 x 218 pixels) that models are trained on."""

Stack = UInt8[Tensor, "c h w"]
Advance = Callable[[float], None]
Item = TypeVar("Item")


def _unheard(pictures: float) -> None:
    """Take no notice of progress."""


class PairDataset(PatchDataset):
    """Square patches of pairs: the same crop and the same symmetry for both halves.

    `batch(step, batch_size, seed)` is (B, cx + cy, S, S) in [0, 1] with the `x_channels` channels
    of x first, a pure function of (seed, step).

    Args:
        pairs: stacks (cx + cy, h, w), x first, each at least `size` pixels a side.
        x_channels: how many channels of a stack are x; the others are y.
        size: side of the patches, pixels.
        busy: share of the patches that is chosen for its variance, as by `PatchDataset`.
        symmetries: `none`, `flips` or `square`, as by `PatchDataset`.

    Raises: InputError as `PatchDataset` does, and for stacks in which nothing is left for y.
    """

    def __init__(
        self,
        pairs: Sequence[Stack],
        x_channels: int,
        size: int,
        busy: float = 0.0,
        symmetries: str = "flips",
    ) -> None:
        super().__init__(pairs, size, busy=busy, symmetries=symmetries)
        if not 0 < x_channels < self.channels:
            raise InputError(
                f"x_channels: {x_channels} of stacks of {self.channels} channels; wanted at least "
                "one for x and one for y"
            )
        self.x_channels = x_channels
        self.y_channels = self.channels - x_channels

    def pictures(self) -> Iterator[Stack]:
        """The pictures that a model learns to restore: x, whole."""
        return (stack[: self.x_channels] for stack in super().pictures())


def load_pairs(
    x_folder: str | Path,
    y_folder: str | Path,
    labels: bool = False,
    advance: Advance = _unheard,
) -> list[Stack]:
    """Stacks of the pictures of two folders that have the same names, suffixes aside.

    With `labels`, pictures in `y_folder` number the instances (0 is background), and y is their
    `label_channels`. `advance` is told of every pair read.

    Raises: InputError for a picture without partner, a pair of different sizes, labels that are not
    grey, and as `certes.data.patches.load_folder`.
    """
    xs, ys = _by_stem(x_folder), _by_stem(y_folder)
    lonely = sorted(xs.keys() ^ ys.keys())
    if lonely:
        found, wanted = (x_folder, y_folder) if lonely[0] in xs else (y_folder, x_folder)
        raise InputError(
            f"{wanted}: no partner for {lonely[0]} of {found} ({len(lonely)} pictures have none): "
            "give both pictures of a pair the same name"
        )
    read = partial(_read_pair, labels=labels)
    return _all(read, [(path, ys[stem]) for stem, path in xs.items()], advance)


def load_side_by_side(
    folder: str | Path, side: int | None = None, advance: Advance = _unheard
) -> list[Stack]:
    """Stacks of pictures whose right half is x and whose left half is y.

    So are the files of pix2pix (Isola et al. 2017), with edges on the left and shoes on the right.
    With `side`, each half is brought to that size (`resized`).

    Raises: InputError for an odd width, halves that are not square where `side` is given, and as
    `certes.data.patches.load_folder`.
    """
    return _all(partial(_read_halves, side=side), find_pictures([folder]), advance)


def load_celeba(
    folder: str | Path, side: int, crop: int | None = None, advance: Advance = _unheard
) -> list[UInt8[Tensor, "3 s s"]]:
    """RGB pictures of a folder of faces, `side` pixels a side.

    CelebA-HQ is square already; of CelebA the middle `CELEBA_CROP` pixels are taken as `crop`.

    Raises: InputError for a picture smaller than `crop` or, without, one that is not square, and as
    `certes.data.patches.load_folder`.
    """
    return _all(partial(_read_face, side=side, crop=crop), find_pictures([folder]), advance)


def read_labels(path: str | Path) -> Integer[Tensor, "h w"]:
    """The numbers in a grey picture of 8 or 16 bit, such as those of instances.

    Raises: InputError for a picture of colours or floats, and as `read_picture`.
    """
    picture = read_picture(path)
    if len(picture.pixels) != 1 or picture.dtype == "float32":
        raise InputError(f"{path}: labels are whole numbers in a grey picture of 8 or 16 bit")
    return (picture.pixels[0] * FULL_SCALE[picture.dtype]).round().int()


def label_channels(labels: Integer[Tensor, "h w"]) -> UInt8[Tensor, "2 h w"]:
    """What a drawing of numbered instances shows: where they are, and where each ends.

    The first channel is 255 inside any instance (labels other than 0), the second where a pixel of
    an instance has a neighbour above, below, left or right of another label, be it background: a
    line inside each outline, which keeps touching instances apart. Elsewhere both are 0.
    """
    inside = labels != 0
    ends = torch.zeros_like(inside)
    for one, other in (
        (labels[1:], labels[:-1]),
        (labels[:, 1:], labels[:, :-1]),
    ):
        rows, columns = one.shape
        differ = one != other
        ends[-rows:, -columns:] |= differ
        ends[:rows, :columns] |= differ
    return torch.stack([inside, ends & inside]).to(torch.uint8) * 255


def resized(picture: Stack, side: int) -> UInt8[Tensor, "c s s"]:
    """A square picture at another size: Pillow's bicubic filter, which antialiases, at 8 bit."""
    planes = [
        np.asarray(Image.fromarray(plane.numpy()).resize((side, side), Image.Resampling.BICUBIC))
        for plane in picture
    ]
    return torch.as_tensor(np.stack(planes))


def _all(read: Callable[[Item], Stack], items: Sequence[Item], advance: Advance) -> list[Stack]:
    # Decoding releases the interpreter's lock.
    with ThreadPoolExecutor() as pool:
        stacks: list[Stack] = []
        for stack in pool.map(read, items):
            stacks.append(stack)
            advance(1)
    return stacks


def _by_stem(folder: str | Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in find_pictures([folder]):
        if path.stem in found:
            raise InputError(
                f"{folder}: {found[path.stem].name} and {path.name} have one name: which of them "
                "is half of the pair cannot be told; leave one out"
            )
        found[path.stem] = path
    return found


def _read_pair(paths: tuple[Path, Path], labels: bool) -> Stack:
    x_path, y_path = paths
    x = _read_8bit(x_path)
    y = label_channels(read_labels(y_path)) if labels else _read_8bit(y_path)
    if x.shape[1:] != y.shape[1:]:
        raise InputError(
            f"{y_path}: {y.shape[2]} x {y.shape[1]} pixels, but {x_path} has {x.shape[2]} x "
            f"{x.shape[1]}: the pictures of a pair are of one size"
        )
    return torch.cat([x, y])


def _read_halves(path: Path, side: int | None) -> Stack:
    picture = _read_8bit(path)
    width = picture.shape[2]
    if width % 2:
        raise InputError(f"{path}: {width} pixels wide, which is odd: two equal halves are wanted")
    y, x = picture.chunk(2, dim=2)
    if side is not None:
        x, y = (resized(_square(path, half), side) for half in (x, y))
    return torch.cat([x, y])


def _read_face(path: Path, side: int, crop: int | None) -> UInt8[Tensor, "3 s s"]:
    picture = _read_8bit(path).expand(3, -1, -1)
    square = _square(path, picture if crop is None else _middle(path, picture, crop))
    return resized(square, side)


def _middle(path: Path, picture: Stack, crop: int) -> Stack:
    height, width = picture.shape[1:]
    if min(height, width) < crop:
        raise InputError(f"{path}: {width} x {height} pixels have no middle of {crop} x {crop}")
    top, left = (height - crop) // 2, (width - crop) // 2
    return picture[:, top : top + crop, left : left + crop]


def _square(path: Path, picture: Stack) -> Stack:
    height, width = picture.shape[1:]
    if height != width:
        raise InputError(f"{path}: {width} x {height} pixels are not square: crop them first")
    return picture


def _read_8bit(path: Path) -> Stack:
    return (read_picture(path).pixels * 255).round().to(torch.uint8)
