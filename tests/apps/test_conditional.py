"""Conditional models on the command line: trained, given conditions, calibrated, refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

import certes as library
from certes.apps import options
from certes.apps.cli import app
from certes.apps.commands.train import CONDITIONAL_TASKS, ESTIMATORS, QUICK_TASKS
from certes.apps.measuring import ByPartner, ByTraining
from certes.apps.training_data import read_patches
from certes.conditional.config import ConditionalConfig
from certes.conditional.model import ConditionalModel, load_conditional
from certes.conditional.policies import POLICIES
from certes.conditional.presets import PRESETS
from certes.conditional.tasks import TASKS
from certes.data.pairs import PairDataset, label_channels
from certes.data.pictures import Picture, read_picture

from .helpers import Certes, grey, names, save

NUCLEI = Path(__file__).parents[1] / "data" / "nuclei-train"
FEW = ("--samples", 3, "--steps", 2, "--alpha", 0.5)
LOOSE = ("--delta", 0.4, "--crop", 32)

# Keys of a task, channels of its conditions, and whether they diffuse.
CASES: dict[str, tuple[dict[str, Any], int, bool]] = {
    "denoise": ({"noise": 0.1}, 1, False),
    "super-resolve": ({"factor": 4}, 1, True),
    "inpaint": ({}, 2, True),
    "edges": ({}, 1, True),
    "labels": ({}, 2, True),
    "paired": ({"condition_channels": 1}, 1, False),
}

Trained = Callable[[str], Path]


def config_of(kind: str, **changes: Any) -> dict[str, Any]:
    """The preset for trials, for another task and a few steps."""
    fields, channels, diffuses = CASES[kind]
    config = PRESETS["tiny-conditional"].to_dict()
    shape = {"in_channels": 1 + channels, "out_channels": 1 + channels * diffuses}
    config["network"] |= shape
    config["y"]["channels"] = channels
    config["task"] = {"kind": kind, **fields}
    if not diffuses:
        config["estimator"]["y"] = {"kind": "still"}
    return config | {"steps": 3, "warmup": 1, "batch": 4} | changes


def drawing(path: Path, *, sides: int = 32) -> Path:
    """Two objects that touch, numbered beyond 8 bit."""
    labels = np.zeros((sides, sides), np.uint16)
    labels[4:20, 4:12], labels[4:20, 12:25] = 300, 700
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(labels).save(path)
    return path


def numbered(pictures: Path, out: Path) -> Path:
    """Drawings of the same names and sizes as pictures."""
    for path in pictures.glob("*.png"):
        drawing(out / path.name, sides=read_picture(path).pixels.shape[1])
    return out


def beside(pictures: Path, out: Path) -> Path:
    """Pictures with their negative on the left."""
    out.mkdir()
    for path in pictures.glob("*.png"):
        x = read_picture(path).pixels
        save(out / path.name, torch.cat([1 - x, x], dim=2))
    return out


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model for each task, trained by the program when it is first asked for."""
    root = tmp_path_factory.mktemp("conditional")
    for i in range(4):
        grey(root / "truth" / f"cell-{i}.png", i)
    data = {
        "labels": (root / "truth", "--conditions", numbered(root / "truth", root / "labels")),
        "paired": (beside(root / "truth", root / "sides"),),
    }

    def train(kind: str) -> Path:
        out = root / "runs" / kind
        if not out.exists():
            (root / f"{kind}.json").write_text(json.dumps(config_of(kind)))
            arguments = (root / f"{kind}.json", "--data", *data.get(kind, (NUCLEI,)), "--out", out)
            result = CliRunner().invoke(app, ["train", *(str(a) for a in arguments)])
            assert result.exit_code == 0, result.stderr
        return out / "model"

    return train


def refused(answer: Any, message: str) -> None:
    """One line that says so."""
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert message in answer.err


