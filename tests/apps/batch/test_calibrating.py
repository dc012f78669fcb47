"""A calibration card made by many workers is the card that one process makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from certes.apps.batch.calibrating import Counter, packed, unpacked
from certes.apps.measuring import plan_experiment
from certes.apps.options import Asked, AskedTaskName, SamplingOptions
from certes.errors import CalibrationError
from certes.intervals.tally import Tally

from ..helpers import FEW, Certes

SETTINGS = ("--task", "denoise", "--noise", 0.1, "--alpha", 0.5, "--delta", 0.4, "--crop", 32)


def card(path: Path) -> dict[str, Any]:
    """All that a card says, but for when it was made."""
    return json.loads(path.read_text()) | {"date": None}


@pytest.fixture
def one(certes: Certes, model: Path, folder: Path, tmp_path: Path) -> Path:
    """The card of one process."""
    out = tmp_path / "one.json"
    words = (*SETTINGS, *FEW, "--model", model, "--data", folder, "--out", out)
    assert certes("calibrate", *words).code == 0
    return out


def test_shares_in_any_order_make_the_card(
    model: Path, folder: Path, one: Path, tmp_path: Path
) -> None:
    asked = Asked(AskedTaskName.DENOISE, noise=0.1)
    sampling = SamplingOptions(str(model), 2, 2, 0.5, 0, None, "cpu")
    pictures = plan_experiment(asked, sampling).measuring.read(folder, 32)

    def made(shares: list[list[int]], numbers: list[int]) -> dict[str, Any]:
        whole = Tally("scale")
        for share in shares:  # each by a worker of its own
            table = {
                "index": [numbers[i] for i in share],
                "picture": [pictures[i] for i in share],
            }
            for part in Counter(asked, sampling, "scale")(table)["tally"]:
                whole.merge(unpacked(part))
        whole.calibrate(alpha=0.5, delta=0.4, rule="wsr", tolerance=0.1, seed=0).save(
            tmp_path / "many.json"
        )
        return card(tmp_path / "many.json")

    assert made([[3, 0], [2, 1]], [0, 1, 2, 3]) == card(one)
    # Numbered by their places in a share instead, pictures get other noise: another card.
    assert made([[0, 1], [2, 3]], [0, 1, 0, 1]) != card(one)


def test_what_is_no_tally_is_refused() -> None:
    with pytest.raises(CalibrationError):
        unpacked(b"no tally")
    with pytest.raises(Exception, match="holds no images"):
        packed(Tally("scale"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--address", "127.0.0.1:1"), "--workers"),
        (("--workers", 2, "--shape", "sides"), "needs all pictures at once"),
    ],
)
def test_what_makes_no_sense_over_workers(
    certes: Certes, model: Path, folder: Path, tmp_path: Path, more: tuple[object, ...], said: str
) -> None:
    out = tmp_path / "card.json"
    answer = certes(
        *("calibrate", *SETTINGS, *FEW, "--model", model, "--data", folder), *("--out", out, *more)
    )
    assert answer.code == 2
    assert said in answer.err
    assert not out.exists()


def test_two_workers_on_a_ray_of_their_own(
    certes: Certes, model: Path, folder: Path, one: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray.data", reason="needs the extra [batch]")
    out = tmp_path / "two.json"
    words = (*SETTINGS, *FEW, "--model", model, "--data", folder, "--out", out, "--workers", 2)
    answer = certes("calibrate", *words)
    assert answer.code == 0, answer.err
    assert card(out) == card(one)
