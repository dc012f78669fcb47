"""Two processes make the steps that one makes alone: real ones, started by torchrun.

Every start takes seconds, so one pair runs all jobs of the module.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from certes.conditional import presets as conditional
from certes.data.patches import PatchDataset
from certes.function_space import presets as functions
from certes.training.config import RunConfig
from certes.training.loop import CHECKPOINT, Run
from certes.training.unconditional import Unconditional

from .conftest import PICTURES, shrunk
from .distributed import together
from .distributed_worker import codes, losses

STEPS, HALF = 24, 12
# Of one step float32 keeps some 1e-7; rounding then grows with every step.
TOLERANCE = 1e-4

RUN: dict[str, Any] = {"steps": STEPS, "checkpoint_every": HALF, "sample_every": STEPS, "batch": 8}
# Weights relative to the batch; and moments of noise levels, that all processes share.
RELATIVE = shrunk(**RUN)
LEARNED = shrunk(**RUN, times="importance", weights="level")
DROPPING = shrunk(**RUN | {"steps": 2}, network=shrunk().network | {"dropout": 0.2})
TUNED: dict[str, RunConfig] = {
    "conditional": replace(conditional.PRESETS["tiny-conditional"], patch=16, **RUN),
    "functions": replace(functions.PRESETS["tiny-functions"], **RUN),
}
BROKEN = ("unsharded data", "weights of each share", "optimiser of other weights")

Jobs = dict[str, dict[str, Any]]


def job(config: RunConfig, kind: str = "pictures", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "config": config.to_dict(), **more}


JOBS: Jobs = {
    "relative": job(RELATIVE),
    "learned": job(LEARNED),
    "dropping": job(DROPPING),
    **{kind: job(config, kind) for kind, config in TUNED.items()},
    **{variant: job(RELATIVE, variant=variant) for variant in BROKEN},
    "codes": job(TUNED["functions"], "codes"),
    "left by one": job(LEARNED, shared=True),
    "left by two": job(LEARNED, shared=True, upto=HALF + 3),
}


@pytest.fixture(scope="module")
def two(data: PatchDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have done all jobs."""
    out = tmp_path_factory.mktemp("two")
    losses(at(out, "left by one") | {"upto": HALF + 3}, str(PICTURES))
    (out / "jobs.json").write_text(json.dumps([at(out, name) for name in JOBS]))
    worker = Path(__file__).parent / "distributed_worker.py"
    answer = together(worker, out / "jobs.json", PICTURES)
    assert answer.code == 0, answer.err
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What one process makes of a job."""
    out = tmp_path_factory.mktemp("one")
    done: dict[str, dict[str, Any]] = {}

    def run(name: str) -> dict[str, Any]:
        if name not in done:
            done[name] = losses(at(out, name), str(PICTURES))
        return done[name]

    return run


def at(out: Path, name: str) -> dict[str, Any]:
    return JOBS[name] | {"out": str(out / name)}


def told(out: Path, name: str, rank: int = 0) -> dict[str, Any]:
    return json.loads((out / f"{name}-{rank}.json").read_text())


def curve(answer: dict[str, Any]) -> Tensor:
    return torch.tensor(answer["losses"], dtype=torch.float64)


def apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest relative difference of two curves."""
    a, b = curve(one), curve(other)
    assert len(a) == len(b) > 0
    return float(((a - b) / a).abs().max())


@pytest.mark.parametrize("name", ["relative", "learned", *TUNED])
def test_the_curve_is_that_of_one_process(
    two: Path, alone: Callable[[str], dict[str, Any]], name: str
) -> None:
    first, second, one = told(two, name), told(two, name, 1), alone(name)
    assert (first["processes"], one["processes"]) == (2, 1)
    assert len(one["losses"]) == STEPS
    assert first["losses"] == second["losses"]  # that of the whole batch, on both
    assert apart(one, first) < TOLERANCE


@pytest.mark.parametrize("variant", BROKEN)
def test_the_comparison_sees_what_is_broken(
    two: Path, alone: Callable[[str], dict[str, Any]], variant: str
) -> None:
    """Negative controls."""
    assert apart(alone("relative"), told(two, variant)) > 10 * TOLERANCE


def test_each_cuts_its_share_alone(two: Path, alone: Callable[[str], dict[str, Any]]) -> None:
    assert [told(two, "relative", rank)["cut"] for rank in (0, 1)] == [4, 4]
    assert alone("relative")["cut"] == 8


def test_the_first_alone_writes(two: Path) -> None:
    assert {CHECKPOINT, "samples-24.png"} <= set(told(two, "relative")["wrote"])
    assert told(two, "relative", 1)["wrote"] == []


def test_averages_are_those_of_one_process(
    two: Path, alone: Callable[[str], dict[str, Any]], tmp_path: Path, data: PatchDataset
) -> None:
    Run(Unconditional(RELATIVE), data, tmp_path, resume=False).train()
    one, both = load_file(tmp_path / CHECKPOINT), load_file(two / "relative" / CHECKPOINT)
    for name in (name for name in one if name.startswith("ema.")):
        torch.testing.assert_close(both[name], one[name], rtol=1e-3, atol=1e-5)


def test_dropout_differs(two: Path, alone: Callable[[str], dict[str, Any]]) -> None:
    first, second = (told(two, "dropping", rank)["dropout"] for rank in (0, 1))
    assert first == alone("dropping")["dropout"] != second


def test_codes_are_learned_together(two: Path, tmp_path: Path) -> None:
    one = codes(at(tmp_path, "codes"), str(PICTURES))["weights"]
    first, second = (told(two, "codes", rank)["weights"] for rank in (0, 1))
    assert first == second
    assert any(first)
    assert first == pytest.approx(one, rel=1e-3, abs=1e-6)


def test_two_go_on_where_one_stopped(two: Path, alone: Callable[[str], dict[str, Any]]) -> None:
    left = told(two, "left by one")
    assert len(left["losses"]) == STEPS - HALF
    rest = {"losses": alone("learned")["losses"][HALF:]}
    assert apart(rest, left) < TOLERANCE


def test_one_goes_on_where_two_stopped(two: Path, alone: Callable[[str], dict[str, Any]]) -> None:
    assert len(told(two, "left by two")["losses"]) == HALF + 3
    left = losses(at(two, "left by two") | {"upto": None}, str(PICTURES))
    assert left["processes"] == 1
    rest = {"losses": alone("learned")["losses"][HALF:]}
    assert apart(rest, left) < TOLERANCE
    other = {"losses": alone("relative")["losses"][HALF:]}
    assert apart(other, left) > 10 * TOLERANCE
