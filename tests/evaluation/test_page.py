"""The page is well-formed, self-contained, safe against names, and says what the report says."""

from __future__ import annotations

import copy
import json
from base64 import b64decode
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from certes.evaluation.findings import Figure
from certes.evaluation.page import report_page, verdict

VOID = {"meta", "img", "br"}
HOSTILE = '<script>alert("1")</script>&amp;\'"$title ${about} --> </table>'
PNG = b"\x89PNG not really"

RAW: dict[str, Any] = {
    "images": 3,
    "units": 3,
    "risk": 0.2345678,
    "risk_interval": [0.2123456, 0.2567891],
    "width": 0.0123456,
    "width_median": 0.0112233,
    "stratified_risk": [0.3111, 0.2222, None, 0.1333],
    "stratified_risk_interval": [[0.2911, 0.3311], [0.2022, 0.2422], None, [0.1133, 0.1533]],
    "rank_correlation": 0.4123,
    "rank_correlation_interval": [0.3888, 0.4444],
    "miscoverage": {"mean": 0.2345678, "sd": 0.077, "chance_sd": 0.066, "min": 0.0, "max": 0.9},
    "psnr": 31.2345,
    "ssim": None,
}
REPORT: dict[str, Any] = {
    "version": "0.1.0",
    "model": HOSTILE,
    "task": "denoise",
    "noise": 0.1,
    "alpha": 0.1,
    "delta": 0.2,
    "guarantee": "It holds & how: < 10 %.",
    "images": [
        {"name": HOSTILE, "mean_width": 0.0345, "seconds": 1.0, "nfe": 20, "psnr": 33.3333,
         "coverage": 0.9123},
        {"name": "b", "mean_width": 0.0456, "seconds": 1.0, "nfe": 20, "psnr": None,
         "coverage": 1.0},
    ],
    "failures": [],
    "settings": {
        "operator": HOSTILE,
        "model_hash": "0123abcd",
        "samples": 16,
        "steps": 20,
        "seed": 0,
        "sampler": None,
        "date": "2025-01-02T03:04:05+00:00",
        "card": {
            "alpha": 0.1, "delta": 0.2, "rule": "wsr", "family": "scale", "lambda": 1.23456,
            "n": 100, "date": "2024-12-31T00:00:00+00:00",
        },
        "scores": {
            "psnr_degraded": 20.1234,
            "raw": RAW,
            "calibrated": {**RAW, "risk": 0.0789123, "risk_interval": [0.07, 0.088]},
            "image_risk": None,
            "curve": {
                "family": "scale",
                "size": 1.23456,
                "sizes": [0.5, 1.23456, 2.5],
                "risk": [0.19, 0.0789123, 0.005],
                "risk_interval": [[0.1, 0.2]] * 3,
                "width": [0.0111, 0.0222, 0.0333],
            },
        },
    },
}  # fmt: skip


