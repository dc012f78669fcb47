"""certes restore: files, reports, colours, depths, truths, cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

import certes as library
from certes.data.pictures import read_picture
from certes.restoration.noise import estimate_noise
from certes.restoration.operators import Denoise

from .helpers import FEW, Certes, grey, names, save


def test_files_and_report(certes: Certes, model: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--task", "denoise", "--noise", 0.1, "--model", model, "--out", out, *FEW)
    answer = certes("restore", picture, *arguments, "--truth", picture, "--json")
    assert answer.code == 0
    assert answer.err == ""
    assert names(out) == [
        "cell.intervals.tif", "cell.panel.png", "cell.restored.png", "report.json",
    ]  # fmt: skip
    report = answer.json
    assert (report["version"], report["model"]) == (library.__version__, "tiny")
    assert (report["task"], report["noise"], report["alpha"]) == ("denoise", 0.1, 0.1)
    assert report["guarantee"] is None
    assert report["failures"] == []
    assert report["settings"]["samples"] == report["settings"]["steps"] == 2
    (image,) = report["images"]
    assert set(image) == {"name", "mean_width", "seconds", "nfe", "psnr", "coverage"}
    assert (image["name"], image["nfe"]) == ("cell", 2)


def test_it_is_the_restoration_of_the_library(
    certes: Certes, model: Path, picture: Path, tmp_path: Path
) -> None:
    arguments = ("--task", "denoise", "--noise", 0.1, "--model", model, "--out", tmp_path, *FEW)
    answer = certes("restore", picture, *arguments, "--seed", 3, "--truth", picture, "--json")
    pixels = read_picture(picture).pixels[None]
    posterior = library.restore(
        pixels,
        Denoise((1, 32, 32)),
        library.load(str(model)),
        noise=0.1,
        samples=2,
        steps=2,
        seed=3,
    )
    bounds = posterior.bounds(0.1)
    with tifffile.TiffFile(tmp_path / "cell.intervals.tif") as file:
        lower, estimate, upper = (page.asarray() for page in file.pages)
    np.testing.assert_allclose(lower, bounds.lower[0, 0], atol=1e-6)
    np.testing.assert_allclose(estimate, bounds.estimate[0, 0], atol=1e-6)
    np.testing.assert_allclose(upper, bounds.upper[0, 0], atol=1e-6)
    (image,) = answer.json["images"]
    scores = library.evaluate(bounds, pixels)
    assert image["coverage"] == pytest.approx(1 - scores["risk"])
    assert image["psnr"] == pytest.approx(scores["psnr"], abs=1e-4)
    assert image["mean_width"] == pytest.approx(scores["width"])
    restored = read_picture(tmp_path / "cell.restored.png")
    assert (restored.pixels - bounds.estimate[0]).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_bit_depth_colours_and_alpha_are_kept(
    certes: Certes, model: Path, tmp_path: Path, dtype: str
) -> None:
    pixels, alpha = torch.rand(3, 16, 24), torch.rand(1, 16, 24).round()
    suffix = ".tif" if dtype == "float32" else ".png"
    source = save(tmp_path / f"rgb{suffix}", pixels, dtype, alpha)
    arguments = ("--task", "denoise", "--noise", 0.1, "--model", model, "--out", tmp_path / "out")
    answer = certes("restore", source, *arguments, *FEW, "--json")
    restored = read_picture(tmp_path / "out" / f"rgb.restored{suffix}")
    assert answer.json["settings"]["colours"] == "opponent"
    assert restored.dtype == dtype
    assert restored.alpha is not None
    assert torch.equal(restored.alpha, alpha)
    with tifffile.TiffFile(tmp_path / "out" / "rgb.intervals.tif") as file:
        assert [page.shape for page in file.pages] == [(16, 24, 3)] * 3


def test_a_colour_model_sees_all_channels_at_once(
    certes: Certes, colour_model: Path, tmp_path: Path
) -> None:
    source = save(tmp_path / "rgb.png", torch.rand(3, 16, 24))
    arguments = ("--task", "denoise", "--noise", 0.1, "--model", colour_model, "--out", tmp_path)
    assert certes("restore", source, *arguments, *FEW).code == 0
    assert read_picture(tmp_path / "rgb.restored.png").pixels.shape == (3, 16, 24)


def test_super_resolution_enlarges_picture_and_alpha(
    certes: Certes, model: Path, tmp_path: Path
) -> None:
    source = save(tmp_path / "small.png", torch.rand(1, 8, 12), alpha=torch.ones(1, 8, 12))
    arguments = ("--task", "super-resolve", "--factor", 3, "--noise", 0.02, "--model", model)
    assert certes("restore", source, *arguments, "--out", tmp_path, *FEW).code == 0
    restored = read_picture(tmp_path / "small.restored.png")
    assert restored.pixels.shape == (1, 24, 36)
    assert restored.alpha is not None
    assert bool((restored.alpha == 1).all())


def test_noise_is_estimated(certes: Certes, model: Path, tmp_path: Path) -> None:
    noisy = (0.5 + 0.05 * torch.randn(1, 64, 64)).clamp(0, 1)
    source = save(tmp_path / "noisy.tif", noisy, "float32")
    arguments = ("--task", "denoise", "--model", model, "--out", tmp_path, *FEW, "--json")
    report = certes("restore", source, *arguments).json
    assert report["noise"] == pytest.approx(float(estimate_noise(noisy[None])), rel=1e-6)
    assert report["noise"] == pytest.approx(0.05, rel=0.1)
    assert report["settings"]["noise_estimated"]


def test_one_bad_file_does_not_stop_the_rest(
    certes: Certes, model: Path, picture: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.touch()
    other = grey(tmp_path / "other.png", 2)
    out = tmp_path / "out"
    arguments = ("--task", "denoise", "--noise", 0.1, "--model", model, "--out", out, *FEW)
    answer = certes("restore", picture, bad, other, *arguments, "--json")
    assert answer.code == 2
    assert answer.err == f"error: {bad}: the file is empty (0 bytes): copy or export it again\n"
    report = answer.json
    assert [image["name"] for image in report["images"]] == ["cell", "other"]
    (failure,) = report["failures"]
    assert failure["name"] == "bad.png"
    assert "0 bytes" in failure["error"]
    assert not [name for name in names(out) if name.startswith(("bad", "."))]
    assert len(names(out)) == 7


def test_results_of_a_picture_come_together_or_not_at_all(
    certes: Certes, model: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "panel.png")

    monkeypatch.setattr("certes.apps.plans.restoration_panel", full)
    arguments = ("--task", "denoise", "--noise", 0.1, "--model", model, *FEW)
    answer = certes("restore", picture, *arguments, "--out", tmp_path / "out")
    assert (answer.code, answer.err) == (2, "error: panel.png: No space left on device\n")
    assert names(tmp_path / "out") == []


def test_truths_from_a_folder_by_name(
    certes: Certes, model: Path, folder: Path, tmp_path: Path
) -> None:
    degraded = tmp_path / "degraded"
    task = ("--task", "denoise", "--noise", 0.01)
    assert certes("degrade", folder, *task, "--png", "--out", degraded).code == 0
    (folder / "cell-2.png").unlink()
    arguments = (*task, "--model", model, "--out", tmp_path / "out", *FEW)
    answer = certes("restore", degraded, *arguments, "--truth", folder, "--json")
    assert answer.code == 2
    assert "holds no picture named cell-2.degraded" in answer.err
    assert len([image for image in answer.json["images"] if "psnr" in image]) == 3


def test_two_inputs_of_one_name_are_refused(
    certes: Certes, model: Path, picture: Path, tmp_path: Path
) -> None:
    twin = save(tmp_path / "cell.tif", read_picture(picture).pixels)
    arguments = ("--task", "denoise", "--noise", 0.1, "--model", model, "--out", tmp_path / "out")
    answer = certes("restore", picture, twin, *arguments, *FEW)
    assert answer.code == 2
    assert "several pictures are named 'cell'" in answer.err
    assert not (tmp_path / "out").exists()


def test_words_for_people(certes: Certes, model: Path, picture: Path, tmp_path: Path) -> None:
    arguments = ("--task", "denoise", "--noise", 0.1, "--model", model, "--out", tmp_path, *FEW)
    answer = certes("restore", picture, *arguments)
    assert "These intervals carry no guarantee" in answer.out
    assert "cell" in answer.out
