from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from certes.training.loop import build
from certes.training.presets import TrainingConfig
from certes.training.preview import save_sample_grid, side_by_side


def test_rows_of_four() -> None:
    pictures = torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(8, 3, 2, 5)
    grid = side_by_side(pictures)
    assert grid.shape == (4, 20, 3)
    expected = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]], dtype=torch.uint8)
    assert torch.equal(grid[::2, ::5, 1], expected)


def test_grid_is_written_and_the_same_every_time(config: TrainingConfig, tmp_path: Path) -> None:
    denoiser = build(config)
    torch.nn.init.constant_(denoiser.net.conv_out.bias, -0.1)
    grid = save_sample_grid(denoiser, 16, tmp_path, step=30, calls=4)
    assert [path.name for path in tmp_path.iterdir()] == ["samples-30.png"]
    with Image.open(tmp_path / "samples-30.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), grid[..., 0].numpy())
    assert grid.shape == (64, 64, 1)
    assert grid.float().std() > 0
    assert torch.equal(grid, save_sample_grid(denoiser, 16, tmp_path / "two", step=1, calls=4))
