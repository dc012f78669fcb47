"""Pictures of a folder as batches of one size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from certes.data.pictures import Picture, write_picture
from certes.errors import InputError
from certes.evaluation.folders import BATCH, PictureFiles


def save(path: Path, pixels: Tensor) -> Path:
    write_picture(path, pixels, Picture(path.stem, pixels, None, "uint8"))
    return path


def levels(*shape: int, seed: int = 0) -> Tensor:
    """Pixels that an 8-bit file holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator) / 255


def test_batches_hold_every_picture_in_order(tmp_path: Path) -> None:
    count = BATCH + 3
    drawn = levels(count, 1, 8, 8)
    paths = [save(tmp_path / f"{i:02d}.png", x) for i, x in enumerate(drawn)]
    read: list[float] = []
    batches = list(PictureFiles(paths, (8, 8), 3).batches(read.append))
    assert [len(batch) for batch in batches] == [BATCH, 3]
    assert len(read) == count
    torch.testing.assert_close(torch.cat(batches), drawn.expand(-1, 3, -1, -1))


def test_tiles_are_the_picture_cut_up(tmp_path: Path) -> None:
    picture = levels(3, 20, 27)
    paths = [save(tmp_path / "a.png", picture)]
    (tiles,) = PictureFiles(paths, (10, 8), 3, "tiles").batches()
    expected = [picture[:, y : y + 10, x : x + 8] for y in (0, 10) for x in (0, 8, 16)]
    torch.testing.assert_close(tiles, torch.stack(expected))


def test_resizing_keeps_the_mean(tmp_path: Path) -> None:
    picture = levels(1, 32, 48)
    paths = [save(tmp_path / "a.png", picture)]
    (small,) = PictureFiles(paths, (16, 8), 1, "resize").batches()
    assert small.shape == (1, 1, 16, 8)
    assert float(small.mean()) == pytest.approx(float(picture.mean()), abs=0.02)
    assert float(small.std()) < 0.5 * float(picture.std())


@pytest.mark.parametrize(
    ("size", "channels", "fit", "message"),
    [
        ((8, 8), 3, None, "16 x 12 pixels, the generated pictures have 8 x 8"),
        ((16, 16), 3, "tiles", "sets of different sizes cannot be compared"),
        ((12, 16), 1, None, r"a\.png: pictures: 3 channels for a feature network of 1"),
        ((12, 16), 3, "crop", "fit: 'crop'; give one of tiles, resize"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, size: tuple[int, int], channels: int, fit: str | None, message: str
) -> None:
    paths = [save(tmp_path / "a.png", levels(3, 12, 16))]
    with pytest.raises(InputError, match=message):
        list(PictureFiles(paths, size, channels, fit).batches())
