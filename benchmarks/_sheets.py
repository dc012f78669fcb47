"""Pictures that come as lossless sheets: rows and columns of small pictures in one file.

The training sets of the benchmarks lie in ``../shared/data`` (CIFAR-10, Fashion-MNIST), which is no
part of this repository; any folder of such sheets will do.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

SHARED = Path(__file__).parents[2] / "shared" / "data"
SIDES = {"cifar10": 32, "fashion_mnist": 28}


def read_sheet(path: Path, side: int) -> list[UInt8[Tensor, "c s s"]]:
    """The pictures of a sheet, row by row; grey ones have one channel."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L" if _is_grey(image) else "RGB"))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    height, width, channels = pixels.shape
    tiles = pixels.reshape(height // side, side, width // side, side, channels).swapaxes(1, 2)
    pictures = tiles.reshape(-1, side, side, channels).transpose(0, 3, 1, 2)
    return list(torch.from_numpy(np.ascontiguousarray(pictures)))


def _is_grey(image: Image.Image) -> bool:
    """WebP knows no grey pictures: theirs have three equal channels."""
    if image.mode == "L":
        return True
    red, green, blue = image.convert("RGB").split()
    return red.tobytes() == green.tobytes() == blue.tobytes()


def read_sheets(folder: Path, pattern: str, side: int) -> list[UInt8[Tensor, "c s s"]]:
    """The pictures of all sheets of a folder whose names match, in the order of the names."""
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise SystemExit(f"no sheets {pattern} in {folder}")
    return [picture for path in paths for picture in read_sheet(path, side)]


def shared(name: str, part: str, sheets: int | None = None) -> list[UInt8[Tensor, "c s s"]]:
    """Pictures of ``cifar10`` or ``fashion_mnist``: the first ``sheets`` of ``train`` or ``test``.

    Raises: SystemExit that says where they are looked for.
    """
    folder = SHARED / name
    paths = sorted(folder.glob(f"{part}-*.webp"))[:sheets]
    if not paths:
        raise SystemExit(f"no sheets {part}-*.webp in {folder}; put the data there to run this")
    return [picture for path in paths for picture in read_sheet(path, SIDES[name])]
