"""What a JPEG file says of how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from PIL import JpegImagePlugin

from certes.data.stills import opened
from certes.errors import InputError

_SAMPLINGS = {0: "4:4:4", 2: "4:2:0"}


@dataclass(frozen=True)
class JpegHeader:
    """Tables of a file.

    Args:
        luma: the 64 steps of the luminance table, row by row.
        subsampling: of the chroma; grey files have none, which is ``4:4:4``.
    """

    luma: tuple[int, ...]
    subsampling: str


def read_jpeg_header(path: Path) -> JpegHeader:
    """Read it, without decoding the picture.

    Raises:
        InputError: for another kind of file, or chroma subsampled in another way.
    """
    with opened(path, formats=None) as image:
        if image.format not in ("JPEG", "MPO"):
            raise InputError(
                f"{path}: {image.format}, which does not say how it was compressed before; "
                "give --quality"
            )
        jpeg = cast(Any, image)
        way = 0 if image.mode == "L" else JpegImagePlugin.get_sampling(jpeg)
        luma = tuple(int(step) for step in jpeg.quantization[0])
    if way not in _SAMPLINGS:
        raise InputError(
            f"{path}: chroma is sampled neither 4:4:4 nor 4:2:0; save it as one of them"
        )
    return JpegHeader(luma, _SAMPLINGS[way])
