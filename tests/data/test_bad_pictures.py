"""Each bad file gives one line that names the file, the problem and the way out."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from certes.data.bundled import bundled_pictures
from certes.data.pictures import Picture, read_picture, write_picture
from certes.errors import InputError

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
FLOAT = np.random.default_rng(1).random((16, 16), dtype=np.float32)


def huge_png(path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    end = struct.pack(">I", zlib.crc32(header)) + b"\0\0\0\0IDAT\x35\xaf\x06\x1e"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + end)


def huge_tiff(path: Path) -> None:
    tiff(path)
    with tifffile.TiffFile(path, mode="r+") as file:
        for tag in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[tag].overwrite(20000)


def truncated(save: Callable[[Path], None]) -> Callable[[Path], None]:
    def store(path: Path) -> None:
        save(path)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])

    return store


def png(path: Path) -> None:
    Image.fromarray(NOISE).save(path)


def png16(path: Path) -> None:
    like = Picture("a", torch.zeros(3, 64, 64), None, "uint16")
    write_picture(path, torch.rand(3, 64, 64), like)


def tiff(path: Path) -> None:
    tifffile.imwrite(path, NOISE, photometric="rgb")


def with_value(value: float) -> Callable[[Path], None]:
    def store(path: Path) -> None:
        array = FLOAT.copy()
        array[3, 4] = value
        tifffile.imwrite(path, array)

    return store


def animated(path: Path) -> None:
    frames = [Image.fromarray(NOISE[..., i]) for i in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "zero bytes": ("a.png", Path.touch, r"empty \(0 bytes\): copy or export it again"),
    "folder": ("a.png", Path.mkdir, "a folder, not a picture: name the files in it"),
    "text": ("a.png", lambda p: p.write_text("hello"), "not a picture .* PNG, JPEG or TIFF"),
    "truncated png": ("a.png", truncated(png), "damaged or truncated .* copy or export"),
    "truncated 16-bit png": ("a.png", truncated(png16), "damaged or truncated .* copy or export"),
    "truncated jpeg": ("a.jpg", truncated(png), "damaged or truncated .* copy or export"),
    "truncated tiff": ("a.tif", truncated(tiff), "damaged or truncated .* copy or export"),
    "tiff without a page": (
        "a.tif",
        lambda p: p.write_bytes(b"II*\0\x08\0\0\0\0\0\0\0\0\0"),
        "damaged or truncated .* copy or export",
    ),
    "tiff of four bytes": ("a.tif", lambda p: p.write_bytes(b"II*\0"), "damaged or truncated"),
    "animated gif": ("a.gif", animated, r"animated \(3 frames\): save the frame"),
    "animated png": ("a.png", animated, r"animated \(3 frames\): save the frame"),
    "two pages": (
        "a.tif",
        lambda p: tifffile.imwrite(p, np.stack([FLOAT, FLOAT]), photometric="minisblack"),
        "2 pages: save the page you want",
    ),
    "cmyk jpeg": (
        "a.jpg",
        lambda p: Image.fromarray(NOISE).convert("CMYK").save(p),
        "colour mode CMYK: convert the picture to RGB",
    ),
    "cmyk tiff": (
        "a.tif",
        lambda p: Image.fromarray(NOISE).convert("CMYK").save(p),
        "colour mode SEPARATED: convert the picture to RGB",
    ),
    "two channels": (
        "a.tif",
        lambda p: tifffile.imwrite(p, NOISE[..., :2], photometric="minisblack", planarconfig=1),
        "2 channels: save each channel as a grey picture",
    ),
    "1x1": ("a.png", lambda p: Image.new("L", (1, 1)).save(p), "1 x 1 pixels is too small .* 8"),
    "20000x20000 png": ("a.png", huge_png, "more than the limit of 8192 x 8192: cut"),
    "20000x20000 tiff": ("a.tif", huge_tiff, "20000 x 20000 pixels is more than the limit"),
    "12000x9000 png": (
        "a.png",
        lambda p: Image.new("1", (12000, 9000)).save(p),
        "12000 x 9000 pixels is more than the limit",
    ),
    "nan": ("a.tif", with_value(float("nan")), "1 values are NaN or infinite: replace them"),
    "infinite": ("a.tif", with_value(float("inf")), "1 values are NaN or infinite: replace them"),
    "counts": ("a.tif", with_value(4095), r"in \[0, 1\], these are in .*, 4095\]: .*divide"),
    "double": (
        "a.tif",
        lambda p: tifffile.imwrite(p, FLOAT.astype(np.float64)),
        "float64 samples: convert to 8 or 16-bit",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_one_line_names_the_problem_and_the_way_out(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name, store, message = BAD[case]
    path = tmp_path / name
    if case == "truncated jpeg":
        Image.fromarray(NOISE).save(path)
        path.write_bytes(path.read_bytes()[:-200])
    else:
        store(path)
    capfd.readouterr()
    with warnings.catch_warnings(), pytest.raises(InputError, match=message) as raised:
        warnings.simplefilter("error")
        read_picture(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"b\.png: no such file: check the name"):
        read_picture(tmp_path / "b.png")


def test_noise_may_stray_where_it_is_allowed_to_and_only_so_far(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with_value(-0.9)(path)
    with pytest.raises(InputError, match=r"must be in \[0, 1\]"):
        read_picture(path)
    assert float(read_picture(path, noisy=True).pixels.min()) == pytest.approx(-0.9)
    with_value(2.1)(path)
    with pytest.raises(InputError, match=r"must be in \[0, 1\]"):
        read_picture(path, noisy=True)


def test_huge_picture_is_refused_from_its_header(tmp_path: Path) -> None:
    """The file ends behind its header: had a pixel been asked for, the message would be another."""
    huge_png(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 100
    with pytest.raises(InputError, match="more than the limit"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("a.png", "float32", "cannot hold float32 samples: use .tif"),
        ("a.jpg", "uint16", "cannot hold uint16 samples: use .tif"),
        ("a.xyz", "uint8", "cannot write .xyz: use .png or .tif"),
    ],
)
def test_format_that_cannot_hold_the_picture(
    tmp_path: Path, name: str, dtype: str, message: str
) -> None:
    like = Picture("a", torch.zeros(1, 8, 8), None, dtype)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=message):
        write_picture(tmp_path / name, like.pixels, like)
    assert list(tmp_path.iterdir()) == []


def test_jpeg_with_alpha_leaves_nothing_behind(tmp_path: Path) -> None:
    picture = bundled_pictures()[0]
    like = Picture("a", picture.pixels, torch.ones_like(picture.pixels), "uint8")
    with pytest.raises(InputError, match=r"a\.jpg: \.jpg cannot hold alpha: use \.png"):
        write_picture(tmp_path / "a.jpg", like.pixels, like)
    assert list(tmp_path.iterdir()) == []