def test_a_preset_learns_from_sheets(certes: Certes, tmp_path: Path) -> None:
    sheets, run = tmp_path / "garments", tmp_path / "run"
    sheets.mkdir()
    save(sheets / "train-00.png", read_picture(NUCLEI / "05040e2e959c3f56.png").pixels[:, :56, :84])
    np.save(sheets / "train-labels.npy", np.arange(6))
    arguments = ("train", "tiny-conditional", "--data", sheets, "--out", run, "--licence", "MIT")
    answer = certes(*arguments, "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["pictures"], answer.json["steps"]) == (6, 20)
    assert (run / "samples-20.png").is_file()
    assert certes(*arguments).code == 2
    assert certes(*arguments, "--resume").code == 0
    shown = certes("models", "show", run / "model", "--json").json
    assert (shown["kind"], shown["name"], shown["licence"]) == (
        "conditional", "tiny-conditional", "MIT",
    )  # fmt: skip
    assert shown["task"] == PRESETS["tiny-conditional"].task
    assert shown["estimator"]["y"] == PRESETS["tiny-conditional"].estimator["y"]
    assert shown["summary"].startswith("edges, by CMDE")
    assert (shown["training_data"], shown["channels"], shown["cards"]) == ("garments", 1, [])
    assert "summary: edges, by CMDE" in certes("models", "show", run / "model").out


def test_models_are_listed_with_what_they_do(
    certes: Certes, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("certes.networks.model", "certes.apps.jobs.models", "certes.apps.cards"):
        monkeypatch.setattr(f"{module}.BUNDLED", tmp_path)
    shutil.copytree(trained("denoise"), tmp_path / "clean")
    (listed,) = certes("models", "list", "--json").json["models"]
    assert listed["kind"] == "conditional"
    assert listed["summary"] == "denoise, by CDE: conditions without noise"
    assert "conditional: denoise, by CDE" in certes("models", "list").out


def handed_in(kind: str, folder: Path) -> tuple[Path, tuple[object, ...], Tensor]:
    """A condition as users have it, what they say beside it, and what it means."""
    x = read_picture(grey(folder / "x.png")).pixels
    path = folder / "cell.png"
    match kind:
        case "super-resolve":  # of a picture of 28 pixels: smaller than any other input may be
            save(path, x[:, :7, :7])
            return path, (), read_picture(path, smallest=7).pixels
        case "inpaint":
            known = torch.ones(1, 32, 32)
            known[:, 8:20, 5:25] = 0
            mask = save(folder / "mask.png", known)
            save(path, x)
            return path, ("--mask", mask), torch.where(known > 0, x, torch.nan)
        case "labels":
            labels = np.asarray(Image.open(drawing(path))).astype(np.int32)
            return path, (), label_channels(torch.as_tensor(labels)) / 255
        case "edges":  # lines as an editor saves them, in colours
            save(path, (x > 0.2).float().expand(3, -1, -1))
            return path, (), read_picture(path).pixels[:1]
        case _:
            save(path, x)
            return path, (), x


@pytest.mark.parametrize("kind", CASES)
def test_restore(certes: Certes, trained: Trained, tmp_path: Path, kind: str) -> None:
    """What the program writes is what the library answers."""
    path, more, y = handed_in(kind, tmp_path)
    out, arguments = tmp_path / "out", ("--model", trained(kind), *FEW, "--seed", 3)
    answer = certes("restore", path, *arguments, *more, "--out", out, "--json")
    assert answer.code == 0, answer.err
    assert names(out) == [
        "cell.intervals.tif", "cell.panel.png", "cell.restored.png", "report.json",
    ]  # fmt: skip
    model = library.load(str(trained(kind)))
    posterior = library.restore(y[None], model=model, samples=3, steps=2, seed=3)
    bounds = posterior.bounds(0.5)
    with tifffile.TiffFile(out / "cell.intervals.tif") as file:
        pages = [page.asarray() for page in file.pages]
    expected = (bounds.lower, bounds.estimate, bounds.upper)
    for page, wanted in zip(pages, expected, strict=True):
        np.testing.assert_allclose(page, wanted[0, 0], atol=1e-6)
    assert pages[0].shape == ((28, 28) if kind == "super-resolve" else (32, 32))
    report = answer.json
    assert report["task"] == kind
    noise = {"denoise": 0.1, "labels": None, "paired": None}
    assert report["noise"] == noise.get(kind, 0.0)
    assert report["guarantee"] is None
    assert report["settings"]["operators"]["cell"].startswith(f"given {kind} ")
    assert (report["settings"]["policy"], report["settings"]["noise_estimated"]) == ("fresh", False)
    assert report["images"][0]["nfe"] == 2


def test_solvers_policies_and_truths(certes: Certes, trained: Trained, tmp_path: Path) -> None:
    path, _, _ = handed_in("edges", tmp_path)
    usual = ("restore", path, "--model", trained("edges"), *FEW, "--truth", tmp_path / "x.png")
    widths: set[float] = set()
    for policy, sampler in (("fixed", "ddim"), ("fresh", "ddim"), ("path", "ancestral")):
        more = ("--policy", policy, "--sampler", sampler, "--out", tmp_path / policy, "--json")
        answer = certes(*usual, "--task", "edges", *more)
        assert answer.code == 0, answer.err
        settings, (image,) = answer.json["settings"], answer.json["images"]
        assert (settings["policy"], settings["sampler"]) == (policy, sampler)
        assert {"psnr", "coverage"} <= set(image)
        widths.add(image["mean_width"])
    assert len(widths) == 3


def mirrored(pictures: Path, out: Path, dim: int) -> Path:
    """Other pictures of the same names, as far as anyone who was shown the first can tell."""
    out.mkdir()
    for path in pictures.glob("*.png"):
        save(out / path.name, read_picture(path).pixels.flip(dim))
    return out


def test_a_guarantee_from_calibration_to_verification(
    certes: Certes, trained: Trained, folder: Path, tmp_path: Path
) -> None:
    others = mirrored(folder, tmp_path / "others", 2)
    model = Path(shutil.copytree(trained("inpaint"), tmp_path / "model"))
    card, usual = tmp_path / "card.json", ("--model", model, "--json")
    made = certes("calibrate", *usual, *FEW, *LOOSE, "--data", folder, "--out", card)
    assert made.code == 0, made.err
    assert made.json["provenance"]["operator"].startswith("given inpaint ")
    assert made.json["provenance"]["sampler"] == "unipc_3/fresh"
    assert made.json["provenance"]["model"] == load_conditional(model, "cpu").hash
    evaluating = ("evaluate", *usual, *FEW, "--crop", 32, "--data", others, "--out")
    scores = certes(*evaluating, tmp_path / "raw").json["settings"]["scores"]
    assert scores["calibrated"] is None
    # The bundled pictures are dark: a quarter of them in black is about as much of their power.
    assert scores["psnr_degraded"] > 10
    judged = certes(*evaluating, tmp_path / "judged", "--calibration", card)
    assert judged.code == 0, judged.err
    assert judged.json["settings"]["scores"]["calibrated"]["risk"] <= 0.5
    panels = [f"cell-{i}.panel.png" for i in range(4)]
    assert names(tmp_path / "judged") == [*panels, "report.html", "report.json"]
    mask = save(tmp_path / "mask.png", torch.ones(1, 32, 32))
    restoring = ("restore", folder / "cell-0.png", *usual, *FEW, "--mask", mask, "--out", tmp_path)
    assert certes(*restoring).json["guarantee"] is None
    assert certes(*restoring, "--calibration", card).json["guarantee"] == made.json["guarantee"]
    refused(
        certes(*restoring, "--calibration", card, "--policy", "fixed"),
        "sampler: 'unipc_3/fresh', not 'unipc_3/fixed'",
    )
    refused(certes(*restoring, "--calibration", card, "--steps", 3), "steps: 2, not 3")
    (model / "cards").mkdir()
    shutil.copy(card, model / "cards" / "holes.json")
    assert certes(*restoring).json["guarantee"] == made.json["guarantee"]
    assert certes(*restoring, "--policy", "fixed").json["guarantee"] is None
    (listed,) = certes("models", "show", *usual[1:]).json["cards"]
    assert listed["guarantee"] == made.json["guarantee"]
    refused(certes("verify", card, "--data", folder, "--crop", 32, *usual), "4 served to calibrate")
    verifying = ("--data", others, "--crop", 32)
    kept = certes("verify", card, *verifying, *usual)
    assert (kept.code, kept.json["verdict"]) == (0, "holds")
    assert kept.json["risk"] == judged.json["settings"]["scores"]["calibrated"]["risk"]
    card.write_text(json.dumps({**json.loads(card.read_text()), "lambda": 1e-9}))
    assert certes("verify", card, *verifying, *usual).json["verdict"] == "broken"
    refused(certes("verify", card, *verifying), "which is nothing that nuclei does")


def test_conditions_in_files(
    certes: Certes, trained: Trained, folder: Path, tmp_path: Path
) -> None:
    """Labels, cut like their pictures, and what is wrong with them."""
    labels, card = numbered(folder, tmp_path / "labels"), tmp_path / "card.json"
    new, others = (mirrored(folder, tmp_path / f"other-{dim}", dim) for dim in (1, 2))
    model, data = ("--model", trained("labels")), ("--data", new, "--crop", 32)
    given = ("--conditions", labels)
    usual = (*model, *data, *FEW, "--delta", 0.4, "--out", card)
    known = (*usual[:2], "--data", folder, *usual[4:], *given)
    refused(certes("calibrate", *known), "4 served to train the model")
    made = certes("calibrate", *usual, *given)
    assert made.code == 0, made.err
    evaluated = certes("evaluate", *model, *data, *FEW, *given, "--out", tmp_path / "out")
    assert evaluated.code == 0, evaluated.err
    assert "PSNR of the degraded" not in evaluated.out
    verifying = ("verify", card, *model, "--data", others, "--crop", 32)
    assert certes(*verifying, *given).code == 0
    refused(certes(*verifying), "conditions: none given")
    refused(certes("calibrate", *usual), "conditions: none given; labels is a conditional model")
    refused(certes("calibrate", *usual, "--conditions", "none"), "conditions: none is no folder")
    drawing(labels / "cell-3.png", sides=40)
    refused(certes("calibrate", *usual, *given), "40 x 40 pixels, but")
    (labels / "cell-3.png").unlink()
    refused(certes("calibrate", *usual, *given), "holds no picture named cell-3")


def test_conditions_are_cut_like_their_pictures(trained: Trained, tmp_path: Path) -> None:
    x = read_picture(NUCLEI / "05040e2e959c3f56.png").pixels[:, :40, :48]
    for part in ("x", "y"):
        (tmp_path / part).mkdir()
        save(tmp_path / part / "a.png", x if part == "x" else 1 - x)
    measuring = ByPartner(load_conditional(trained("paired"), "cpu"), tmp_path / "y")
    (picture,) = measuring.read(tmp_path / "x", 32)
    seen = measuring.observe(picture, 0)
    torch.testing.assert_close(seen.truth[0], x[:, 4:36, 8:40])
    torch.testing.assert_close(seen.y, 1 - seen.truth)


def test_every_picture_has_a_hole_of_its_own(trained: Trained) -> None:
    model = load_conditional(trained("inpaint"), "cpu")
    picture = Picture("a", torch.full((1, 32, 32), 0.5), None, "uint8")
    holes = [ByTraining(model, seed).observe(picture, i).y.isnan() for seed, i in
             ((0, 0), (0, 0), (0, 1), (1, 0))]  # fmt: skip
    assert [int(hole.sum()) for hole in holes] == [16 * 16] * 4
    assert torch.equal(holes[0], holes[1])
    assert not torch.equal(holes[0], holes[2])
    assert not torch.equal(holes[0], holes[3])


SETTLED = "a conditional model for edges"
RESTORE: dict[str, tuple[tuple[object, ...], str]] = {
    "another task": (("--task", "denoise"), f"task: denoise, but edges is {SETTLED}"),
    "noise": (("--noise", 0.1), f"noise: given, but edges is {SETTLED}"),
    "factor": (("--factor", 2), f"factor: given, but edges is {SETTLED}"),
    "kernel": (("--kernel", "box"), "kernel: given"),
    "mask": (("--mask", "mask.png"), "mask: given"),
    "colours": (("--colours", "separate"), "colours: given"),
    "sampler": (("--sampler", "pinned"), "sampler: 'pinned'; for this model give one of ancestral"),
    "alpha": (("--alpha", 1.5), "inside (0, 1)"),
    "card": (("--calibration", "none.json"), "none.json: not a readable calibration card"),
}


@pytest.mark.parametrize("case", RESTORE)
def test_what_restore_refuses(
    certes: Certes, trained: Trained, picture: Path, tmp_path: Path, case: str
) -> None:
    arguments, message = RESTORE[case]
    usual = ("--model", trained("edges"), "--out", tmp_path / "out")
    refused(certes("restore", picture, *usual, *arguments), message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_what_is_settled_for_true_pictures(
    certes: Certes, trained: Trained, folder: Path, tmp_path: Path, command: str
) -> None:
    usual = (command, "--data", folder, "--model", trained("edges"), "--out", tmp_path / "out")
    for option, value in (("task", "jpeg"), ("noise", 0.1), ("missing", 0.5), ("ratio", 0.5),
                          ("quality", 5), ("conditions", folder)):  # fmt: skip
        refused(certes(*usual, f"--{option}", value), f"{option}: ")
    refused(certes(*usual, "--crop", 64), "give --crop 32 or less")


def test_conditions_that_cannot_be(certes: Certes, trained: Trained, tmp_path: Path) -> None:
    rgb = save(tmp_path / "rgb.png", torch.rand(3, 32, 32))
    usual = ("--out", tmp_path / "out", *FEW)
    refused(certes("restore", rgb, "--model", trained("denoise"), *usual), "3 channel(s), denoise")
    refused(certes("restore", rgb, "--model", trained("labels"), *usual), "labels are whole number")
    refused(certes("restore", rgb, "--model", trained("inpaint"), *usual), "mask: inpaint fills")
    small = save(tmp_path / "small.png", torch.rand(1, 1, 7))
    refused(certes("restore", small, "--model", trained("super-resolve"), *usual), "too small")
    mask = ("--mask", save(tmp_path / "mask.png", torch.ones(1, 16, 16)))
    grey_picture = grey(tmp_path / "grey.png")
    refused(
        certes("restore", grey_picture, "--model", trained("inpaint"), *mask, *usual),
        "mask has shape (1, 16, 16)",
    )
    (tmp_path / "colours").mkdir()
    shutil.copy(rgb, tmp_path / "colours")
    data = ("--data", tmp_path / "colours", "--crop", 32)
    evaluated = certes("evaluate", *data, "--model", trained("edges"), *usual)
    refused(evaluated, "rgb: 3 colour channel(s), edges restores 1")


def test_models_of_pictures_are_told_what_to_do(
    certes: Certes, model: Path, picture: Path, tmp_path: Path
) -> None:
    usual = ("restore", picture, "--model", model, "--out", tmp_path / "out", *FEW)
    refused(certes(*usual), "give --task, one of denoise, super-resolve")
    refused(certes(*usual, "--task", "edges"), "task: edges takes a conditional model")
    denoise = ("--task", "denoise", "--noise", 0.1)
    refused(certes(*usual, *denoise, "--policy", "path"), "policy: means nothing for")
    refused(certes(*usual, *denoise, "--sampler", "unipc"), "for this model give one of pinned")
    evaluating = ("evaluate", "--data", tmp_path, *usual[2:], *denoise)
    refused(certes(*evaluating, "--conditions", tmp_path), "conditions: means nothing for")


def test_commands_for_models_of_pictures(
    certes: Certes, trained: Trained, picture: Path, folder: Path, tmp_path: Path
) -> None:
    conditional, out = ("--model", trained("edges")), ("--out", tmp_path / "out")
    for arguments in (
        ("sample", *conditional, *out),
        ("sample", "--variations", *conditional, *out),
        ("interpolate", picture, picture, *conditional, *out),
        ("compress", picture, tmp_path / "a.crt", *conditional),
        ("likelihood", picture, *conditional, *out),
        ("score", folder, "--data", folder, "--features", trained("edges")),
        ("models", "export", trained("edges"), tmp_path / "out"),
        ("models", "measure", trained("edges"), "--data", folder, *out),
        ("demo", *conditional, *out),
    ):
        refused(certes(*arguments), "conditional models answer nothing but conditions of their own")
        assert not (tmp_path / "out").exists()


def test_cards_of_the_other_kind(
    certes: Certes, trained: Trained, model: Path, folder: Path, tmp_path: Path
) -> None:
    card = tmp_path / "card.json"
    denoise = ("--task", "denoise", "--noise", 0.1, "--model", model, *FEW, *LOOSE)
    assert certes("calibrate", *denoise, "--data", folder, "--out", card).code == 0
    answer = certes("verify", card, "--data", folder, "--model", trained("denoise"))
    refused(answer, "made for denoise, which is nothing that")


def test_what_training_refuses(certes: Certes, folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps(config_of("labels")))
    usual = ("--data", folder, "--out", tmp_path / "run")
    given = ("--conditions", folder)
    refused(certes("train", labels, *usual), "conditions: none given; this preset learns from la")
    refused(certes("train", labels, *usual, "--conditions", "none"), "conditions: none is no fold")
    refused(certes("train", "tiny-conditional", *usual, *given), "those of the task 'edges' are ma")
    refused(certes("train", "tiny", *usual, *given), "conditions: this preset trains on pictures")
    assert not (tmp_path / "run").exists()
    labels.write_text(json.dumps(config_of("labels", speed=3)))
    refused(certes("train", labels, *usual, *given), "does not describe a run")


def test_training_pictures_as_configured(tmp_path: Path) -> None:
    """Faces are cut and resized; colours become grey for grey pictures, not those of conditions."""
    (tmp_path / "faces").mkdir()
    save(tmp_path / "faces" / "a.png", torch.rand(3, 218, 178))
    faces = ConditionalConfig(**config_of("edges", fit="celeba"))
    assert read_patches(faces, tmp_path / "faces", None).batch(0, 2, 0).shape == (2, 1, 28, 28)
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "a.png", torch.rand(1 + 2 * (name == "x"), 32, 32))
    paired = ConditionalConfig(**config_of("paired"))
    pairs = read_patches(paired, tmp_path / "x", tmp_path / "y")
    assert isinstance(pairs, PairDataset)
    assert (pairs.x_channels, pairs.y_channels) == (1, 1)
    wide = ConditionalConfig(**config_of("paired", fit="resize"))
    (tmp_path / "wide").mkdir()
    save(tmp_path / "wide" / "a.png", torch.cat([torch.ones(1, 40, 40), torch.zeros(1, 40, 40)], 2))
    x, y = read_patches(wide, tmp_path / "wide", None).batch(0, 1, 0)[0]
    assert (float(x.max()), float(y.min())) == (0, 1)


def test_names_are_those_of_the_library(certes: Certes) -> None:
    told = {f"{task}-{by}" for task, by in product(CONDITIONAL_TASKS, ESTIMATORS)}
    assert {*told, *QUICK_TASKS, "tiny-conditional"} == set(PRESETS)
    words = " ".join(certes("train", "--help").out.replace("│", " ").split())
    assert all(task in words for task in (*CONDITIONAL_TASKS, *QUICK_TASKS, *ESTIMATORS))
    assert {str(name) for name in options.PolicyName} == set(POLICIES)
    known: Collection[str] = {*options.TaskName, *TASKS}
    assert {str(name) for name in options.AskedTaskName} == set(known)


def test_the_library_loads_it(trained: Trained) -> None:
    assert isinstance(library.load(str(trained("edges"))), ConditionalModel)
