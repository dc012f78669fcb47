"""TIFF in 8 bit, 16 bit and 32-bit float, through tifffile.

Format: TIFF 6.0 (Adobe 1992). What tifffile cannot unpack by itself (LZW, JPEG) goes through Pillow
where that keeps every bit.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC

from certes.data.raster import FULL_SCALE, Raster, check_size
from certes.data.stderr import stderr_into
from certes.errors import InputError

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNPACKED = {
    COMPRESSION.NONE,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.DEFLATE,
    COMPRESSION.PACKBITS,
    COMPRESSION.LZMA,
}
_PAGE_NAME = 285
_SIZES = (
    *("imagewidth", "imagelength", "imagedepth", "samplesperpixel"),
    *("tilewidth", "tilelength", "tiledepth", "rowsperstrip"),
)
_WIDEST = 4  # bytes of a sample that can be used; wider ones are refused before they are unpacked
_here = threading.local()  # pictures are read by several threads

# How stored rows and columns turn upright, by orientation tag (TIFF 6.0, section 8).
_UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def is_tiff(path: Path) -> bool:
    """Whether the file starts as a TIFF or BigTIFF does."""
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def read(path: Path) -> Raster:
    """Read a one-page TIFF. Raises: InputError as `certes.data.pictures.read_picture` says."""
    with _open(path) as file:
        pages = len(file.pages)
        if pages > 1:
            raise InputError(f"{path}: {pages} pages: save the page you want as a file of its own")
        page: Any = file.pages[0]
        _check_sizes(path, page)
        has_alpha = _check_layout(path, page)
        samples = _samples(path, page)
        _check_samples(path, samples, has_alpha)
    return Raster(samples, has_alpha)


def write(path: Path, raster: Raster) -> None:
    """Write samples (H, W, C) as an uncompressed TIFF, alpha marked as not premultiplied."""
    extra = [EXTRASAMPLE.UNASSALPHA] if raster.has_alpha else None
    colours = raster.samples.shape[-1] - raster.has_alpha
    samples = raster.samples if raster.samples.shape[-1] > 1 else raster.samples[..., 0]
    tifffile.imwrite(path, samples, photometric=_photometric(colours), extrasamples=extra)


def write_stack(path: Path, pages: Mapping[str, NDArray[np.float32]]) -> None:
    """Write named (H, W, C) arrays as the pages of one TIFF."""
    with tifffile.TiffWriter(path) as file:
        for name, page in pages.items():
            file.write(
                page[..., 0] if page.shape[-1] == 1 else page,
                photometric=_photometric(page.shape[-1]),
                contiguous=False,
                metadata=None,
                extratags=[(_PAGE_NAME, "s", 0, name, True)],
            )


def _photometric(colours: int) -> PHOTOMETRIC:
    return PHOTOMETRIC.RGB if colours == 3 else PHOTOMETRIC.MINISBLACK


def _check_sizes(path: Path, page: Any) -> None:
    """Raises: ValueError for sizes that are lists: multiplied, a list is a longer list."""
    for name in _SIZES:
        if not isinstance(getattr(page, name), int):
            raise ValueError(f"its {name} is not one number")
    check_size(path, page.imagewidth, page.imagelength)
    check_size(path, page.tilewidth, page.tilelength)


def _check_layout(path: Path, page: Any) -> bool:
    """Whether there is alpha. Raises: InputError for anything but grey or RGB with one alpha."""
    colours = {
        PHOTOMETRIC.MINISBLACK: 1,
        PHOTOMETRIC.MINISWHITE: 1,
        PHOTOMETRIC.RGB: 3,
        PHOTOMETRIC.PALETTE: 1,
        PHOTOMETRIC.YCBCR: 3,
    }.get(page.photometric)
    if colours is None or page.imagedepth > 1:
        kind = "a volume" if page.imagedepth > 1 else f"colour mode {page.photometric.name}"
        raise InputError(f"{path}: {kind}: convert the picture to RGB or grey")
    if page.dtype is not None and page.dtype.itemsize > _WIDEST:
        raise _sample_type(path, page.dtype.name)
    extra = page.samplesperpixel - colours
    if extra == 0:
        return False
    if extra == 1 and EXTRASAMPLE.UNASSALPHA in page.extrasamples:
        return True
    if extra == 1 and EXTRASAMPLE.ASSOCALPHA in page.extrasamples:
        raise InputError(f"{path}: premultiplied alpha: save it with straight alpha, or without")
    raise InputError(
        f"{path}: {page.samplesperpixel} channels: save each channel as a grey picture of its own"
    )


def _check_samples(path: Path, samples: NDArray[Any], has_alpha: bool) -> None:
    if samples.dtype.name not in FULL_SCALE:
        raise _sample_type(path, samples.dtype.name)
    if samples.ndim != 3 or samples.shape[-1] not in (1 + has_alpha, 3 + has_alpha):
        raise ValueError(f"its pixels are an array of shape {samples.shape}")


def _sample_type(path: Path, name: str) -> InputError:
    return InputError(f"{path}: {name} samples: convert to 8 or 16-bit unsigned or 32-bit float")


def _samples(path: Path, page: Any) -> NDArray[Any]:
    end = max(o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True))
    if end > path.stat().st_size:
        raise ValueError(f"pixels end at byte {end} of {path.stat().st_size}")
    through_pillow = page.compression not in _UNPACKED or page.predictor > 1
    if through_pillow or page.photometric == PHOTOMETRIC.PALETTE:
        return _through_pillow(path, page)
    samples: NDArray[Any] = page.asarray()
    # Planes stored one after the other come out channels first.
    if samples.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        samples = np.moveaxis(samples, 0, -1)
    samples = samples[..., None] if samples.ndim == 2 else samples
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        samples[..., 0] = FULL_SCALE.get(samples.dtype.name, 1) - samples[..., 0]
    return _UPRIGHT[int(page.tags.valueof("Orientation", 1))](samples)


def _through_pillow(path: Path, page: Any) -> NDArray[Any]:
    """Unpack with libtiff. Pillow cuts 16-bit colour to 8 bits, so that is refused."""
    if page.bitspersample > 8 and page.samplesperpixel > 1:
        raise InputError(
            f"{path}: {page.bitspersample}-bit colour with {page.compression.name} compression: "
            "save it without compression"
        )
    with _quiet(), Image.open(path, formats=("TIFF",)) as image:
        check_size(path, *image.size)
        keep = image.mode not in {"P", "PA", "1"}
        samples = np.asarray(image if keep else image.convert("RGB" if image.mode != "1" else "L"))
    samples = samples.astype(samples.dtype.newbyteorder("="))
    return samples[..., None] if samples.ndim == 2 else samples


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Let nothing through of what libtiff writes to the process's stderr.

    What it has to say comes as an exception too, and would stand beside our one line.
    """
    with Path(os.devnull).open("wb") as nothing, stderr_into(nothing):
        yield


@contextmanager
def _open(path: Path) -> Generator[tifffile.TiffFile, None, None]:
    """Open with tifffile; whatever goes wrong inside the block is said in one line of ours."""
    _here.reading = True
    try:
        with tifffile.TiffFile(path) as file:
            yield file
    except InputError:
        raise
    except Exception as error:
        # tifffile promises no set of exceptions for damaged files: the cause stays chained.
        raise InputError(
            f"{path}: damaged or truncated TIFF ({error}): copy or export it again"
        ) from error
    finally:
        _here.reading = False


def _not_reading(record: logging.LogRecord) -> bool:
    return not getattr(_here, "reading", False)


# Their notes on odd tags would come before our one line, or alone where nothing is wrong.
for _name in ("tifffile", "PIL.TiffImagePlugin"):
    logging.getLogger(_name).addFilter(_not_reading)
