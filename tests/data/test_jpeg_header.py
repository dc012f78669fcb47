"""What a JPEG file says of itself, against what it was saved with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certes.data.jpeg_header import read_jpeg_header
from certes.errors import InputError


def picture(mode: str) -> Image.Image:
    shape = (16, 16) if mode == "L" else (16, 16, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("way", "name"), [(0, "4:4:4"), (2, "4:2:0")])
def test_tables_and_sampling(tmp_path: Path, way: int, name: str) -> None:
    picture("RGB").save(tmp_path / "a.jpg", quality=50, subsampling=way)
    header = read_jpeg_header(tmp_path / "a.jpg")
    assert header.subsampling == name
    # At quality 50 the tables are those of the standard's annex K: 16 11 10 16 ... 99.
    assert header.luma[:4] == (16, 11, 10, 16)
    assert (header.luma[8], header.luma[-1]) == (12, 99)


def test_grey_has_no_chroma(tmp_path: Path) -> None:
    picture("L").save(tmp_path / "a.jpg", quality=50)
    assert read_jpeg_header(tmp_path / "a.jpg").subsampling == "4:4:4"


def test_what_says_nothing_of_a_compression(tmp_path: Path) -> None:
    picture("L").save(tmp_path / "a.png")
    picture("RGB").save(tmp_path / "b.jpg", subsampling=1)
    (tmp_path / "c.jpg").write_text("no picture")
    for name, message in (
        ("a.png", "PNG, which does not say .* give --quality"),
        ("b.jpg", "neither 4:4:4 nor 4:2:0"),
        ("c.jpg", "not a picture"),
    ):
        with pytest.raises(InputError, match=message):
            read_jpeg_header(tmp_path / name)
