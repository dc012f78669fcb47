from __future__ import annotations

import torch

from certes.data.mosaic import mosaic


def test_rows_then_columns() -> None:
    pictures = (torch.arange(5.0) + 1)[:, None, None, None].expand(5, 3, 2, 4)
    whole = mosaic(pictures, columns=3, gap=1)
    assert whole.shape == (3, 5, 14)
    assert whole[0, ::3, ::5].tolist() == [[1, 2, 3], [4, 5, 0]]
    assert (whole[:, 2] == 0).all()
    assert (whole[:, :, 4] == 0).all()


def test_every_pixel_is_kept() -> None:
    pictures = torch.rand(4, 1, 3, 5)
    whole = mosaic(pictures, columns=2, gap=2, fill=7)
    for i, picture in enumerate(pictures):
        top, left = i // 2 * 5, i % 2 * 7
        assert torch.equal(whole[:, top : top + 3, left : left + 5], picture)
    assert int((whole == 7).sum()) == whole.numel() - pictures.numel()


def test_one_picture_is_itself() -> None:
    picture = torch.rand(1, 3, 8, 8)
    assert torch.equal(mosaic(picture, columns=4)[..., :8], picture[0])
