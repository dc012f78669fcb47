"""Patches are parts of the pictures, drawn by seed and step alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from certes.data.patches import PatchDataset, load_folder
from certes.data.pictures import Picture, write_picture
from certes.errors import InputError

TRAIN = Path(__file__).parent / "nuclei-train"


def coded(height: int, width: int, picture: int) -> torch.Tensor:
    """A picture whose pixels say where they lie: (picture, row, column)."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.full_like(rows, picture), rows, columns]).to(torch.uint8)


PICTURES = [coded(20, 31, 0), coded(40, 17, 1), coded(16, 16, 2)]


def decode(batch: torch.Tensor) -> torch.Tensor:
    return (batch * 255).round().long()


def test_each_patch_is_one_turned_square_of_one_picture() -> None:
    batch = decode(PatchDataset(PICTURES, 16, busy=0).batch(0, 300, seed=1))
    for picture, rows, columns in batch:
        index = int(picture[0, 0])
        assert (picture == index).all()
        top, left = int(rows.min()), int(columns.min())
        square = PICTURES[index][1:, top : top + 16, left : left + 16].long()
        patch = torch.stack([rows, columns])
        turned = [torch.rot90(s, k, (1, 2)) for k in range(4) for s in (square, square.flip(2))]
        assert sum(torch.equal(patch, t) for t in turned) == 1


def test_pictures_positions_and_orientations_are_uniform() -> None:
    batch = decode(PatchDataset(PICTURES, 16, busy=0).batch(5, 6000, seed=2))
    shares = torch.bincount(batch[:, 0, 0, 0], minlength=3) / 6000
    assert (shares - 1 / 3).abs().max() < 0.03
    first = batch[batch[:, 0, 0, 0] == 0]
    lefts = torch.bincount(first[:, 2].flatten(1).min(dim=1).values, minlength=16) / len(first)
    assert (lefts - 1 / 16).abs().max() < 0.025
    corner = first[:, 1:, 0, 0] - first[:, 1:].flatten(2).min(dim=2).values
    along_row = first[:, 1, 0, 1] == first[:, 1, 0, 0]
    kinds = torch.bincount(corner[:, 0] // 15 * 4 + corner[:, 1] // 15 * 2 + along_row.long())
    assert (kinds / len(first) - 1 / 8).abs().max() < 0.03


@pytest.mark.parametrize(("symmetries", "kinds"), [("none", 1), ("flips", 2), ("square", 8)])
def test_symmetries(symmetries: str, kinds: int) -> None:
    picture = coded(16, 16, 0)
    batch = decode(PatchDataset([picture], 16, busy=0, symmetries=symmetries).batch(0, 400, seed=1))
    seen = {tuple(patch.flatten().tolist()) for patch in batch}
    assert len(seen) == kinds
    allowed = [picture.long(), picture.flip(2).long()]
    if kinds <= 2:
        assert seen == {tuple(p.flatten().tolist()) for p in allowed[:kinds]}


def test_nothing_is_drawn_in_vain() -> None:
    """Without busy patches one candidate is as good as four."""
    four, one = (PatchDataset(PICTURES, 16, busy=0, candidates=n) for n in (4, 1))
    assert torch.equal(four.batch(3, 8, seed=7), one.batch(3, 8, seed=7))


def test_pictures_come_out_as_they_went_in() -> None:
    for out, given in zip(PatchDataset(PICTURES, 16).pictures(), PICTURES, strict=True):
        assert torch.equal(out, given)


def test_unknown_symmetries() -> None:
    with pytest.raises(InputError, match="symmetries: 'turns'; give one of none, flips, square"):
        PatchDataset(PICTURES, 16, symmetries="turns")


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    one, two = PatchDataset(PICTURES, 16), PatchDataset(PICTURES, 16)
    one.batch(0, 8, seed=7)
    assert torch.equal(one.batch(3, 8, seed=7), two.batch(3, 8, seed=7))
    assert not torch.equal(one.batch(3, 8, seed=7), one.batch(4, 8, seed=7))
    assert not torch.equal(one.batch(3, 8, seed=7), one.batch(3, 8, seed=8))


@pytest.mark.parametrize("busy", [0.0, 0.5])
def test_shares_make_up_the_batch_and_are_all_that_is_cut(
    busy: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, cut = PatchDataset(PICTURES, 16, busy=busy), list[int]()
    whole, gather = data.batch(3, 12, seed=7), PatchDataset._pixels_at

    def counted(self: PatchDataset, places: torch.Tensor) -> torch.Tensor:
        cut.append(len(places))
        return gather(self, places)

    monkeypatch.setattr(PatchDataset, "_pixels_at", counted)
    for i in range(3):
        assert torch.equal(data.batch(3, 12, 7, slice(i, None, 3)), whole[i::3])
    assert cut == [4 * data.candidates] * 3


def test_busy_patches_show_more() -> None:
    pictures = load_folder(TRAIN)
    variance = [
        PatchDataset(pictures, 64, busy=busy).batch(0, 200, seed=0).var(dim=(1, 2, 3)).mean()
        for busy in (0.0, 0.5, 1.0)
    ]
    assert variance[0] * 1.1 < variance[1] < variance[2] / 1.1


def test_folder_is_read_as_8_bit() -> None:
    told: list[float] = []
    pictures = load_folder(TRAIN, told.append)
    assert len(pictures) == sum(told) == 12
    assert {(p.dtype, p.shape) for p in pictures} == {(torch.uint8, (1, 256, 256))}


def test_colours_are_read_as_luminance_where_grey_is_asked_for(tmp_path: Path) -> None:
    colours = torch.tensor([1.0, 0.0, 0.0, 0.2]), torch.tensor([0.0, 1.0, 0.0, 0.2])
    pixels = torch.stack([*colours, torch.tensor([0.0, 0.0, 1.0, 0.2])])[:, None, :]
    pixels = pixels.repeat_interleave(8, 1).repeat_interleave(2, 2)
    write_picture(tmp_path / "a.png", pixels, Picture("a", pixels, None, "uint8"))
    (colour,), (grey,) = load_folder(tmp_path), load_folder(tmp_path, grey=True)
    assert (colour.shape, grey.shape) == ((3, 8, 8), (1, 8, 8))
    # 255 times .299, .587 and .114 (ITU-R BT.601), and a grey pixel as it is.
    assert grey[0, 0, ::2].tolist() == [76, 150, 29, 51]


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ([], "none given"),
        ([coded(16, 16, 0), coded(16, 16, 0)[:1]], r"channel counts \[1, 3\] are mixed"),
        ([coded(15, 30, 0)], "patches of 16 pixels do not fit in a picture 15 pixels small"),
    ],
)
def test_unusable_pictures(pictures: list[torch.Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PatchDataset(pictures, 16)
