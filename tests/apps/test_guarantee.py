"""Cards on the command line: made, applied, refused, found beside the model, and verified."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from certes.apps.cards import find_card
from certes.apps.measuring import ByOperator
from certes.apps.options import DEFAULT_NOISE, SamplerName, SamplingOptions, TaskName, TaskOptions
from certes.apps.restorer import load_restorer
from certes.apps.tasks import make_task
from certes.data.bundled import bundled_pictures
from certes.intervals.cards import Calibration

from .helpers import FEW, Certes, names, save

LOOSE = ("--alpha", 0.5)
NOISY = ("--task", "denoise", "--noise", 0.1)


@pytest.fixture
def own_model(model: Path, tmp_path: Path) -> Path:
    """A copy of the model, to put cards beside."""
    return Path(shutil.copytree(model, tmp_path / "model"))


@pytest.fixture
def card(certes: Certes, own_model: Path, folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "card.json"
    arguments = (*NOISY, *LOOSE, "--delta", 0.4, "--crop", 32, *FEW)
    answer = certes("calibrate", *arguments, "--model", own_model, "--data", folder, "--out", path)
    assert answer.code == 0, answer
    assert "With probability at least 0.6 over the choice of the 4 images" in answer.out
    return path


def test_card_says_what_it_holds_for(card: Path, own_model: Path) -> None:
    """What is foreseen before the first network call is what the bounds said of themselves."""
    sampling = SamplingOptions(str(own_model), 2, 2, 0.5, 0, SamplerName.PINNED, "cpu")
    task = make_task(TaskOptions(TaskName.DENOISE))
    nominal = ByOperator(task, 0.1, 0).nominal
    foreseen = load_restorer(sampling).provenance(nominal)
    assert Calibration.load(card).provenance == foreseen


@pytest.mark.parametrize("task", [t for t in TaskName if t is not TaskName.COLORIZE])
def test_provenance_is_foreseen_for_every_task(
    certes: Certes, model: Path, folder: Path, tmp_path: Path, task: TaskName
) -> None:
    path = tmp_path / "card.json"
    settings = ("--task", task, *LOOSE, "--delta", 0.4, "--crop", 32, *FEW)
    made = certes("calibrate", *settings, "--model", model, "--data", folder, "--out", path)
    assert made.code == 0, made
    sampling = SamplingOptions(str(model), 2, 2, 0.5, 0, None, "cpu")
    nominal = ByOperator(make_task(TaskOptions(task)), DEFAULT_NOISE[task], 0).nominal
    foreseen = load_restorer(sampling).provenance(nominal)
    assert find_card(path, str(model), foreseen) == Calibration.load(path)


def test_restore_with_a_card(
    certes: Certes, own_model: Path, card: Path, folder: Path, tmp_path: Path
) -> None:
    picture, out = folder / "cell-0.png", tmp_path / "out"
    arguments = (*NOISY, *LOOSE, *FEW, "--model", own_model, "--out", out, "--truth", picture)
    raw = certes("restore", picture, *arguments, "--json").json
    told = certes("restore", picture, *arguments, "--calibration", card, "--json").json
    calibration = Calibration.load(card)
    assert raw["guarantee"] is None
    assert raw["delta"] is None
    assert told["guarantee"] == calibration.guarantee
    assert told["delta"] == 0.4
    assert told["images"][0]["mean_width"] != raw["images"][0]["mean_width"]
    said = certes("restore", picture, *arguments, "--calibration", card)
    assert calibration.guarantee in said.out


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (("--task", "deblur"), "operator: 'denoise', not 'deblur"),
        (("--noise", 0.2), "noise: 0.1, not 0.2"),
        (("--steps", 3), "steps: 2, not 3"),
        (("--alpha", 0.4), "alpha: 0.5, not 0.4"),
        (("--sampler", "ddrm"), "sampler: 'pinned', not 'ddrm'"),
    ],
)
def test_card_for_other_settings_is_refused(
    certes: Certes,
    own_model: Path,
    card: Path,
    folder: Path,
    tmp_path: Path,
    other: tuple[object, ...],
    message: str,
) -> None:
    usual = (*NOISY, *LOOSE, *FEW, "--model", own_model, "--calibration", card)
    out = ("--out", tmp_path / "out")
    answers = [
        certes("restore", folder / "cell-0.png", *usual, *out, *other),
        certes("evaluate", "--data", folder, "--crop", 32, *usual, *out, *other),
    ]
    for answer in answers:
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.count("\n") == 1
        assert message in answer.err
    assert not (tmp_path / "out").exists()


def test_a_shipped_card_is_found_when_it_holds_and_only_then(
    certes: Certes, own_model: Path, card: Path, folder: Path, tmp_path: Path
) -> None:
    (own_model / "cards").mkdir()
    shutil.copy(card, own_model / "cards" / "denoise.json")
    sentence = Calibration.load(card).guarantee
    usual = (*NOISY, *LOOSE, *FEW, "--model", own_model, "--out", tmp_path / "out", "--json")
    picture = folder / "cell-0.png"
    assert certes("restore", picture, *usual).json["guarantee"] == sentence
    assert certes("restore", picture, *usual, "--noise", 0.2).json["guarantee"] is None
    assert certes("restore", picture, *usual, "--noise", "auto").json["guarantee"] is None
    shown = certes("models", "show", own_model, "--json").json
    (listed,) = shown["cards"]
    assert (listed["name"], listed["operator"]) == ("denoise", "denoise")
    assert listed["guarantee"] == sentence


def test_evaluate_compares_raw_and_calibrated(
    certes: Certes, own_model: Path, card: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = (*NOISY, *LOOSE, *FEW, "--crop", 32, "--model", own_model, "--data", folder)
    answer = certes("evaluate", *arguments, "--calibration", card, "--out", out)
    assert answer.code == 0
    assert "calibrated" in answer.out
    report = json.loads((out / "report.json").read_text())
    scores = report["settings"]["scores"]
    panels = [f"cell-{i}.panel.png" for i in range(4)]
    assert names(out) == [*panels, "report.html", "report.json"]
    assert Calibration.load(card).guarantee in (out / "report.html").read_text(encoding="utf-8")
    assert report["settings"]["card"]["lambda"] == Calibration.load(card).size
    assert scores["curve"]["size"] == Calibration.load(card).size
    assert scores["raw"]["images"] == 4
    assert scores["calibrated"]["risk"] <= 0.5  # the very pictures of the calibration
    coverage = [image["coverage"] for image in report["images"]]
    assert sum(coverage) / 4 == pytest.approx(1 - scores["calibrated"]["risk"])
    assert scores["psnr_degraded"] == pytest.approx(20, abs=0.5)  # noise 0.1


def test_too_few_pictures_are_refused_before_any_work(
    certes: Certes, model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certes.apps.experiment.Experiment.run", pytest.fail)
    arguments = (*NOISY, "--crop", 32, *FEW, "--model", model, "--data", folder)
    answer = certes("calibrate", *arguments, "--out", tmp_path / "card.json")
    assert answer.code == 2
    assert "4 independent images or groups, at least" in answer.err
    assert not (tmp_path / "card.json").exists()


def test_a_colour_picture_is_one_picture(certes: Certes, model: Path, tmp_path: Path) -> None:
    """Also for a grey model; a card says that it judged colours."""
    (tmp_path / "rgb").mkdir()
    for i in range(4):
        save(tmp_path / "rgb" / f"{i}.png", torch.rand(3, 16, 16))
    arguments = (*NOISY, *LOOSE, "--delta", 0.4, "--crop", 16, *FEW, "--model", model, "--json")
    path = tmp_path / "card.json"
    card = certes("calibrate", *arguments, "--data", tmp_path / "rgb", "--out", path).json
    assert (card["n"], card["images"], card["grouped"]) == (4, 4, False)
    assert card["provenance"]["model"].endswith("/opponent")


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """Four pictures like those of the folder."""
    (tmp_path / "held-out").mkdir()
    pixels = bundled_pictures()[-1].pixels[:, 160:192]
    for i in range(4):
        save(tmp_path / "held-out" / f"new-{i}.png", pixels[..., 64 + 32 * i : 96 + 32 * i])
    return tmp_path / "held-out"


def test_verify_a_card(
    certes: Certes, own_model: Path, card: Path, held_out: Path, tmp_path: Path
) -> None:
    usual = ("--data", held_out, "--crop", 32, "--model", own_model)
    kept = certes("verify", card, *usual, "--json")
    assert kept.code == 0
    assert (kept.json["verdict"], kept.json["images"]) == ("holds", 4)
    content = json.loads(card.read_text())
    card.write_text(json.dumps({**content, "lambda": 1e-9}))
    broken = certes("verify", card, *usual)
    assert broken.code == 2
    assert "Verdict: broken" in broken.out


def test_verify_a_card_of_another_model(
    certes: Certes, card: Path, colour_model: Path, folder: Path
) -> None:
    answer = certes("verify", card, "--data", folder, "--crop", 32, "--model", colour_model)
    assert answer.code == 2
    assert "this calibration does not hold for these bounds" in answer.err


def test_verify_needs_to_know_what(certes: Certes, card: Path) -> None:
    for arguments, message in (
        ((), "give a calibration card to check, or --synthetic"),
        ((card, "--synthetic"), "and not both"),
        ((card,), "data: give --data DIR"),
    ):
        answer = certes("verify", *arguments)
        assert answer.code == 2
        assert message in answer.err


def test_verify_synthetic_rejects_controls_or_says_so(certes: Certes) -> None:
    """Three trials have no power: the unsound procedures pass, and the exit code must say so."""
    answer = certes("verify", "--synthetic", "--trials", 3, "--json")
    rows = answer.json["rows"]
    assert {row["control"] for row in rows} == {True, False}
    wrong = [row for row in rows if (row["verdict"] == "rejected") != row["control"]]
    assert wrong
    assert all(row["as_expected"] == (row not in wrong) for row in rows)
    assert answer.json["holds"] is False
    assert answer.code == 2
    assert "NOT as it must be" in certes("verify", "--synthetic", "--trials", 3).out
