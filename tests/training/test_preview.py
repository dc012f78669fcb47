from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from certes.training.presets import TrainingConfig
from certes.training.preview import save_sample_grid
from certes.training.unconditional import Unconditional


def test_grid_is_written_and_the_same_every_time(config: TrainingConfig, tmp_path: Path) -> None:
    denoiser = Unconditional(config).build()
    torch.nn.init.constant_(denoiser.net.conv_out.bias, -0.1)
    grid = save_sample_grid(denoiser, 16, tmp_path, step=30, calls=4)
    assert [path.name for path in tmp_path.iterdir()] == ["samples-30.png"]
    with Image.open(tmp_path / "samples-30.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), grid[..., 0].numpy())
    assert grid.shape == (70, 70, 1)
    assert (grid[16:18] == 0).all()
    assert grid.float().std() > 0
    assert torch.equal(grid, save_sample_grid(denoiser, 16, tmp_path / "two", step=1, calls=4))


def test_the_first_samples_do_not_depend_on_how_many(
    config: TrainingConfig, tmp_path: Path
) -> None:
    denoiser = Unconditional(config).build()
    many, few = (save_sample_grid(denoiser, 16, tmp_path, n, count=n, calls=2) for n in (8, 4))
    assert (many[:16].int() - few.int()).abs().max() <= 1
