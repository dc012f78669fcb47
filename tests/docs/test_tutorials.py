"""Every block of the tutorials and of the five-minute start runs, prints and draws what it says.

Takes some twenty seconds a page on one thread.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .documents import (
    FIGURES,
    TUTORIALS,
    DocumentError,
    blocks_of,
    figures_of,
    run_page,
    says,
    tutorials,
)

TASKS = (
    "denoise",
    "super-resolve",
    "inpaint",
    "deblur",
    "colorize",
    "compressed-sensing",
    "jpeg",
)
# The tour takes two minutes; of smaller parts of the pictures it does the same.
SHORTER = {"certes demo": "certes demo --crop 24"}
LARGEST = 250_000  # bytes of a figure
ALIKE = 4.0  # grey levels of 255, on average: rounding changes samples a little


def difference(a: Path, b: Path) -> float:
    """Mean difference of two figures, grey levels; infinite when they differ in size."""
    first, second = (np.asarray(Image.open(p).convert("RGB"), np.float64) for p in (a, b))
    return float(np.abs(first - second).mean()) if first.shape == second.shape else float("inf")


@pytest.mark.parametrize("page", tutorials(), ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    run_page(page, tmp_path, SHORTER)
    for figure in figures_of(page, tmp_path):
        assert difference(figure.made, figure.kept) < ALIKE, figure.made


def test_there_is_a_page_for_every_task() -> None:
    assert {page.stem for page in TUTORIALS.glob("*.md")} == {*TASKS, "index"}


@pytest.mark.parametrize("task", TASKS)
def test_a_page_shows_code_numbers_and_two_figures(task: str, tmp_path: Path) -> None:
    page = TUTORIALS / f"{task}.md"
    languages = [block.language for block in blocks_of(page)]
    assert {"python", "sh", "text"} <= set(languages)
    assert len(figures_of(page, tmp_path)) >= 2
    assert f"--task {task}" in page.read_text(encoding="utf-8")


def test_figures_are_small_and_all_are_shown(tmp_path: Path) -> None:
    shown = {f.kept for page in TUTORIALS.glob("*.md") for f in figures_of(page, tmp_path)}
    assert set(FIGURES.rglob("*.png")) == shown
    assert all(figure.stat().st_size < LARGEST for figure in shown)


# The runner itself: what it must refuse.

RIGHT = """
```python
print(f"{1 / 3:.3f} of 7 pixels")
```

```text
0.333 of 7 pixels
```

```sh
echo one; echo two
```

```text
... two
```

```sh title="once"
exit 1
```
"""


def page_of(text: str, folder: Path) -> Path:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_a_right_page_passes(tmp_path: Path) -> None:
    run_page(page_of(RIGHT, tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("1 / 3", "1 / 0", "ZeroDivisionError"),
        ("1 / 3", "1 / 2", "expected"),
        ("of 7 pixels\n```", "of 8 pixels\n```", "expected"),
        ("pixels\n```", "points\n```", "expected"),
        ("echo one", "false", "exit code 1"),
        ("echo one", "exit 3 | cat", "exit code 3"),
        ("echo two", "echo tow", "expected"),
        (' title="once"', "", "exit code 1"),
    ],
)
def test_a_broken_page_is_refused(right: str, wrong: str, complaint: str, tmp_path: Path) -> None:
    assert right in RIGHT
    page = page_of(RIGHT.replace(right, wrong), tmp_path)
    with pytest.raises(DocumentError, match=complaint):
        run_page(page, tmp_path)


def test_an_error_names_the_line_of_the_page(tmp_path: Path) -> None:
    page = page_of("text\n\n```python\nx = 1\nraise ValueError(x)\n```\n", tmp_path)
    with pytest.raises(DocumentError, match=r"page\.md:4: ValueError: 1"):
        run_page(page, tmp_path)


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("37.4 dB", "37.4 dB", True),
        ("37.9 dB", "37.4 dB", True),
        ("39.4 dB", "37.4 dB", False),
        ("0.93 inside", "0.95 inside", True),
        ("0.90 inside", "0.95 inside", False),
        ("70 images", "70 images", True),
        ("71 images", "70 images", False),
        ("a\n  b  c", "a b c", True),
        ("a ... 7", "... 7", True),
        ("anything at all 7 b", "... 7 b", True),
        ("anything at all 7 c", "... 7 b", False),
    ],
)
def test_numbers_may_differ_a_little_and_words_not(printed: str, expected: str, same: bool) -> None:
    assert says(printed, expected) is same


def test_other_figures_are_told_apart(tmp_path: Path) -> None:
    figures = sorted(FIGURES.rglob("*.panel.png"))
    assert difference(figures[0], figures[0]) == 0
    assert all(difference(figures[0], other) > 2 * ALIKE for other in figures[1:])
