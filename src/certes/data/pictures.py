"""A picture file as a tensor in [0, 1], and back with the same bit depth and alpha.

Kept: PNG and TIFF in 8 and 16 bit, TIFF in 32-bit float, JPEG and other 8-bit stills; grey or RGB,
with or without alpha. A palette is expanded, which loses nothing; an orientation tag is applied, so
that pixels are upright. Colour profiles and other metadata are not carried over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from certes.data import png16, stills, tiff
from certes.data.files import atomic_path
from certes.data.raster import FULL_SCALE, Raster, SampleType
from certes.errors import InputError

MIN_SIDE = 8
"""Below this a picture has no neighbourhoods for a network to look at."""

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})
"""The file names that `find_pictures` takes from a folder."""


@dataclass(frozen=True)
class Picture:
    """What a picture file holds.

    `pixels` is (C, H, W) in [0, 1] with C = 1 (grey) or 3 (RGB): integers divided by their full
    scale (255 or 65535), floats as they are. `alpha` is (1, H, W) in [0, 1] or None. `dtype` is the
    sample type of the file, `name` its name without folder and suffix.
    """

    name: str
    pixels: Float[Tensor, "c h w"]
    alpha: Float[Tensor, "1 h w"] | None
    dtype: SampleType

    @property
    def suffix(self) -> str:
        """The suffix of a lossless format that can hold this picture's sample type."""
        return ".tif" if self.dtype == "float32" else ".png"


def read_picture(path: str | Path, *, noisy: bool = False, smallest: int = MIN_SIDE) -> Picture:
    """Read a PNG, JPEG, TIFF, WebP, BMP or one-frame GIF file.

    With `noisy`, float samples may stray outside [0, 1] by up to 1, as a measurement's noise does.
    `smallest` is the side, in pixels, below which a picture is refused.

    Raises: InputError, in one line with the way out, for a file that is missing, empty, truncated,
    not a picture, animated or multi-page, CMYK, too small, too large, or whose float samples are
    not finite or not in [0, 1]. Size is judged from the header, before any pixel is decoded.
    """
    path = Path(path)
    _check_file(path)
    raster = tiff.read(path) if tiff.is_tiff(path) else stills.read(path)
    height, width = raster.samples.shape[:2]
    if min(height, width) < smallest:
        raise InputError(
            f"{path}: {width} x {height} pixels is too small to restore: "
            f"give a picture of at least {smallest} pixels a side"
        )
    _check_floats(path, raster.samples, stray=1.0 if noisy else 0.0)
    planes = _to_unit(raster.samples)
    pixels, alpha = (planes[:-1], planes[-1:]) if raster.has_alpha else (planes, None)
    return Picture(path.stem, pixels, alpha, raster.dtype)


def write_picture(path: str | Path, pixels: Float[Tensor, "c h w"], like: Picture) -> None:
    """Write (C, H, W) pixels in [0, 1] with the sample type and alpha of `like`, atomically.

    Values outside [0, 1] are clipped, integers rounded to the nearest. The alpha of `like` is
    resized if the sizes differ (a super-resolved picture is larger than what it came from).

    Raises: InputError when the format named by the suffix of `path` cannot hold the picture.
    """
    path = Path(path)
    samples = _to_samples(_with_alpha(pixels, like.alpha), like.dtype)
    raster = Raster(samples, has_alpha=like.alpha is not None)
    write = _writer(path, raster)
    with atomic_path(path) as temporary:
        write(temporary, raster)


def write_tiff_stack(path: str | Path, pages: Mapping[str, Float[Tensor, "c h w"]]) -> None:
    """Write named (C, H, W) pictures as the float32 pages of one TIFF, atomically and unclipped."""
    with atomic_path(path) as temporary:
        tiff.write_stack(
            temporary, {name: _channels_last(page.float()) for name, page in pages.items()}
        )


def find_pictures(paths: Iterable[str | Path]) -> list[Path]:
    """Replace each folder by the pictures in it, sorted by name; files stay as they are.

    A named file is not looked at here, so that one bad file is reported by `read_picture` and does
    not stop the rest.

    Raises: InputError for a folder without pictures.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        found.extend(_pictures_in(path) if path.is_dir() else [path])
    return found


def _pictures_in(folder: Path) -> list[Path]:
    inside = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    inside = [p for p in inside if not p.name.startswith(".")]
    if not inside:
        raise InputError(
            f"{folder}: no pictures in this folder: wanted {', '.join(sorted(SUFFIXES))}"
        )
    return inside


def _check_file(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path}: no such file: check the name")
    if path.is_dir():
        raise InputError(f"{path}: a folder, not a picture: name the files in it")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: may not be read: change its permissions")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes): copy or export it again")


def _check_floats(path: Path, samples: NDArray[np.generic], stray: float) -> None:
    if samples.dtype != np.float32:
        return
    broken = int(np.count_nonzero(~np.isfinite(samples)))
    if broken:
        raise InputError(
            f"{path}: {broken} values are NaN or infinite: replace them, "
            "or mark them as missing with --task inpaint and a mask"
        )
    low, high = float(np.min(samples)), float(np.max(samples))
    if low < -stray or high > 1 + stray:
        raise InputError(
            f"{path}: float samples must be in [0, 1], these are in [{low:g}, {high:g}]: "
            "subtract the offset, divide by the full scale, and save again"
        )


def _to_unit(samples: NDArray[np.generic]) -> Float[Tensor, "c h w"]:
    scale = FULL_SCALE[samples.dtype.name]
    planes = np.moveaxis(samples, -1, 0).astype(np.float32)
    return torch.as_tensor(np.ascontiguousarray(planes)) / scale


def _to_samples(planes: Float[Tensor, "c h w"], dtype: SampleType) -> NDArray[np.generic]:
    scaled = _channels_last(planes.clamp(0, 1).float()) * FULL_SCALE[dtype]
    return (scaled if dtype == "float32" else np.rint(scaled)).astype(dtype)


def _channels_last(planes: Float[Tensor, "c h w"]) -> NDArray[np.float32]:
    return planes.detach().cpu().movedim(0, -1).contiguous().numpy()


def _with_alpha(
    pixels: Float[Tensor, "c h w"], alpha: Float[Tensor, "1 h w"] | None
) -> Float[Tensor, "c h w"]:
    if alpha is None:
        return pixels
    if alpha.shape[-2:] != pixels.shape[-2:]:
        alpha = torch.nn.functional.interpolate(
            alpha[None], size=pixels.shape[-2:], mode="bilinear", align_corners=False
        )[0]
    return torch.cat([pixels, alpha.to(pixels)])


def _writer(path: Path, raster: Raster) -> Callable[[Path, Raster], None]:
    suffix = path.suffix.lower()
    writers: dict[str, dict[str, Callable[[Path, Raster], None]]] = {
        ".tif": {"uint8": tiff.write, "uint16": tiff.write, "float32": tiff.write},
        ".png": {"uint8": stills.write, "uint16": png16.write},
        ".jpg": {"uint8": stills.write},
    }
    of_suffix = writers.get({".tiff": ".tif", ".jpeg": ".jpg"}.get(suffix, suffix))
    if of_suffix is None:
        raise InputError(
            f"{path}: cannot write {suffix or 'a file without suffix'}: use .png or .tif"
        )
    if raster.dtype not in of_suffix:
        raise InputError(f"{path}: {suffix} cannot hold {raster.dtype} samples: use .tif")
    if raster.has_alpha and suffix in {".jpg", ".jpeg"}:
        raise InputError(f"{path}: {suffix} cannot hold alpha: use .png")
    return of_suffix[raster.dtype]
