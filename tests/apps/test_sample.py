"""certes sample: what it draws, and its two figures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from certes.apps import chain_options
from certes.data.pictures import read_picture
from certes.diffusion.reverse import Variance
from certes.diffusion.solvers.sampling import SOLVERS
from certes.generation.interpolation import Mixing

from .helpers import Certes, names


def pixels(path: Path) -> torch.Tensor:
    return read_picture(path).pixels


def test_names_in_options_are_those_of_the_library() -> None:
    """They are written twice because the library's own need torch to be read."""
    assert {str(name) for name in chain_options.SolverName} == set(SOLVERS)
    assert {str(name) for name in chain_options.VarianceName} == set(Variance.__args__)
    assert {str(name) for name in chain_options.MixingName} == set(Mixing.__args__)


def test_progressive(certes: Certes, model: Path, tmp_path: Path) -> None:
    usual = ("sample", "--model", model, "--steps", 4, "-n", 2, "--json", "--out")
    answer = certes(*usual, tmp_path / "a", "--progressive").json
    frames = [f"sample-00{i}.frame-0{k}.png" for i in range(2) for k in range(4)]
    assert set(answer["files"]) == {
        "sample-000.png",
        "sample-001.png",
        "samples.png",
        *frames,
        "progressive.png",
    }
    assert names(tmp_path / "a") == sorted(answer["files"])
    assert len(answer["levels"]) == 4
    assert answer["levels"] == sorted(answer["levels"], reverse=True)
    last = pixels(tmp_path / "a" / "sample-001.frame-03.png")
    assert torch.equal(last, pixels(tmp_path / "a" / "sample-001.png"))
    certes(*usual, tmp_path / "b")
    assert torch.equal(last, pixels(tmp_path / "b" / "sample-001.png"))


def test_variations(certes: Certes, model: Path, tmp_path: Path) -> None:
    usual = ("sample", "--model", model, "-n", 2, "--variations", "--json", "--out")
    answer = certes(*usual, tmp_path / "a", "--level", 0.001, "--level", 5).json
    assert answer["levels"] == [5, 0.001]
    assert names(tmp_path / "a") == sorted(answer["files"])
    drawn = {name: pixels(tmp_path / "a" / name) for name in answer["files"][:-1]}
    apart = [
        (drawn[f"level-{row}.variation-000.png"] - drawn[f"level-{row}.variation-001.png"]).abs()
        for row in range(2)
    ]
    assert apart[0].mean() > 0.02
    assert apart[1].max() < 0.02
    assert len(certes(*usual, tmp_path / "b").json["levels"]) == 4


def test_solver_and_variance(certes: Certes, model: Path, tmp_path: Path) -> None:
    usual = ("sample", "--model", model, "--steps", 3, "-n", 1, "--json", "--out")
    paper = certes(*usual, tmp_path / "a", "--solver", "ancestral", "--variance", "large").json
    assert (paper["solver"], paper["variance"], paper["steps"]) == ("ancestral", "large", 3)
    certes(*usual, tmp_path / "b", "--solver", "ancestral")
    a, b = (pixels(tmp_path / name / "sample-000.png") for name in "ab")
    assert not torch.equal(a, b)


def test_colour(certes: Certes, colour_model: Path, tmp_path: Path) -> None:
    usual = ("sample", "--model", colour_model, "--steps", 2, "-n", 2, "--progressive")
    assert certes(*usual, "--out", tmp_path / "a").code == 0
    assert pixels(tmp_path / "a" / "sample-000.png").shape == (3, 16, 16)
    assert len(pixels(tmp_path / "a" / "progressive.png")) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--progressive", "--variations"), "progressive, variations: two ways"),
        (("--level", 1), "level: only --variations"),
        (("--variations", "--solver", "ddim"), "solver: 'ddim' adds no noise"),
        (("--variations", "--level", 0), "levels: [0.0]"),
        (("--solver", "ddim", "--variance", "large"), "only 'ancestral' has a choice"),
    ],
)
def test_refused(certes: Certes, model: Path, tmp_path: Path, arguments, message: str) -> None:
    answer = certes("sample", "--model", model, *arguments, "--out", tmp_path / "out")
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "out").exists()
