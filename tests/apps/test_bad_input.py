"""Bad input: one clear line, exit code 2, nothing left behind."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from .helpers import FEW, Certes, save

NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def truncated(path: Path) -> None:
    Image.fromarray(NOISE).save(path)
    path.write_bytes(path.read_bytes()[:1000])


def animated(path: Path) -> None:
    frames = [Image.fromarray(NOISE[..., i]) for i in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def huge(path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    end = struct.pack(">I", zlib.crc32(header)) + b"\0\0\0\0IDAT\x35\xaf\x06\x1e"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + end)


def with_nan(path: Path) -> None:
    array = np.full((16, 16), 0.5, np.float32)
    array[3, 4] = np.nan
    tifffile.imwrite(path, array)


PICTURES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "truncated": ("a.png", truncated, "damaged or truncated"),
    "zero bytes": ("a.png", Path.touch, "the file is empty (0 bytes)"),
    "animated": ("a.png", animated, "animated (3 frames)"),
    "cmyk": (
        "a.jpg",
        lambda p: Image.fromarray(NOISE).convert("CMYK").save(p),
        "colour mode CMYK: convert the picture to RGB",
    ),
    "1x1": ("a.png", lambda p: Image.new("L", (1, 1)).save(p), "1 x 1 pixels is too small"),
    "20000x20000": ("a.png", huge, "is more than the limit of 8192 x 8192"),
    "nan": ("a.tif", with_nan, "1 values are NaN or infinite"),
    "missing": ("a.png", lambda p: None, "no such file"),
}


@pytest.mark.parametrize("case", PICTURES)
@pytest.mark.parametrize("command", ["restore", "degrade", "evaluate", "calibrate"])
def test_pictures(certes: Certes, model: Path, tmp_path: Path, command: str, case: str) -> None:
    name, store, message = PICTURES[case]
    path = tmp_path / "data" / name
    path.parent.mkdir()
    store(path)
    arguments: list[object] = ["--task", "denoise", "--noise", 0.1, "--out", tmp_path / "out"]
    if command in ("restore", "degrade"):
        arguments.append(path)
    else:
        arguments += ["--data", path.parent]
        if case == "missing":
            message = "no pictures in this folder"
    if command != "degrade":
        arguments += ["--model", model, *FEW]
    check(certes(command, *arguments), message, tmp_path)


def check(answer: object, message: str, folder: Path) -> None:
    code, out, err = (getattr(answer, name) for name in ("code", "out", "err"))
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert (code, out) == (2, "")
    assert not (folder / "out").exists()


DENOISE = ("--task", "denoise")
INPAINT = ("--task", "inpaint", "--noise", 0.02)
RESTORE: dict[str, tuple[tuple[object, ...], str]] = {
    "negative noise": ((*DENOISE, "--noise", -0.1), "noise: -0.1; give a standard deviation"),
    "noise in words": ((*DENOISE, "--noise", "much"), "noise: 'much'; give a number"),
    "noise nan": ((*DENOISE, "--noise", "nan"), "noise: nan; give"),
    "unknown model": (
        (*DENOISE, "--model", "nuclear"),
        "'nuclear' is neither a bundled model (nuclei",
    ),
    "alpha": ((*DENOISE, "--alpha", 1.5), "inside (0, 1), not 2, 1.5"),
    "device": ((*DENOISE, "--device", "abacus"), "device: 'abacus'"),
    "no mask": (INPAINT, "mask: --task inpaint needs --mask PNG"),
    "card missing": (
        (*DENOISE, "--noise", 0.1, "--calibration", "none.json"),
        "none.json: not a readable calibration card",
    ),
    "card without noise": (
        (*DENOISE, "--calibration", "none.json"),
        "a card holds for one noise level, not for an estimate",
    ),
    "foreign option": ((*DENOISE, "--factor", 2), "factor: --task denoise takes none"),
}


@pytest.mark.parametrize("case", RESTORE)
def test_options(certes: Certes, model: Path, picture: Path, tmp_path: Path, case: str) -> None:
    arguments, message = RESTORE[case]
    usual = ("--model", model, *FEW, "--out", tmp_path / "out")
    check(certes("restore", picture, *usual, *arguments), message, tmp_path)


def test_estimated_noise_for_inpainting(
    certes: Certes, model: Path, picture: Path, tmp_path: Path
) -> None:
    mask = save(tmp_path / "mask.png", torch.ones(1, 32, 32))
    arguments = ("--task", "inpaint", "--mask", mask, "--model", model)
    answer = certes("restore", picture, *arguments, "--out", tmp_path / "out")
    check(answer, "noise: it cannot be estimated from a picture with holes", tmp_path)


def test_mask_of_another_size(certes: Certes, model: Path, picture: Path, tmp_path: Path) -> None:
    mask = save(tmp_path / "mask.png", torch.ones(1, 16, 16))
    arguments = (*INPAINT, "--mask", mask, "--model", model, *FEW, "--out", tmp_path / "out")
    check(certes("restore", picture, *arguments), "mask has shape (1, 16, 16)", tmp_path)


def test_mask_that_is_no_mask(certes: Certes, model: Path, picture: Path, tmp_path: Path) -> None:
    arguments = (*INPAINT, "--mask", picture, "--model", model, *FEW, "--out", tmp_path / "out")
    check(certes("restore", picture, *arguments), "other values than 0", tmp_path)


@pytest.mark.parametrize("command", ["degrade", "evaluate", "calibrate"])
def test_factor_that_does_not_divide(
    certes: Certes, model: Path, folder: Path, tmp_path: Path, command: str
) -> None:
    task = ("--task", "super-resolve", "--factor", 5, "--out", tmp_path / "out")
    data = ("--data", folder, "--crop", 32, "--model", model, *FEW)
    if command == "calibrate":
        data += ("--alpha", 0.5, "--delta", 0.4)
    wanted = (folder / "cell-0.png",) if command == "degrade" else data
    check(certes(command, *task, *wanted), "factor 5 does not divide the sides 32 x 32", tmp_path)


@pytest.mark.parametrize("command", ["degrade", "evaluate", "calibrate"])
def test_negative_noise(
    certes: Certes, model: Path, folder: Path, tmp_path: Path, command: str
) -> None:
    task = (*DENOISE, "--noise", -1, "--out", tmp_path / "out")
    data = ("--data", folder, "--crop", 32, "--model", model)
    wanted = (folder,) if command == "degrade" else data
    check(certes(command, *task, *wanted), "noise: -1.0; give a standard deviation", tmp_path)


def test_super_resolved_picture_that_would_be_too_large(
    certes: Certes, model: Path, tmp_path: Path
) -> None:
    small = save(tmp_path / "a.png", torch.zeros(1, 300, 300))
    arguments = ("--task", "super-resolve", "--factor", 32, "--noise", 0.02, "--model", model)
    answer = certes("restore", small, *arguments, "--out", tmp_path / "out")
    check(answer, "9600 x 9600 pixels is more than the limit", tmp_path)


def test_truth_of_another_size(certes: Certes, model: Path, picture: Path, tmp_path: Path) -> None:
    truth = save(tmp_path / "truth.png", torch.ones(1, 16, 16))
    arguments = (*DENOISE, "--truth", truth, "--model", model, *FEW, "--out", tmp_path / "out")
    check(certes("restore", picture, *arguments), "truth: truth has shape (1, 16, 16)", tmp_path)


def test_grey_picture_for_a_colour_model(
    certes: Certes, colour_model: Path, picture: Path, tmp_path: Path
) -> None:
    arguments = (*DENOISE, "--model", colour_model, *FEW, "--out", tmp_path / "out")
    check(certes("restore", picture, *arguments), "the picture has 1", tmp_path)


def test_pictures_smaller_than_the_crop(
    certes: Certes, model: Path, folder: Path, tmp_path: Path
) -> None:
    arguments = (*DENOISE, "--data", folder, "--model", model, "--out", tmp_path / "out")
    check(certes("evaluate", *arguments), "32 x 32 pixels; give --crop 32 or less", tmp_path)


def test_usage_errors_exit_with_2(certes: Certes, picture: Path) -> None:
    for arguments in ((), ("--task", "denoise"), ("--task", "sharpen", "--out", "x")):
        assert certes("restore", picture, *arguments).code == 2
