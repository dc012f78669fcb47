"""Pages of models: what their folders say, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from certes.apps.jobs.models import describe, pages
from certes.apps.model_page import operator_in_short, page, sections
from certes.networks.model import bundled_models

PAGES = Path(__file__).parents[2] / "docs" / "models"
KNOWN: dict[str, Any] = {
    "name": "a",
    "hash": "0123456789abcdef",
    "parameters": 1_000_000,
    "scores": {"pictures": "two pictures", "psnr": {"denoise": 30.0}, "risk": {"denoise": 0.05}},
    "rates": None,
    "cards": [],
}


def test_the_pages_are_what_the_folders_say() -> None:
    now = pages()
    assert set(now) == {"index", *bundled_models()}
    assert {path.stem for path in PAGES.glob("*.md")} == set(now)
    for name, text in now.items():
        assert (PAGES / f"{name}.md").read_text() == text, (
            f"docs/models/{name}.md: write it anew with python docs/hooks/models.py"
        )


@pytest.mark.parametrize("name", bundled_models())
def test_every_bundled_model_is_described_in_full(name: str) -> None:
    said = describe(name)
    titles = {section.title for section in sections(said)}
    assert {"Scores", "What it expects to spend", "Calibration cards"} <= titles
    assert titles & {"Discretisation certificate", "Size of the picture"}
    assert said["licence"]
    assert said["training_data"]
    assert {card["name"] for card in said["cards"]} <= set(said["scores"]["psnr"])


def test_what_is_not_known_is_not_said() -> None:
    assert [section.title for section in sections(KNOWN)] == ["Scores"]
    text = page(KNOWN, "# a\n\nA model.\n")
    assert "| denoise | 30.00 | 0.0500 |" in text.splitlines()
    assert "spend" not in text
    changed = {**KNOWN, "scores": {**KNOWN["scores"], "psnr": {"denoise": 31.0}}}
    assert page(changed, "# a\n\nA model.\n") != text


def test_a_readme_of_another_model_is_refused() -> None:
    with pytest.raises(AssertionError, match="README of a"):
        page(KNOWN, "# b\n")


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("denoise", "denoise"),
        ('jpeg {"quality": 10}', "jpeg, quality 10"),
        ('deblur {"kernel": [0.2, 0.6, 0.2]}', "deblur, kernel of 3 taps"),
        (None, "not said"),
    ],
)
def test_operators_in_short(label: str | None, said: str) -> None:
    assert operator_in_short(label) == said
