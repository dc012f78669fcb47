"""What certes evaluate leaves behind for people."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path

from .helpers import FEW, Certes, grey, names

NOISY = ("--task", "denoise", "--noise", 0.1, "--crop", 32)
HOSTILE = '<img src=x onerror="1">&lt;'


def test_a_page_for_people_beside_the_report(certes: Certes, model: Path, tmp_path: Path) -> None:
    for i in range(2):
        grey(tmp_path / "truth" / f"{i}{HOSTILE}.png", i)
    out, usual = tmp_path / "out", (*NOISY, *FEW, "--model", model, "--data", tmp_path / "truth")
    answer = certes("evaluate", *usual, "--out", out)
    assert answer.code == 0
    assert answer.out.endswith(f"Results are in {out}; to read them, open {out / 'report.html'}\n")
    panels = [f"{i}{HOSTILE}.panel.png" for i in range(2)]
    assert names(out) == [*panels, "report.html", "report.json"]
    html = (out / "report.html").read_text(encoding="utf-8")
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["settings"]["sampler"] == "pinned"
    raw = report["settings"]["scores"]["raw"]
    assert (report["settings"]["card"], report["settings"]["scores"]["calibrated"]) == (None, None)
    for number in (raw["risk"], raw["rank_correlation"], raw["ssim"], *raw["risk_interval"]):
        assert f'<data value="{json.dumps(number)}">' in html
    assert html.count(f'<data value="{json.dumps(report["images"][1]["mean_width"])}">') == 1
    assert "carry no guarantee" in html
    assert html.count("data:image/png;base64,") == 2 + 5
    # A picture cannot write into the page.
    assert "<img src=x" not in html
    assert f"1{HOSTILE}" in unescape(html)


def test_help_tells_of_the_page(certes: Certes) -> None:
    assert "report.html" in certes("evaluate", "--help").out
