"""Calibrations in parts, other promises than the default, and lambdas that differ."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from certes.apps.experiment import Experiment
from certes.intervals.cards import Calibration

from .helpers import FEW, Certes

LOOSE = ("--alpha", 0.5, "--delta", 0.4)
SETTINGS = ("--task", "denoise", "--noise", 0.1, "--alpha", 0.5, "--crop", 32, *FEW)


@pytest.fixture
def halves(folder: Path, tmp_path: Path) -> list[Path]:
    """The same pictures in two folders."""
    made: list[Path] = []
    for i, path in enumerate(sorted(folder.glob("*.png"))):
        half = tmp_path / f"half-{i % 2}"
        half.mkdir(exist_ok=True)
        shutil.copy(path, half / path.name)
        made.append(half)
    return made[:2]


def measured(certes: Certes, model: Path, data: Path, out: Path, *more: object) -> Path:
    settings = (*SETTINGS, "--delta", 0.4, "--model", model, *more)
    said = certes("calibrate", *settings, "--data", data, "--out", out)
    assert said.code == 0, said.err
    return out


def test_parts_make_one_card(
    certes: Certes, model: Path, halves: list[Path], tmp_path: Path
) -> None:
    parts = [
        measured(certes, model, half, tmp_path / f"{i}.tally", "--partial", "--seed", i)
        for i, half in enumerate(halves)
    ]
    cards: list[Calibration] = []
    for order in (parts, parts[::-1]):
        out = tmp_path / "card.json"
        said = certes("merge", *order, *LOOSE, "--out", out, "--json")
        assert said.code == 0, said.err
        assert (said.json["n"], said.json["images"]) == (4, 4)
        cards.append(replace(Calibration.load(out), date=""))
    assert cards[0] == cards[1]


def test_a_picture_counts_once(
    certes: Certes, model: Path, halves: list[Path], tmp_path: Path
) -> None:
    part = measured(certes, model, halves[0], tmp_path / "a.tally", "--partial")
    said = certes("merge", part, part, *LOOSE, "--out", tmp_path / "card.json")
    assert said.code == 2
    assert "2 picture(s) were measured more than once" in said.err
    assert not (tmp_path / "card.json").exists()


def test_parts_of_other_settings_do_not_belong_together(
    certes: Certes, model: Path, halves: list[Path], tmp_path: Path
) -> None:
    a = measured(certes, model, halves[0], tmp_path / "a.tally", "--partial")
    b = measured(certes, model, halves[1], tmp_path / "b.tally", "--partial", "--noise", 0.2)
    c = measured(certes, model, halves[1], tmp_path / "c.tally", "--partial", "--family", "std")
    for other, message in ((b, "noise: 0.1, not 0.2"), (c, "family: 'scale', not 'std'")):
        said = certes("merge", a, other, *LOOSE, "--out", tmp_path / "card.json")
        assert said.code == 2
        assert message in said.err
    (tmp_path / "d.tally").write_text("nothing")
    said = certes("merge", tmp_path / "d.tally", *LOOSE, "--out", tmp_path / "card.json")
    assert said.code == 2
    assert "not a readable tally" in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rule", "crc"), "average"),
        (("--rule", "image", "--tolerance", 0.3), "70 %"),
        (("--rule", "hb", "--family", "ratio"), "With probability at least 0.6"),
        (("--shape", "sides"), "With probability at least 0.6"),
    ],
)
def test_other_promises(
    certes: Certes,
    model: Path,
    folder: Path,
    tmp_path: Path,
    arguments: tuple[object, ...],
    words: str,
) -> None:
    settings = (*SETTINGS, "--delta", 0.4, "--model", model, *arguments)
    alpha = 0.6 if "sides" in arguments else 0.5
    if "sides" in arguments:  # several lambdas share the delta
        settings = (*settings, "--alpha", alpha, "--delta", 0.9)
    said = certes("calibrate", *settings, "--data", folder, "--out", tmp_path / "card.json")
    if "sides" in arguments:
        words = "With probability at least 0.1"
    assert said.code == 0, said.err
    assert words in said.out
    card = Calibration.load(tmp_path / "card.json")
    shown = certes("restore", next(folder.glob("*.png")), "--task", "denoise", "--noise", 0.1,
                   "--alpha", alpha, *FEW, "--model", model, "--calibration",
                   tmp_path / "card.json", "--out", tmp_path / "out", "--json")  # fmt: skip
    assert shown.code == 0, shown.err
    assert shown.json["guarantee"] == card.guarantee
    assert shown.json["delta"] == card.delta


def test_too_few_pictures_for_a_shape_are_refused_before_any_work(
    certes: Certes, model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object) -> None:
        raise AssertionError("a picture was restored")

    monkeypatch.setattr(Experiment, "run", work)
    said = certes("calibrate", *SETTINGS, "--delta", 0.4, "--shape", "sides", "--model", model,
                  "--data", folder, "--out", tmp_path / "card.json")  # fmt: skip
    assert said.code == 2
    assert "4 independent images or groups, at least 5 are needed" in said.err


def test_a_shape_needs_all_pictures_at_once(
    certes: Certes, model: Path, folder: Path, tmp_path: Path
) -> None:
    said = certes("calibrate", *SETTINGS, "--shape", "strata", "--partial", "--model", model,
                  "--data", folder, "--out", tmp_path / "p")  # fmt: skip
    assert said.code == 2
    assert "shape: strata needs all pictures at once" in said.err