class Page(HTMLParser):
    """Elements, texts and numbers of a page; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.numbers: list[tuple[float, str]] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self.open), data))
        if self.open and self.open[-1] == "data":
            value = self.tags[-1][1]["value"]
            assert value is not None
            self.numbers.append((float(value), data))
        if "tr" in self.open:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return "".join(data for inside, data in self.texts if "style" not in inside)

    def row(self, name: str) -> list[str]:
        (row,) = [row for row in self.rows if row[0] == name]
        return row[1:]


@pytest.fixture(scope="module")
def html() -> str:
    figures = [Figure(HOSTILE, PNG, HOSTILE), Figure("second", PNG + b"2", "How to read it.")]
    return report_page(REPORT, figures, [Figure("panel", PNG + b"3", HOSTILE)])


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_parser_would_notice() -> None:
    for broken in ("<p><b></p></b>", "<p>", '<p class="a" class="b"></p>'):
        with pytest.raises(AssertionError):
            Page(broken)


def test_it_is_one_html_document(html: str, page: Page) -> None:
    assert html.startswith("<!DOCTYPE html>")
    counts = [[tag for tag, _ in page.tags].count(t) for t in ("html", "head", "body", "h1")]
    assert counts == [1, 1, 1, 1]
    assert ("meta", {"charset": "utf-8"}) in page.tags
    assert any(attrs.get("name") == "viewport" for _, attrs in page.tags)
    assert "prefers-color-scheme: dark" in html
    html.encode("utf-8")


def test_nothing_comes_from_elsewhere(html: str, page: Page) -> None:
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "a", "base"}
    sources = [attrs["src"] for _, attrs in page.tags if "src" in attrs]
    assert len(sources) == 3
    head = "data:image/png;base64,"
    pngs = [b64decode((source or "").removeprefix(head), validate=True) for source in sources]
    assert pngs == [PNG, PNG + b"2", PNG + b"3"]
    assert "url(" not in html
    assert "http://" not in html
    assert "https://" not in html


def test_hostile_names_are_text(html: str, page: Page) -> None:
    assert "<script" not in html
    assert page.row(HOSTILE)  # the very name, in the table of pictures
    assert page.row("operator") == [HOSTILE]
    assert next(attrs["alt"] for tag, attrs in page.tags if tag == "img") == HOSTILE
    assert page.text.count(HOSTILE) >= 6


def numbers_of(content: Any) -> Iterator[float]:
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for value in content:
            yield from numbers_of(value)
    elif isinstance(content, int | float):
        yield float(content)


def test_every_number_is_the_reports_and_its_text_is_that_number_rounded(page: Page) -> None:
    known = set(numbers_of(REPORT))
    known |= {1 - image["coverage"] for image in REPORT["images"]}
    assert len(page.numbers) > 40
    for value, text in page.numbers:
        assert value in known
        shown, _, unit = text.partition(" ")
        scale = {"%": 100, "": 1}[unit]
        digits = len(shown.partition(".")[2])
        assert float(shown) == pytest.approx(scale * value, abs=0.51 * 10.0**-digits)


def test_a_number_in_another_place_would_be_noticed(page: Page) -> None:
    """Rows hold the scores that they name, raw and calibrated side by side."""
    assert page.row("missed pixels") == ["23.5 %21.2 % to 25.7 %", "7.89 %7 % to 8.8 %"]
    assert page.row("… among the widest")[0].startswith("13.3 %")
    assert page.row("… among the third") == ["–", "–"]
    assert page.row("mean width, image units") == ["0.012", "0.012"]
    assert page.row("median width") == ["0.011", "0.011"]
    assert page.row("rank correlation of width and error")[0] == "0.4120.389 to 0.444"
    assert page.row("unevenness over the picture, sd")[0] == "7.7 %"
    assert page.row("… by chance alone")[0] == "6.6 %"
    assert page.row("SSIM") == ["–", "–"]
    assert page.row("PSNR of the restorations, dB") == ["31.23", "31.23"]
    assert page.row("PSNR of the degraded pictures, dB") == ["20.12", "20.12"]
    assert page.row("b") == ["0 %", "0.046", "–"]
    assert page.row(HOSTILE) == ["8.77 %", "0.035", "33.33"]


def test_costs_are_the_first_size_that_does(page: Page) -> None:
    assert page.row("at most 20 %") == ["19 %", "0.500", "0.011"]
    assert page.row("at most 10 %") == ["7.89 %", "1.235", "0.022"]
    assert page.row("at most 5 %") == page.row("at most 1 %") == ["0.5 %", "2.500", "0.033"]


def test_how_it_was_made(page: Page) -> None:
    for name, value in {
        "hash of the model": "0123abcd",
        "noise, image units": "0.1",
        "samples": "16",
        "steps": "20",
        "network calls per sample": "20",
        "date": "2025-01-02T03:04:05+00:00",
        "calibration: interval size λ": "1.23456",
        "calibration: rule": "wsr",
        "calibration: independent units n": "100",
        "calibration: made on": "2024-12-31T00:00:00+00:00",
    }.items():
        assert page.row(name) == [value]
    assert not [row for row in page.rows if row[0] == "sampler"]  # it was not said


def test_the_guarantee_comes_first(page: Page) -> None:
    text = page.text
    assert text.index(REPORT["guarantee"]) < text.index("Scores")


def changed(**scores: Any) -> dict[str, Any]:
    report = copy.deepcopy(REPORT)
    report["settings"]["scores"].update(scores)
    return report


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ((0.05, 0.1), "These pictures agree with that."),
        ((0.11, 0.2), "That is more"),
        ((0.05, 0.2), "too few"),
        (None, "one alone cannot tell"),
    ],
)
def test_verdict(limits: Any, said: str) -> None:
    score = {**RAW, "risk": 0.1, "risk_interval": limits}
    told = verdict(changed(calibrated=score))
    assert said in told
    assert "On 3 pictures they missed 10 % of the pixels" in told
    assert ("promised: at most 10 %" in told) == (limits is not None)


def test_verdict_on_raw_bounds_speaks_of_no_promise() -> None:
    report = changed(calibrated=None)
    report["settings"]["card"] = report["guarantee"] = None
    told = verdict(report)
    assert "aimed at: at most 10 %" in told
    assert "promised" not in told
    page = Page(report_page(report, [], []))
    assert "carry no guarantee" in page.text
    assert page.row("missed pixels") == ["23.5 %21.2 % to 25.7 %"]
    assert not [row for row in page.rows if row[0].startswith("calibration")]


def test_verdict_on_single_pictures() -> None:
    found = {"tolerance": 0.25, "images": 3, "share": 1 / 3, "interval": [0.01, 0.9]}
    told = verdict(changed(image_risk=found))
    assert "more than 25 % of the pixels of 33.3 % of 3 pictures" in told
    assert "promised: of at most 10 %" in told


def test_a_report_from_json_gives_the_same_page(html: str) -> None:
    again = json.loads(json.dumps(REPORT))
    figures = [Figure(HOSTILE, PNG, HOSTILE), Figure("second", PNG + b"2", "How to read it.")]
    assert report_page(again, figures, [Figure("panel", PNG + b"3", HOSTILE)]) == html
