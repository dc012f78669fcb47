"""Real files in every format: what is read is what was stored, and what is written comes back."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps

from certes.data.bundled import bundled_pictures
from certes.data.pictures import find_pictures, read_picture, write_picture, write_tiff_stack
from certes.errors import InputError

FULL = {"uint8": 255, "uint16": 65535, "float32": 1}


def samples(dtype: str, channels: int, height: int = 17, width: int = 23) -> np.ndarray:
    rng = np.random.default_rng(3)
    values = rng.random((height, width, channels))
    return (values * FULL[dtype]).round(0 if dtype != "float32" else 7).astype(dtype)


def squeeze(array: np.ndarray) -> np.ndarray:
    return array[..., 0] if array.shape[-1] == 1 else array


def row_filter(kind: int, left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """What each PNG filter predicts a byte by (PNG specification, section 9)."""
    if kind < 4:
        return [np.zeros_like(left), left, up, (left + up) // 2][kind]
    nearest = np.abs(left + up - corner - np.stack([left, up, corner])).argmin(axis=0)
    return np.choose(nearest, [left, up, corner])


def store_png16(path: Path, array: np.ndarray, kind: int = 0) -> None:
    """A plain encoder: every row through one kind of filter, all data in one chunk."""
    height, width, channels = array.shape
    rows = array.astype(">u2").view(np.uint8).reshape(height, -1).astype(int)
    step = 2 * channels
    padded = np.pad(rows, ((1, 0), (step, 0)))
    predicted = row_filter(kind, padded[1:, :-step], padded[:-1, step:], padded[:-1, :-step])
    filtered = np.pad((rows - predicted) % 256, ((0, 0), (1, 0)), constant_values=kind)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(filtered.astype(np.uint8).tobytes())),
        (b"IEND", b""),
    ]
    packed = [
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


def store(path: Path, array: np.ndarray) -> None:
    """Store by a route that shares no code with certes."""
    alpha = array.shape[-1] in (2, 4)
    if path.suffix == ".tif":
        colour = "rgb" if array.shape[-1] > 2 else "minisblack"
        extra = ["unassalpha"] if alpha else None
        tifffile.imwrite(path, squeeze(array), photometric=colour, extrasamples=extra)
    elif array.dtype == np.uint16:
        store_png16(path, array)
    else:
        Image.fromarray(squeeze(array)).save(path)


CASES = [
    (suffix, dtype, channels)
    for suffix, dtypes in {".png": ("uint8", "uint16"), ".tif": tuple(FULL)}.items()
    for dtype in dtypes
    for channels in (1, 2, 3, 4)
]


@pytest.mark.parametrize(("suffix", "dtype", "channels"), CASES)
def test_reads_what_was_stored(tmp_path: Path, suffix: str, dtype: str, channels: int) -> None:
    path, array = tmp_path / f"a.b{suffix}", samples(dtype, channels)
    store(path, array)
    picture = read_picture(path)
    planes = torch.from_numpy(np.moveaxis(array.astype(np.float64) / FULL[dtype], -1, 0))
    colours = channels - (channels in (2, 4))
    assert (picture.name, picture.dtype) == ("a.b", dtype)
    assert torch.allclose(picture.pixels.double(), planes[:colours], rtol=0, atol=1e-7)
    if colours == channels:
        assert picture.alpha is None
    else:
        assert picture.alpha is not None
        assert torch.allclose(picture.alpha.double(), planes[colours:], rtol=0, atol=1e-7)


@pytest.mark.parametrize(("suffix", "dtype", "channels"), CASES)
def test_round_trip_keeps_every_bit(tmp_path: Path, suffix: str, dtype: str, channels: int) -> None:
    path = tmp_path / f"a{suffix}"
    store(path, samples(dtype, channels))
    picture = read_picture(path)
    write_picture(tmp_path / f"b{suffix}", picture.pixels, picture)
    again = read_picture(tmp_path / f"b{suffix}")
    assert again.dtype == dtype
    assert torch.equal(again.pixels, picture.pixels)
    assert (again.alpha is None) == (picture.alpha is None)
    if again.alpha is not None and picture.alpha is not None:
        assert torch.equal(again.alpha, picture.alpha)


def test_16_bit_png_is_written_for_others_to_read(tmp_path: Path) -> None:
    array = samples("uint16", 3)
    store_png16(tmp_path / "a.png", array)
    picture = read_picture(tmp_path / "a.png")
    write_picture(tmp_path / "b.png", picture.pixels, picture)
    with Image.open(tmp_path / "b.png") as image:
        assert np.array_equal(np.asarray(image), (array >> 8).astype(np.uint8))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", range(5))
def test_16_bit_png_of_every_row_filter(tmp_path: Path, kind: int, channels: int) -> None:
    array = samples("uint16", channels)
    store_png16(tmp_path / "a.png", array, kind)
    picture = read_picture(tmp_path / "a.png")
    planes = picture.pixels if picture.alpha is None else torch.cat([picture.pixels, picture.alpha])
    assert np.array_equal((planes * 65535).round().numpy(), np.moveaxis(array, -1, 0))


def test_jpeg_is_turned_upright(tmp_path: Path) -> None:
    array = np.zeros((32, 48), np.uint8)
    array[:16, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(array).save(tmp_path / "a.jpg", quality=95, exif=exif)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.pixels.shape == (1, 48, 32)
    assert picture.pixels[0, :12, 20:].min() > 0.9
    assert picture.pixels[0, 20:].max() < 0.1


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_is_turned_upright(tmp_path: Path, orientation: int, compression: str) -> None:
    image = Image.fromarray(samples("uint8", 1)[..., 0])
    image.save(tmp_path / "a.tif", compression=compression, tiffinfo={274: orientation})
    image.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    got = read_picture(tmp_path / "a.tif").pixels[0]
    assert np.array_equal((got * 255).round().numpy(), expected)


def test_jpeg_round_trip_is_close(tmp_path: Path) -> None:
    picture = bundled_pictures()[0]
    write_picture(tmp_path / "a.jpg", picture.pixels, picture)
    again = read_picture(tmp_path / "a.jpg")
    assert (again.pixels - picture.pixels).abs().mean() < 0.01


def test_palette_and_bilevel_are_expanded(tmp_path: Path) -> None:
    array = samples("uint8", 3) // 128 * 255
    Image.fromarray(array).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    assert torch.equal(
        read_picture(tmp_path / "p.png").pixels, torch.from_numpy(array).movedim(-1, 0) / 255
    )
    Image.fromarray(array[..., 0]).convert("1").save(tmp_path / "1.png")
    assert torch.equal(
        read_picture(tmp_path / "1.png").pixels[0], torch.from_numpy(array[..., 0]) / 255
    )


def test_transparent_colour_becomes_alpha(tmp_path: Path) -> None:
    array = np.full((16, 16), 7, np.uint8)
    array[:8] = 9
    Image.fromarray(array).save(tmp_path / "a.png", transparency=9)
    alpha = read_picture(tmp_path / "a.png").alpha
    assert alpha is not None
    assert alpha[0, :8].max() == 0
    assert alpha[0, 8:].min() == 1


def test_tiff_variants(tmp_path: Path) -> None:
    rgb, grey = samples("uint16", 3), samples("uint16", 1)[..., 0]
    tifffile.imwrite(
        tmp_path / "planes.tif", np.moveaxis(rgb, -1, 0), photometric="rgb", planarconfig="separate"
    )
    tifffile.imwrite(tmp_path / "zlib.tif", rgb, photometric="rgb", compression="zlib")
    tifffile.imwrite(tmp_path / "big.tif", rgb, photometric="rgb", byteorder=">", bigtiff=True)
    for name in ("planes", "zlib", "big"):
        got = read_picture(tmp_path / f"{name}.tif").pixels
        assert np.array_equal((got * 65535).round().numpy(), np.moveaxis(rgb, -1, 0)), name
    tifffile.imwrite(tmp_path / "white.tif", grey, photometric="miniswhite")
    Image.fromarray(grey).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    Image.fromarray(rgb.astype(np.uint8)).save(tmp_path / "lzw8.tif", compression="tiff_lzw")
    white, lzw, lzw8 = (
        read_picture(tmp_path / f"{n}.tif").pixels for n in ("white", "lzw", "lzw8")
    )
    assert np.array_equal((white[0] * 65535).round().numpy(), 65535 - grey)
    assert np.array_equal((lzw[0] * 65535).round().numpy(), grey)
    assert np.array_equal((lzw8 * 255).round().numpy(), np.moveaxis(rgb.astype(np.uint8), -1, 0))


def test_written_values_are_clipped_and_rounded(tmp_path: Path) -> None:
    picture = bundled_pictures()[0]
    pixels = torch.tensor([-0.2, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.7]).repeat(8, 2)[None]
    write_picture(tmp_path / "a.png", pixels, picture)
    with Image.open(tmp_path / "a.png") as image:
        assert np.asarray(image)[0, :6].tolist() == [0, 0, 0, 1, 255, 255]


def test_alpha_follows_the_size_of_the_pixels(tmp_path: Path) -> None:
    array = samples("uint8", 4)
    array[..., 3] = 128
    store(tmp_path / "a.png", array)
    picture = read_picture(tmp_path / "a.png")
    write_picture(tmp_path / "b.png", torch.rand(3, 34, 46), picture)
    alpha = read_picture(tmp_path / "b.png").alpha
    assert alpha is not None
    assert alpha.shape == (1, 34, 46)
    assert (alpha * 255).round().unique().tolist() == [128]


def test_stack_holds_named_float_pages(tmp_path: Path) -> None:
    pages = {"lower": torch.randn(1, 9, 8), "upper": torch.randn(3, 9, 8) * 5}
    write_tiff_stack(tmp_path / "a.tif", pages)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert [page.tags[285].value for page in file.pages] == ["lower", "upper"]
        lower, upper = (page.asarray() for page in file.pages)
    assert np.array_equal(lower, pages["lower"][0].numpy())
    assert np.array_equal(upper, pages["upper"].movedim(0, -1).numpy())


def test_folders_are_expanded_and_files_left_alone(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.tif", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    found = find_pictures([tmp_path, "missing.png"])
    assert [p.name for p in found] == ["a.tif", "b.PNG", "missing.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures in this folder"):
        find_pictures([tmp_path / "empty"])


def test_bundled_pictures_are_listed_with_their_sources() -> None:
    pictures = bundled_pictures()
    assert len(pictures) == 8
    assert {p.pixels.shape for p in pictures} == {(1, 256, 256)}
    folder = Path(__file__).parents[2] / "src/certes/data/bundled/nuclei"
    listed = (folder / "SOURCES.csv").read_text()
    assert all(f"{p.name}.png," in listed for p in pictures)
