"""certes compress and decompress: files in, files out, one line when something is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tifffile
import torch

from certes.data.files import write_json
from certes.data.pictures import read_picture
from certes.networks.model import RATES, load
from certes.training.rates import measure_rates

from .helpers import Certes, names, save

LEVELS = torch.logspace(-2.5, 1, 5, dtype=torch.float64)


@pytest.fixture(scope="module")
def coder(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with its rates."""
    folder = tmp_path_factory.mktemp("models") / "coder"
    shutil.copytree(model, folder)
    patches = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    write_json(folder / RATES, measure_rates(load(model).denoiser, patches, LEVELS).to_dict())
    return folder


def test_lossless_there_and_back(
    certes: Certes, coder: Path, picture: Path, tmp_path: Path
) -> None:
    stream, out = tmp_path / "cell.crt", tmp_path / "out" / "again.png"
    sent = certes("compress", picture, stream, "--model", coder, "--json")
    assert sent.code == 0
    assert sent.json["exact"] is True
    assert sent.json["psnr"] is None
    assert sent.json["bytes"] == stream.stat().st_size
    assert sent.json["bits_per_pixel"] == pytest.approx(8 * stream.stat().st_size / 32**2)
    assert sent.json["ideal_bits_per_pixel"] < sent.json["bits_per_pixel"]
    got = certes("decompress", stream, out, "--model", coder, "--json")
    assert got.code == 0
    assert got.json["exact"] is True
    assert torch.equal(read_picture(out).pixels, read_picture(picture).pixels)
    assert names(out.parent) == ["again.png"]


def test_a_cut_file_gives_a_picture_with_intervals(
    certes: Certes, coder: Path, picture: Path, tmp_path: Path
) -> None:
    stream, out = tmp_path / "cell.crt", tmp_path / "out" / "cut.png"
    assert certes("compress", picture, stream, "--lossless", "--model", coder).code == 0
    stream.write_bytes(stream.read_bytes()[:60])
    arguments = ("decompress", stream, out, "--model", coder, "--as", "sample")
    drawing = ("--samples", 3, "--alpha", 0.5, "--steps", 2)
    got = certes(*arguments, *drawing, "--json")
    assert got.code == 0, got.err
    assert got.json["complete"] is False
    assert got.json["exact"] is False
    assert got.json["mean_width"] > 0
    assert names(out.parent) == ["cut.intervals.tif", "cut.panel.png", "cut.png"]
    lower, estimate, upper = tifffile.imread(out.parent / "cut.intervals.tif")
    assert (lower <= estimate).all()
    assert (estimate <= upper).all()
    words = certes(*arguments, *drawing)
    assert "The file is cut" in words.out
    assert "no guarantee" in words.out


def test_budget_and_what_it_says(
    certes: Certes, coder: Path, picture: Path, tmp_path: Path
) -> None:
    stream = tmp_path / "cell.crt"
    words = certes("compress", picture, stream, "--model", coder, "--bits-per-pixel", 2)
    assert words.code == 0
    assert 8 * stream.stat().st_size <= 2 * 32**2
    assert f"{stream.stat().st_size} bytes" in words.out
    assert "dB" in words.out
    got = certes("decompress", stream, tmp_path / "out.png", "--model", coder)
    assert got.code == 0
    assert "under noise of" in got.out


def test_mistakes_are_one_line(
    certes: Certes, coder: Path, model: Path, picture: Path, tmp_path: Path
) -> None:
    stream = tmp_path / "cell.crt"
    assert certes("compress", picture, stream, "--model", coder).code == 0
    garbage = tmp_path / "garbage.crt"
    garbage.write_bytes(b"nothing of the kind")
    see_through = save(tmp_path / "alpha.png", torch.rand(1, 16, 16), alpha=torch.ones(1, 16, 16))
    deep = save(tmp_path / "deep.png", torch.rand(1, 16, 16), "uint16")
    out = tmp_path / "out.png"
    both = ("--bits-per-pixel", 1, "--lossless")
    for arguments, words in {
        ("compress", picture, out, "--model", model): "measure_rates",
        ("compress", picture, out, "--model", coder, *both): "one of the three",
        ("compress", see_through, out, "--model", coder): "alpha",
        ("compress", deep, out, "--model", coder): "cannot be sent without loss",
        ("compress", tmp_path / "none.png", out, "--model", coder): "no such file",
        ("decompress", garbage, out, "--model", coder): "not a compressed picture",
        ("decompress", tmp_path / "none.crt", out, "--model", coder): "none.crt",
        ("decompress", stream, tmp_path / "out.xyz", "--model", coder): "cannot write",
    }.items():
        answer = certes(*arguments)
        assert answer.code == 2, arguments
        assert words in answer.err
        assert answer.err.count("\n") == 1
    assert not out.exists()
