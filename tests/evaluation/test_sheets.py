"""Sheets hold every picture, whole and in its place, and say what was done to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from certes.errors import InputError
from certes.evaluation import sheets
from certes.evaluation.sheets import Sheet, picture_sheet, white_of


def sheet(pictures: torch.Tensor, note: str = "note") -> Sheet:
    rows, columns = pictures.shape[:2]
    labels = [[f"{axis} {i}" for i in range(n)] for axis, n in (("row", rows), ("column", columns))]
    return Sheet(pictures, *labels, title="A title", note=note)


def drawn(path: Path, what: Sheet) -> np.ndarray:
    picture_sheet(path, what)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def found(image: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of all pixels of a colour, which fill that rectangle."""
    rows, columns = np.nonzero((image == colour).all(axis=-1))
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    assert len(rows) == (bottom - top) * (right - left)
    return int(top), int(bottom), int(left), int(right)


@pytest.mark.parametrize(("size", "shown"), [((32, 48), (64, 96)), ((600, 300), (256, 128))])
def test_pictures_are_whole_and_in_their_places(tmp_path: Path, size, shown) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255)]
    flat = torch.tensor(colours).float().reshape(2, 3, 3, 1, 1) / 255
    image = drawn(tmp_path / "a.png", sheet(flat.expand(2, 3, 3, *size)))
    boxes = [found(image, colour) for colour in colours]
    height, width = shown
    first_top, _, first_left, _ = boxes[0]
    for i, (top, bottom, left, right) in enumerate(boxes):
        assert (bottom - top, right - left) == shown
        assert top == first_top + i // 3 * (height + 4)
        assert left == first_left + i % 3 * (width + 4)
    ink = (image.astype(int).sum(axis=-1) < 300) & (np.ptp(image.astype(int), axis=-1) < 30)
    assert ink[:first_top].any()
    assert ink[:, :first_left].any()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_small_grey_pictures_are_enlarged_without_smoothing(tmp_path: Path) -> None:
    x = torch.zeros(1, 1, 1, 8, 8)
    x[..., 3:5, 3:5] = 1
    pixels = sheets._pixels(sheet(x))
    assert pixels.shape == (96, 96, 3)
    assert pixels.unique().tolist() == [0, 1]
    assert pixels[36:60, 36:60].min() == 1
    assert pixels.sum() == 3 * 24**2


def test_dark_pictures_are_brightened_alike_and_it_is_said() -> None:
    x = torch.stack([torch.full((1, 16, 16), value) for value in (0.1, 0.25)])[None]
    pixels = sheets._pixels(sheet(x))
    assert white_of(x) == pytest.approx(0.25)
    assert pixels[0, 0, 0] == pytest.approx(0.4)
    assert pixels[0, -1, 0] == 1
    assert "white is 0.25" in sheets._note(sheet(x))
    bright = x / 0.25 * 0.9
    assert white_of(bright) == 1
    assert sheets._note(sheet(bright)) == "note"
    assert white_of(torch.zeros(4)) > 0


def test_long_words_fit_in_the_sheet(tmp_path: Path) -> None:
    """Nothing is written in the outermost pixels."""
    x = torch.rand(2, 1, 3, 16, 16)
    long = Sheet(x, ["one", "a far longer row"], ["column"], "title " * 30, "words " * 200)
    image = drawn(tmp_path / "a.png", long)
    assert image.shape[1] == 640
    for edge in (image[:3], image[-3:], image[:, :3], image[:, -3:]):
        assert (edge == 255).all()


@pytest.mark.parametrize(("rows", "columns"), [(["a"], ["b"]), ([], []), (["a"], ["b"] * 3)])
def test_labels_must_fit(rows: list[str], columns: list[str]) -> None:
    with pytest.raises(InputError, match="labels for 1 rows and 2 columns"):
        Sheet(torch.rand(1, 2, 1, 8, 8), rows, columns, "", "")
