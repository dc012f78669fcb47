"""PNG, JPEG and other stills, through Pillow."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from certes.data import png16
from certes.data.raster import Raster, check_size, too_large
from certes.errors import InputError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM")

# What each of Pillow's modes is expanded to without loss, without and with a transparent colour.
_EXPANDED = {
    "1": ("L", "LA"),
    "L": ("L", "LA"),
    "LA": ("LA", "LA"),
    "P": ("RGB", "RGBA"),
    "PA": ("RGBA", "RGBA"),
    "RGB": ("RGB", "RGBA"),
    "RGBA": ("RGBA", "RGBA"),
}


def read(path: Path) -> Raster:
    """Read a still. Raises: InputError as `certes.data.pictures.read_picture` says."""
    with opened(path) as image:
        check_size(path, *image.size)
        # An MPO file is what phones write as .jpg: its further pictures are previews.
        frames: int = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":
            raise InputError(
                f"{path}: animated ({frames} frames): save the frame you want as a picture"
            )
        if png16.is_png16(path):
            return png16.read(path, image)
        return _read_8bit(path, image)


def write(path: Path, raster: Raster) -> None:
    """Write 8-bit samples in the format that the suffix of `path` names."""
    samples = raster.samples[..., 0] if raster.samples.shape[-1] == 1 else raster.samples
    image = Image.fromarray(np.ascontiguousarray(samples))
    image.save(path, quality=95)


def _read_8bit(path: Path, image: Image.Image) -> Raster:
    if image.mode not in _EXPANDED:
        raise InputError(f"{path}: colour mode {image.mode}: convert the picture to RGB or grey")
    mode = _EXPANDED[image.mode]["transparency" in image.info]
    upright = ImageOps.exif_transpose(image.convert(mode))
    samples = np.asarray(upright)
    samples = samples[..., None] if samples.ndim == 2 else samples
    return Raster(samples, has_alpha=mode.endswith("A"))


@contextmanager
def opened(
    path: Path, formats: tuple[str, ...] | None = FORMATS
) -> Generator[Image.Image, None, None]:
    """Open with Pillow; whatever goes wrong inside the block is said in one line of ours.

    `formats` are Pillow's names of those that are looked for; None: all that it knows.
    """
    with warnings.catch_warnings():
        # Its limit is over ours, which is checked right after opening.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=formats) as image:
                yield image
        except InputError:
            raise
        except Image.DecompressionBombError as error:
            raise too_large(path, "the size that its header states") from error
        except UnidentifiedImageError as error:
            raise InputError(
                f"{path}: not a picture that can be read: give a PNG, JPEG or TIFF file"
            ) from error
        except Exception as error:
            # Pillow promises no set of exceptions for damaged files: the cause stays chained.
            reason = str(error) or type(error).__name__
            raise InputError(
                f"{path}: damaged or truncated ({reason}): copy or export it again"
            ) from error
