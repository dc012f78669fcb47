"""certes interpolate: from one picture to the other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from certes.data.pictures import read_picture

from .helpers import Answer, Certes, grey, names, save


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return grey(tmp_path / "a.png"), grey(tmp_path / "b.png", 2)


def pixels(path: Path) -> torch.Tensor:
    return read_picture(path).pixels


def run(certes: Certes, model: Path, out: Path, *arguments: object) -> Answer:
    usual = ("--model", model, "--steps", 2, "--out", out, "--json")
    return certes("interpolate", *arguments, *usual)


def test_the_grid(certes: Certes, model: Path, pair, tmp_path: Path) -> None:
    out = tmp_path / "out"
    levels = ("--level", 0, "--level", 2, "--level", 0.003)
    answer = run(certes, model, out, *pair, *levels, "--lambdas", 3).json
    assert (answer["first"], answer["second"]) == ("a", "b")
    assert answer["levels"] == [2, 0.003, 0]
    assert answer["lambdas"] == [0, 0.5, 1]
    assert answer["mixing"] == "variance-preserving"
    assert names(out) == sorted(answer["files"])
    assert len(answer["files"]) == 10
    first, second = map(pixels, pair)
    for row, tolerance in ((2, 1e-6), (1, 0.03)):
        for column, end in ((0, first), (2, second)):
            got = pixels(out / f"level-{row}.lambda-0{column}.png")
            assert (got - end).abs().max() < tolerance
    middle = pixels(out / "level-2.lambda-01.png")
    assert (middle - (first + second) / 2).abs().max() <= 0.5 / 255 + 1e-6
    assert (pixels(out / "level-0.lambda-00.png") - first).abs().mean() > 0.02


def test_without_levels_they_are_the_papers(certes: Certes, model, pair, tmp_path: Path) -> None:
    answer = run(certes, model, tmp_path / "out", *pair, "--lambdas", 2, "--mixing", "linear")
    assert len(answer.json["levels"]) == 9
    assert answer.json["levels"][-1] == 0
    assert answer.json["mixing"] == "linear"


def test_colour_larger_than_the_model_and_deep(
    certes: Certes, colour_model: Path, tmp_path: Path
) -> None:
    a, b = (save(tmp_path / f"{n}.png", torch.rand(3, 24, 40), "uint16") for n in "ab")
    out = tmp_path / "out"
    assert run(certes, colour_model, out, a, b, "--level", 0, "--lambdas", 2).code == 0
    got = read_picture(out / "level-0.lambda-00.png")
    assert got.dtype == "uint16"
    assert torch.equal(got.pixels, pixels(a))


def test_alpha_is_left_behind(certes: Certes, model: Path, tmp_path: Path) -> None:
    a = save(tmp_path / "a.png", torch.rand(1, 16, 16), alpha=torch.rand(1, 16, 16))
    out = tmp_path / "out"
    assert run(certes, model, out, a, a, "--level", 0, "--lambdas", 2).code == 0
    assert read_picture(out / "level-0.lambda-00.png").alpha is None


def test_refused(certes: Certes, model: Path, pair, tmp_path: Path) -> None:
    other = save(tmp_path / "small.png", torch.rand(1, 16, 24))
    colour = save(tmp_path / "colour.png", torch.rand(3, 32, 32))
    out = tmp_path / "out"
    for arguments, message in (
        ((pair[0], other), "small.png: 24 x 16 pixels, but"),
        ((pair[0], colour), "colour.png: 3 colour channel(s), the model has 1"),
        ((pair[0], tmp_path / "none.png"), "none.png: no such file"),
        ((*pair, "--level", -1), "level: -1"),
        ((*pair, "--lambdas", 1), "lambdas"),
    ):
        answer = run(certes, model, out, *arguments)
        assert answer.code == 2
        assert message in answer.err
        assert not out.exists()
