"""Both pictures of a pair are cropped, turned and resized alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from certes.data.pairs import (
    CELEBA_CROP,
    PairDataset,
    label_channels,
    load_celeba,
    load_pairs,
    load_side_by_side,
    resized,
)
from certes.data.patches import PatchDataset
from certes.errors import InputError


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def write(path: Path, picture: Tensor) -> None:
    """(C, H, W) uint8, or (1, H, W) int32 as 16 bit."""
    samples = picture.movedim(0, -1).squeeze(-1).numpy()
    samples = samples if samples.dtype == np.uint8 else samples.astype(np.uint16)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(samples).save(path)


def negatives(xs: list[Tensor]) -> list[Tensor]:
    return [torch.cat([x, 255 - x[:1]]) for x in xs]


class TestPairDataset:
    xs = (noise(3, 20, 31), noise(3, 40, 17, seed=1))

    def test_its_pictures_are_those_to_be_restored(self) -> None:
        data = PairDataset(negatives(list(self.xs)), 3, 16)
        assert all(map(torch.equal, data.pictures(), self.xs))

    @pytest.mark.parametrize("symmetries", ["none", "flips", "square"])
    @pytest.mark.parametrize("busy", [0.0, 0.5])
    def test_halves_stay_aligned(self, symmetries: str, busy: float) -> None:
        data = PairDataset(negatives(list(self.xs)), 3, 16, busy, symmetries)
        assert (data.x_channels, data.y_channels, data.channels) == (3, 1, 4)
        batch = data.batch(0, 64, seed=1)
        assert (batch.shape, batch.dtype) == ((64, 4, 16, 16), torch.float32)
        assert float(batch.min()) >= 0
        assert float(batch.max()) <= 1
        torch.testing.assert_close(batch[:, 3], 1 - batch[:, 0])
        assert len({tuple(one.flatten().tolist()) for one in batch}) > 32

    def test_halves_drawn_apart_would_not(self) -> None:
        """The control: what the test above rejects."""
        x = PatchDataset(self.xs, 16, busy=0, symmetries="flips").batch(0, 64, seed=1)
        y = PatchDataset([255 - one[:1] for one in self.xs], 16, busy=0, symmetries="flips")
        apart = y.batch(0, 64, seed=2)
        assert float((apart[:, 0] - 1 + x[:, 0]).abs().mean()) > 0.1

    def test_a_batch_depends_on_seed_and_step_alone(self) -> None:
        one, two = (PairDataset(negatives(list(self.xs)), 3, 16) for _ in range(2))
        one.batch(0, 8, seed=7)
        assert torch.equal(one.batch(3, 8, seed=7), two.batch(3, 8, seed=7))
        assert not torch.equal(one.batch(3, 8, seed=7), one.batch(4, 8, seed=7))
        assert not torch.equal(one.batch(3, 8, seed=7), one.batch(3, 8, seed=8))

    @pytest.mark.parametrize("x_channels", [0, 4, 5])
    def test_nothing_left_for_one_half(self, x_channels: int) -> None:
        with pytest.raises(InputError, match=f"x_channels: {x_channels} of stacks of 4 channels"):
            PairDataset(negatives(list(self.xs)), x_channels, 16)


class TestFolders:
    def test_pictures_of_one_name_are_a_pair(self, tmp_path: Path) -> None:
        for index, name in enumerate("ba"):
            write(tmp_path / "x" / f"{name}.png", noise(3, 9, 12, seed=index))
            write(tmp_path / "y" / f"{name}.bmp", noise(1, 9, 12, seed=index + 5))
        told: list[float] = []
        pairs = load_pairs(tmp_path / "x", tmp_path / "y", advance=told.append)
        assert sum(told) == len(pairs) == 2
        for pair, index in zip(pairs, (1, 0), strict=True):
            wanted = noise(3, 9, 12, seed=index), noise(1, 9, 12, seed=index + 5)
            assert torch.equal(pair, torch.cat(wanted))

    def test_labels_become_two_channels(self, tmp_path: Path) -> None:
        # Beyond 255 and above half of the range: labels are neither clipped nor signed.
        labels = torch.zeros(1, 9, 12, dtype=torch.int32)
        labels[0, 2:7, 1:5], labels[0, 2:7, 5:9] = 40000, 40001
        write(tmp_path / "x" / "a.png", noise(1, 9, 12))
        write(tmp_path / "y" / "a.png", labels)
        (pair,) = load_pairs(tmp_path / "x", tmp_path / "y", labels=True)
        assert torch.equal(pair, torch.cat([noise(1, 9, 12), label_channels(labels[0])]))
        assert pair[2, 4, 4:6].tolist() == [255, 255]

    def test_pictures_that_are_no_pairs(self, tmp_path: Path) -> None:
        x, y = tmp_path / "x", tmp_path / "y"
        write(x / "a.png", noise(1, 9, 12))
        write(y / "a.png", noise(1, 9, 13))
        with pytest.raises(InputError, match=r"a\.png: 13 x 9 pixels, but .* has 12 x 9"):
            load_pairs(x, y)
        write(x / "b.png", noise(1, 9, 12))
        with pytest.raises(InputError, match=r"y: no partner for b of .*x \(1 pictures have none"):
            load_pairs(x, y)
        with pytest.raises(InputError, match=r"y: no partner for b of .*x"):
            load_pairs(y, x)
        write(x / "a.bmp", noise(1, 9, 12))
        with pytest.raises(InputError, match=r"a\.bmp and a\.png have one name"):
            load_pairs(x, y)

    def test_labels_are_grey_numbers(self, tmp_path: Path) -> None:
        write(tmp_path / "x" / "a.png", noise(1, 9, 12))
        write(tmp_path / "y" / "a.png", noise(3, 9, 12))
        with pytest.raises(InputError, match="labels are whole numbers in a grey picture"):
            load_pairs(tmp_path / "x", tmp_path / "y", labels=True)


def drawn(labels: list[str]) -> Tensor:
    return torch.tensor([[int(digit) for digit in row] for row in labels])


def test_outlines_lie_inside_and_keep_touching_instances_apart() -> None:
    labels = drawn(["000000000", "011112222", "011112222", "011112222", "011112222"])
    inside, ends = label_channels(labels) // 255
    assert torch.equal(inside, (labels > 0).to(torch.uint8))
    # Nothing ends at the border of the picture; 1 and 2 end where they meet.
    assert torch.equal(
        ends, drawn(["000000000", "011111111", "010011000", "010011000", "010011000"]).byte()
    )
    assert int(label_channels(torch.zeros(4, 4, dtype=torch.int32)).sum()) == 0
    assert int(label_channels(torch.ones(4, 4, dtype=torch.int32))[1].sum()) == 0


class TestSideBySide:
    def test_the_right_half_is_x(self, tmp_path: Path) -> None:
        edges, shoe = noise(3, 10, 10), noise(3, 10, 10, seed=1)
        write(tmp_path / "1_AB.png", torch.cat([edges, shoe], dim=2))
        (pair,) = load_side_by_side(tmp_path)
        assert torch.equal(pair, torch.cat([shoe, edges]))
        (small,) = load_side_by_side(tmp_path, side=5)
        assert torch.equal(small, torch.cat([resized(shoe, 5), resized(edges, 5)]))

    @pytest.mark.parametrize(
        ("width", "side", "message"),
        [
            (21, None, "21 pixels wide, which is odd: two equal halves"),
            (24, 5, "12 x 10 pixels are not square: crop them first"),
        ],
    )
    def test_no_two_halves(
        self, tmp_path: Path, width: int, side: int | None, message: str
    ) -> None:
        write(tmp_path / "1_AB.png", noise(3, 10, width))
        with pytest.raises(InputError, match=message):
            load_side_by_side(tmp_path, side)


class TestFaces:
    def test_the_middle_is_taken(self, tmp_path: Path) -> None:
        picture = noise(3, 218, 178)
        write(tmp_path / "000001.png", picture)
        (face,) = load_celeba(tmp_path, CELEBA_CROP, crop=CELEBA_CROP)
        assert torch.equal(face, picture[:, 39:179, 19:159])
        (small,) = load_celeba(tmp_path, 64, crop=CELEBA_CROP)
        assert torch.equal(small, resized(face, 64))

    def test_square_ones_are_resized_by_pillow_and_grey_ones_repeated(self, tmp_path: Path) -> None:
        picture = noise(3, 32, 32)
        write(tmp_path / "a.png", picture)
        write(tmp_path / "b.png", picture[:1])
        colour, grey = load_celeba(tmp_path, 12)
        image = Image.open(tmp_path / "a.png").resize((12, 12), Image.Resampling.BICUBIC)
        assert torch.equal(colour, torch.tensor(np.array(image)).movedim(-1, 0))
        assert torch.equal(grey, colour[:1].expand(3, -1, -1))
        nearest = Image.open(tmp_path / "a.png").resize((12, 12), Image.Resampling.NEAREST)
        assert not torch.equal(colour, torch.tensor(np.array(nearest)).movedim(-1, 0))

    @pytest.mark.parametrize(
        ("crop", "message"),
        [(None, "12 x 10 pixels are not square"), (11, "12 x 10 pixels have no middle of 11 x 11")],
    )
    def test_no_square(self, tmp_path: Path, crop: int | None, message: str) -> None:
        write(tmp_path / "a.png", noise(3, 10, 12))
        with pytest.raises(InputError, match=message):
            load_celeba(tmp_path, 8, crop)


@pytest.mark.parametrize(
    "load",
    [lambda folder: load_pairs(folder, folder), load_side_by_side, lambda f: load_celeba(f, 8)],
)
def test_an_empty_folder(tmp_path: Path, load: Callable[[Path], Any]) -> None:
    with pytest.raises(InputError, match="no pictures in this folder"):
        load(tmp_path)
