"""certes degrade: what comes out is what the library measures, and restore takes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from certes.data.pictures import read_picture
from certes.restoration.operators import SuperResolution

from .helpers import FEW, Certes, grey, names, save


def test_without_noise_it_is_the_operator(certes: Certes, picture: Path, tmp_path: Path) -> None:
    task = ("--task", "super-resolve", "--factor", 2, "--noise", 0)
    assert certes("degrade", picture, *task, "--out", tmp_path / "out").code == 0
    H, x = SuperResolution((1, 32, 32), 2), read_picture(picture).pixels[None]
    small = tifffile.imread(tmp_path / "out" / "cell.degraded.tif")
    assert small.dtype == np.float32
    np.testing.assert_array_equal(small, H(x)[0, 0])


def test_noise_has_its_level_is_not_clipped_and_differs_by_picture(
    certes: Certes, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        save(tmp_path / f"{name}.png", torch.zeros(1, 64, 64))
    task = ("--task", "denoise", "--noise", 0.1)
    assert (
        certes("degrade", tmp_path / "a.png", tmp_path / "b.png", *task, "--out", tmp_path).code
        == 0
    )
    a, b = (tifffile.imread(tmp_path / f"{name}.degraded.tif") for name in ("a", "b"))
    assert a.std() == pytest.approx(0.1, rel=0.05)
    assert a.min() < -0.2
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.1


def test_png_keeps_the_depth(certes: Certes, tmp_path: Path) -> None:
    source = save(tmp_path / "deep.png", torch.rand(3, 16, 16), "uint16")
    task = ("--task", "deblur", "--noise", 0, "--png")
    assert certes("degrade", source, *task, "--out", tmp_path).code == 0
    assert read_picture(tmp_path / "deep.degraded.png").dtype == "uint16"


def test_mask_is_the_one_that_was_used(
    certes: Certes, model: Path, picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    answer = certes(
        "degrade",
        picture,
        "--task",
        "inpaint",
        "--missing",
        0.5,
        "--noise",
        0,
        "--out",
        out,
        "--json",
    )
    (entry,) = answer.json["images"]
    assert entry["files"] == names(out) == ["cell.degraded.tif", "cell.mask.png"]
    known = read_picture(out / "cell.mask.png").pixels
    degraded = read_picture(out / "cell.degraded.tif").pixels
    assert known.unique().tolist() == [0, 1]
    assert float(known.mean()) == 0.5
    torch.testing.assert_close(degraded, read_picture(picture).pixels * known)
    restoring = ("--task", "inpaint", "--mask", out / "cell.mask.png", "--noise", 0.01, *FEW)
    arguments = (*restoring, "--model", model, "--out", tmp_path / "restored")
    assert certes("restore", out / "cell.degraded.tif", *arguments).code == 0


def test_one_bad_file_does_not_stop_the_rest(certes: Certes, picture: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.touch()
    other = grey(tmp_path / "other.png", 1)
    answer = certes("degrade", bad, picture, other, "--task", "denoise", "--out", tmp_path / "out")
    assert answer.code == 2
    assert answer.err.count("error: ") == 1
    assert names(tmp_path / "out") == ["cell.degraded.tif", "other.degraded.tif"]


def test_unclipped_copy_of_a_dark_picture_can_be_restored(
    certes: Certes, model: Path, tmp_path: Path
) -> None:
    dark = save(tmp_path / "dark.png", torch.zeros(1, 32, 32))
    task = ("--task", "denoise", "--noise", 0.1)
    assert certes("degrade", dark, *task, "--out", tmp_path).code == 0
    noisy = tmp_path / "dark.degraded.tif"
    assert tifffile.imread(noisy).min() < 0
    arguments = (*task, "--model", model, *FEW, "--out", tmp_path / "out")
    assert certes("restore", noisy, *arguments).code == 0
