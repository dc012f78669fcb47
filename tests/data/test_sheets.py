"""Pictures come out of sheets as they went in, in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from certes.data.sheets import read_sheet, read_sheets
from certes.errors import InputError

SIDE, ROWS, COLUMNS = 4, 3, 5


def write_sheet(path: Path, pictures: Tensor) -> None:
    """One sheet of ROWS x COLUMNS pictures (n, c, s, s), pasted one by one."""
    mode = "L" if pictures.shape[1] == 1 else "RGB"
    sheet = Image.new(mode, (COLUMNS * SIDE, ROWS * SIDE))
    for index, picture in enumerate(pictures):
        samples = picture.movedim(0, -1).squeeze(-1).numpy()
        row, column = divmod(index, COLUMNS)
        sheet.paste(Image.fromarray(samples), (column * SIDE, row * SIDE))
    sheet.save(path, lossless=True)


def folder_of(folder: Path, channels: int, suffix: str = ".webp") -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    count = 2 * ROWS * COLUMNS
    pictures = torch.randint(
        256, (count, channels, SIDE, SIDE), generator=generator, dtype=torch.uint8
    )
    labels = torch.randint(10, (count,), generator=generator)
    for index, part in enumerate(pictures.chunk(2)):
        write_sheet(folder / f"train-{index:02}{suffix}", part)
    np.save(folder / "train-labels.npy", labels.numpy().astype(np.uint8))
    return pictures, labels


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_pictures_and_labels_in_order(tmp_path: Path, channels: int, suffix: str) -> None:
    pictures, labels = folder_of(tmp_path, channels, suffix)
    read = read_sheets(tmp_path, "train")
    assert read.pictures.dtype == torch.uint8
    assert torch.equal(read.pictures, pictures)
    assert torch.equal(read.labels, labels)


def test_other_splits_are_left_alone(tmp_path: Path) -> None:
    pictures, _ = folder_of(tmp_path, 1)
    write_sheet(tmp_path / "test-00.webp", pictures[: ROWS * COLUMNS])
    assert len(read_sheets(tmp_path, "train").pictures) == len(pictures)
    with pytest.raises(InputError, match=r"test-labels\.npy: no such file"):
        read_sheets(tmp_path, "test")


def test_a_folder_without_sheets(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="no sheets of the split 'train': wanted a folder"):
            read_sheets(folder, "train")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(29, np.int64), "480 pixels in all cannot be cut into 29 equal squares"),
        (np.zeros(480, np.float32), "float32 of shape"),
        (np.zeros((30, 1), np.int64), r"int64 of shape \(30, 1\); wanted \(n,\) whole numbers"),
        (np.zeros(0, np.int64), "wanted"),
        (np.array([{}], object), "no array of whole numbers"),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, labels: np.ndarray, message: str) -> None:
    folder_of(tmp_path, 1)
    np.save(tmp_path / "train-labels.npy", labels)
    with pytest.raises(InputError, match=message):
        read_sheets(tmp_path, "train")


def test_a_missing_sheet_is_noticed(tmp_path: Path) -> None:
    folder_of(tmp_path, 1)
    (tmp_path / "train-01.webp").unlink()
    with pytest.raises(InputError, match="cannot be cut into 30 equal squares"):
        read_sheets(tmp_path, "train")


def test_mixed_and_damaged_sheets(tmp_path: Path) -> None:
    folder_of(tmp_path, 3)
    write_sheet(
        tmp_path / "train-01.webp", torch.zeros(ROWS * COLUMNS, 1, SIDE, SIDE, dtype=torch.uint8)
    )
    with pytest.raises(InputError, match="some sheets are grey, some RGB"):
        read_sheets(tmp_path, "train")
    (tmp_path / "train-01.webp").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"train-01\.webp: "):
        read_sheets(tmp_path, "train")


def test_one_sheet_whose_side_is_known(tmp_path: Path) -> None:
    pictures, _ = folder_of(tmp_path, 1)
    first = sorted(tmp_path.glob("train-00.*"))[0]
    read = read_sheet(first, pictures.shape[-1])
    assert torch.equal(read, pictures[: len(read)])
    with pytest.raises(InputError, match="cannot be cut into squares of 1009"):
        read_sheet(first, 1009)
