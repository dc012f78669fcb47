"""Bounds in one pass on the command line: tuned, restored with, calibrated, verified, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tifffile
import torch

import certes as library
from certes.apps.commands.tune import HeadName, TuneTaskName
from certes.apps.jobs.tune import made_task
from certes.conditional.one_pass.model import OnePassModel
from certes.conditional.tasks import TASKS
from certes.intervals.cards import Calibration
from certes.networks.heads import HEADS

from .helpers import Certes, names
from .test_conditional import config_of, mirrored

NUCLEI = Path(__file__).parents[1] / "data" / "nuclei-train"
LOOSE = ("--delta", 0.4, "--alpha", 0.5, "--crop", 32)


def loaded(folder: Path) -> OnePassModel:
    model = library.load(folder, "cpu")
    assert isinstance(model, OnePassModel)
    return model


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A preset to start from: super-resolution of small patches."""
    path = tmp_path_factory.mktemp("preset") / "sr.json"
    path.write_text(json.dumps(config_of("super-resolve", estimator=_still(), network=_alone())))
    return path


def _still() -> dict[str, object]:
    return config_of("super-resolve")["estimator"] | {"y": {"kind": "still"}}


def _alone() -> dict[str, object]:
    return config_of("super-resolve")["network"] | {"out_channels": 1}


def test_a_model_of_pictures_is_tuned_used_calibrated_and_verified(
    certes: Certes, model: Path, folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    said = certes(
        *("tune", model, "--task", "super-resolve", "--size", 2, "--steps", 4),
        *("--data", NUCLEI, "--out", run, "--json"),
    )
    assert said.code == 0, said.err
    assert said.json["method"] == "g-conffusion"
    tuned = loaded(run / "model")
    assert tuned.card["training"]["patch"] == 16  # the model's own
    assert tuned.task == made_task("super-resolve", None, 2)
    low = tmp_path / "low"
    truth = next(folder.glob("*.png"))
    certes("degrade", truth, "--task", "super-resolve", "--factor", 2, "--noise", 0, "--out", low)
    given = next(low.glob("*.tif"))
    card = tmp_path / "card.json"
    made = certes("calibrate", "--model", run / "model", "--data", folder, *LOOSE, "--out", card)
    assert made.code == 0, made.err
    restored = certes(
        *("restore", given, "--model", run / "model", "--alpha", 0.5),
        *("--calibration", card, "--out", tmp_path / "out", "--json"),
    )
    assert restored.code == 0, restored.err
    assert restored.json["guarantee"] == Calibration.load(card).guarantee
    assert restored.json["images"][0]["nfe"] == 1
    assert restored.json["settings"]["method"] == "g-conffusion"
    name = restored.json["images"][0]["name"]
    assert f"{name}.intervals.tif" in names(tmp_path / "out")
    pages = torch.as_tensor(tifffile.imread(tmp_path / "out" / f"{name}.intervals.tif"))
    y = library.data.pictures.read_picture(given).pixels[None]  # pyright: ignore
    expected = Calibration.load(card)(tuned(y))
    torch.testing.assert_close(pages[0].reshape(32, 32), expected.lower[0, 0])
    held = ("--model", run / "model", "--data", mirrored(folder, tmp_path / "new", 2), "--crop", 32)
    scored = certes("evaluate", *held, "--calibration", card, "--out", tmp_path / "s", "--json")
    assert scored.code == 0, scored.err
    checked = certes("verify", card, *held, "--json").json
    assert checked["images"] == 4
    assert checked["risk"] == scored.json["settings"]["scores"]["calibrated"]["risk"]


def test_a_preset_starts_from_nothing_and_its_model_may_be_tuned(
    certes: Certes, conditional: Path, tmp_path: Path
) -> None:
    fresh = certes(
        *("tune", conditional, "--head", "gaussian", "--alpha", 0.3, "--data", NUCLEI),
        *("--out", tmp_path / "fresh", "--json"),
    )
    assert fresh.code == 0, fresh.err
    assert (fresh.json["method"], fresh.json["steps"]) == ("adm-uq", 3)
    head = loaded(tmp_path / "fresh" / "model").network.head
    assert (head.kind, head.alpha) == ("gaussian", 0.3)
    certes("train", conditional, "--data", NUCLEI, "--out", tmp_path / "run")
    for extra, method in (((), "n-conffusion"), (("--sampled", 2), "dm-sba")):
        out = tmp_path / method
        narrow = certes(
            *("tune", tmp_path / "run" / "model", "--steps", 2, *extra),
            *("--data", NUCLEI, "--out", out, "--json"),
        )
        assert narrow.code == 0, narrow.err
        assert narrow.json["method"] == loaded(out / "model").method == method
        shown = certes("models", "show", out / "model", "--json").json
        assert (shown["kind"], shown["method"], shown["steps"]) == ("bounds", method, 2)
    again = certes("tune", tmp_path / "run" / "model", "--data", NUCLEI, "--out", out)
    assert again.code == 2
    assert "give --resume to go on" in again.err


def test_what_cannot_be_tuned(
    certes: Certes, model: Path, conditional: Path, tmp_path: Path
) -> None:
    for arguments, message in (
        ((model,), "task: none given; one is needed"),
        ((model, "--task", "inpaint", "--sampled", 3), "sampled: a conditional model is needed"),
        ((model, "--task", "denoise", "--size", 3), "denoise (no size)"),
        ((model, "--task", "super-resolve", "--size", 1.5), "super-resolve (a factor)"),
        ((model, "--task", "inpaint", "--size", 2), "share: 2"),
        ((conditional, "--task", "denoise"), "is conditional and knows its task"),
        ((conditional, "--sampled", 4), "is a preset, and draws no samples"),
        ((model, "--task", "denoise", "--alpha", 2), "alpha: 2"),
        (("elsewhere",), "neither a bundled model"),
    ):
        said = certes("tune", *arguments, "--data", NUCLEI, "--out", tmp_path / "out")
        assert (said.code, said.out) == (2, "")
        assert message in said.err
        assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_samplers_mean_nothing_to_bounds(
    certes: Certes, conditional: Path, folder: Path, tmp_path: Path
) -> None:
    certes("tune", conditional, "--data", NUCLEI, "--out", tmp_path / "run")
    said = certes("evaluate", "--model", tmp_path / "run" / "model", "--sampler", "ddrm",
                  "--data", folder, "--crop", 32, "--out", tmp_path / "o")  # fmt: skip
    assert said.code == 2
    assert "sampler: means nothing for" in said.err


def test_names_are_those_of_the_library() -> None:
    assert {*HeadName} == {kind for kind, head in HEADS.items() if head.targets == 1}
    assert {*TuneTaskName} <= set(TASKS)
    for task in TuneTaskName:
        assert made_task(task, 0.3, None).kind == task
