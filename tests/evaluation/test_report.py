"""The report says what was measured, and stays valid JSON."""

from __future__ import annotations

import json
from pathlib import Path

from certes.evaluation.report import Failure, ImageReport, Report, write_report


def test_report_has_the_documented_keys(tmp_path: Path) -> None:
    known = ImageReport("a", 0.1, 1.5, 20, psnr=30.0, coverage=0.91)
    report = Report(
        version="0.1.0",
        model="nuclei",
        task="denoise",
        noise=0.1,
        alpha=0.1,
        delta=0.1,
        guarantee=None,
        images=[known, ImageReport("b", 0.2, 1.0, 20), ImageReport("c", 0, 1.0, 20, float("inf"))],
        failures=[Failure("d.png", "d.png: empty")],
        settings={"steps": 20},
    )
    write_report(tmp_path / "report.json", report)
    content = json.loads((tmp_path / "report.json").read_text())
    assert list(content)[:8] == [
        "version",
        "model",
        "task",
        "noise",
        "alpha",
        "delta",
        "guarantee",
        "images",
    ]
    assert content["images"] == [
        {"name": "a", "mean_width": 0.1, "seconds": 1.5, "nfe": 20, "psnr": 30.0, "coverage": 0.91},
        {"name": "b", "mean_width": 0.2, "seconds": 1.0, "nfe": 20},
        {"name": "c", "mean_width": 0, "seconds": 1.0, "nfe": 20, "psnr": None},
    ]
    assert content["failures"] == [{"name": "d.png", "error": "d.png: empty"}]
    assert content["settings"] == {"steps": 20}
