"""Every task of the command line, from a true picture to its restoration."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from certes.data.bundled import bundled_pictures
from certes.data.pictures import read_picture
from certes.evaluation.metrics import psnr

from .helpers import FEW, Certes, names, save

BUNDLED = ("--model", "nuclei", "--samples", 4, "--steps", 6, "--alpha", 0.4)


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """A crowded crop of a bundled picture."""
    return save(tmp_path / "cells.png", bundled_pictures()[0].pixels[:, 64:128, 64:128])


def gain(certes: Certes, truth: Path, out: Path, degraded: str, *task: object) -> float:
    """Degrade and restore with the bundled model; dB gained."""
    degrading = [a for a in task if a not in ("--noise", "auto")]
    assert certes("degrade", truth, *degrading, "--out", out).code == 0
    answer = certes("restore", out / degraded, *task, *BUNDLED, "--truth", truth, "--out", out)
    assert answer.code == 0, answer.err
    x = read_picture(truth).pixels[None]
    restored = read_picture(next(out.glob("*.restored.*"))).pixels[None]
    if degraded.endswith(".safetensors"):
        return float(psnr(restored, x)) - float(psnr(torch.full_like(x, float(x.mean())), x))
    return float(psnr(restored, x)) - float(
        psnr(read_picture(out / degraded, noisy=True).pixels[None], x)
    )


def test_jpeg(certes: Certes, cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert gain(certes, cells, out, "cells.degraded.tif", "--task", "jpeg", "--quality", 10) > 0.5


def test_jpeg_says_its_quality_itself(certes: Certes, cells: Path, tmp_path: Path) -> None:
    Image.open(cells).save(tmp_path / "small.jpg", quality=23)
    arguments = ("--task", "jpeg", *BUNDLED, "--out", tmp_path / "out", "--json")
    report = certes("restore", tmp_path / "small.jpg", *arguments).json
    assert '"quality": 23' in report["settings"]["operators"]["small"]
    refused = certes("restore", cells, *arguments)
    assert refused.code == 2
    assert "PNG, which does not say" in refused.err
    named = certes("restore", cells, *arguments, "--quality", 30)
    assert named.code == 0, named.err


def test_compressed_sensing(certes: Certes, cells: Path, tmp_path: Path) -> None:
    out, task = tmp_path / "out", ("--task", "compressed-sensing")
    file = "cells.measured.safetensors"
    assert gain(certes, cells, out, file, *task) > 6
    assert {"cells.restored.png", "cells.panel.png", file} <= set(names(out))
    refused = certes("restore", cells, *task, *BUNDLED, "--out", out)
    assert refused.code == 2
    assert "compressed sensing measures no picture" in refused.err


def test_motion_blur_leaves_the_border_unknown(certes: Certes, cells: Path, tmp_path: Path) -> None:
    task = ("--task", "deblur", "--kernel", "motion:7,30", "--noise", 0.02)
    out = tmp_path / "out"
    assert certes("degrade", cells, *task, "--out", out).code == 0
    blurred = read_picture(out / "cells.degraded.tif", noisy=True).pixels
    assert blurred.shape[1] < 64
    assert blurred.shape[2] < 64
    arguments = (*task, *BUNDLED, "--truth", cells, "--out", out, "--json")
    (image,) = certes("restore", out / "cells.degraded.tif", *arguments).json["images"]
    restored = read_picture(out / "cells.degraded.restored.tif").pixels
    assert restored.shape == blurred.shape
    rows, columns = (64 - side for side in blurred.shape[1:])
    x = read_picture(cells).pixels[:, rows // 2 :, columns // 2 :]
    seen = float(psnr(blurred[None], x[None, :, : blurred.shape[1], : blurred.shape[2]]))
    assert image["psnr"] > seen + 1


def test_a_picture_of_the_kernel(certes: Certes, cells: Path, tmp_path: Path) -> None:
    # One tap on the pixel, one to its left: y_j is the mean of x_j and x_(j + 1).
    kernel = torch.zeros(1, 5, 5)
    kernel[0, 2, 1:3] = 1.0
    picture = save(tmp_path / "kernel.png", kernel)
    task = ("--task", "deblur", "--kernel", picture, "--noise", 0.01)
    out = tmp_path / "out"
    assert certes("degrade", cells, *task, "--out", out).code == 0
    x, y = (read_picture(p, noisy=True).pixels for p in (cells, out / "cells.degraded.tif"))
    assert y.shape == (1, 64, 62)
    expected = (x[..., 1:-1] + x[..., 2:]) / 2
    assert float((y - expected).std()) == pytest.approx(0.01, rel=0.1)


def test_a_width_that_nobody_told(certes: Certes, tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.png", bundled_pictures()[0].pixels)
    task = ("--task", "deblur", "--kernel", "gaussian:2", "--noise", 0.01)
    assert certes("degrade", whole, *task, "--out", tmp_path).code == 0
    few = ("--model", "nuclei", *FEW, "--alpha", 0.5, "--out", tmp_path / "out", "--json")
    auto = ("--task", "deblur", "--kernel", "auto", "--noise", 0.01)
    report = certes("restore", tmp_path / "whole.degraded.tif", *auto, *few).json
    label = report["settings"]["operators"]["whole.degraded"]
    taps = [float(tap) for tap in label.split("[")[1].split("]")[0].split(",")]
    offsets = torch.arange(len(taps)) - len(taps) // 2
    width = float((torch.tensor(taps) * offsets**2).sum().sqrt())
    assert 1.3 < width < 3


def test_noise_that_grows_with_the_signal(certes: Certes, tmp_path: Path) -> None:
    x = bundled_pictures()[0].pixels.clamp(min=0.05)
    generator = torch.Generator().manual_seed(0)
    y = x + (0.02 * x + 0.01**2).sqrt() * torch.randn(x.shape, generator=generator)
    source = save(tmp_path / "photons.tif", y.clamp(0, 1), "float32")
    arguments = ("--task", "denoise", "--noise", "poisson", "--model", "nuclei", *FEW)
    answer = certes("restore", source, *arguments, "--alpha", 0.5, "--out", tmp_path, "--json")
    assert answer.code == 0, answer.err
    # The level that is reported is that of mid-grey.
    assert answer.json["noise"] == pytest.approx((0.02 / 2 + 0.01**2) ** 0.5, rel=0.25)


def test_colours_of_a_grey_picture(certes: Certes, colour_model: Path, tmp_path: Path) -> None:
    rgb = save(tmp_path / "rgb.png", torch.rand(3, 16, 16))
    task = ("--task", "colorize", "--noise", 0.02)
    assert certes("degrade", rgb, *task, "--out", tmp_path).code == 0
    grey = tmp_path / "rgb.degraded.tif"
    assert read_picture(grey, noisy=True).pixels.shape == (1, 16, 16)
    arguments = (*task, "--model", colour_model, *FEW, "--out", tmp_path)
    assert certes("restore", grey, *arguments).code == 0
    assert read_picture(tmp_path / "rgb.degraded.restored.tif").pixels.shape == (3, 16, 16)
    again = certes("restore", rgb, *arguments)
    assert "the picture has 3 channels already" in again.err
    assert "the picture is grey" in certes("degrade", grey, *task, "--out", tmp_path).err


def test_a_kernel_that_changes_brightness(certes: Certes, cells: Path, tmp_path: Path) -> None:
    arguments = ("--task", "deblur", "--kernel", "unknown:3", "--out", tmp_path)
    answer = certes("restore", cells, *arguments)
    assert answer.code == 2
    assert "give gaussian:SIGMA" in answer.err
