"""The report of an evaluation, for people: one HTML page that needs no other file."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from string import Template
from typing import Any

from certes.evaluation.findings import Figure
from certes.evaluation.panels import NO_GUARANTEE

Content = Mapping[str, Any]

# No script, and nothing from elsewhere: a page that was mailed around stays what it was.
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #222; --muted: #666; --page: #fff; --soft: #f3f5f7;
  --line: #d8dde2; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --muted: #a3a8ad; --page: #16181a;
  --soft: #22262a; --line: #3a4046; --accent: #56b4e9; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 68rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { max-width: 44rem; }
.muted { color: var(--muted); }
.guarantee { border-left: .3rem solid var(--accent); background: var(--soft);
  padding: .75rem 1rem; margin: 1rem 0; }
.guarantee p { margin: .25rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .7rem; border-bottom: 1px solid var(--line);
  vertical-align: baseline; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.numbers td { white-space: nowrap; }
thead th { color: var(--muted); font-weight: 600; }
tbody th { font-weight: normal; }
.limits { display: block; font-size: .8rem; color: var(--muted); }
.made th, .made td { text-align: left; }
.made th { color: var(--muted); }
.figures { display: grid; gap: 1.25rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0 0 1rem; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: .4rem;
  border: 1px solid var(--line); }
.figures img { width: 100%; box-sizing: border-box; }
figcaption { font-size: .9rem; color: var(--muted); margin-top: .4rem; }
</style>
</head>
<body>
<h1>$title</h1>
<p class="muted">$about</p>
<div class="guarantee">
<p>$guarantee</p>
<p>$verdict</p>
</div>
<h2>Scores</h2>
<p class="muted">Small print under a number is its 95 % interval: how far it might be off because
other pictures could have been chosen.</p>
<div class="scroll">$scores</div>
<h2>What other miss rates would have cost</h2>
<p class="muted">Read off these very pictures, in the family of intervals <q>$family</q>: it
describes them and guarantees nothing.</p>
<div class="scroll">$costs</div>
<h2>Figures</h2>
<div class="figures">
$figures
</div>
<h2>The first pictures</h2>
$panels
<h2>All pictures</h2>
<div class="scroll">$pictures</div>
<h2>How this was made</h2>
<div class="scroll">$made</div>
</body>
</html>
""")

_MEANINGS = {
    "version": "certes",
    "model": "model",
    "model_hash": "hash of the model",
    "task": "task",
    "operator": "operator",
    "noise": "noise, image units",
    "alpha": "alpha",
    "nfe": "network calls per sample",
}
_CARD_MEANINGS = {
    "lambda": "interval size λ",
    "n": "independent units n",
    "delta": "delta",
    "date": "made on",
    "version": "made by certes",
}
_WANTED_RISKS = (0.2, 0.1, 0.05, 0.02, 0.01)


def report_page(report: Content, figures: Iterable[Figure], panels: Iterable[Figure]) -> str:
    """The page.

    Args:
        report: what is in ``report.json``; its settings hold ``scores`` of
            `certes.evaluation.findings.Findings`, and ``card``, the calibration's or null.
        figures: what shows the scores.
        panels: pictures that were restored.
    """
    settings: Content = report["settings"]
    scores: Content = settings["scores"]
    return _PAGE.substitute(
        title=escape(f"How good are the intervals? {report['task']} by {report['model']}"),
        about=escape(_about(report)),
        guarantee=escape(report["guarantee"] or NO_GUARANTEE),
        verdict=escape(verdict(report)),
        scores=_score_table(scores),
        family=escape(scores["curve"]["family"]),
        costs=_cost_table(scores["curve"]),
        figures="\n".join(_figure(figure) for figure in figures),
        panels="\n".join(_figure(panel) for panel in panels),
        pictures=_picture_table(report["images"]),
        made=_made_table(report),
    )


def verdict(report: Content) -> str:
    """What these pictures say about the promise, in words."""
    scores: Content = report["settings"]["scores"]
    judged: Content = scores["calibrated"] or scores["raw"]
    alpha = (report["settings"]["card"] or report)["alpha"]
    if scores["image_risk"] is not None:
        return _image_verdict(scores["image_risk"], alpha)
    limits = judged["risk_interval"]
    found = f"On {_count(judged['images'])} they missed {_percent(judged['risk'])} of the pixels"
    if limits is None:
        return f"{found}; one alone cannot tell how far that holds for others."
    told = f"{found} (95 % interval: {_percent(limits[0])} to {_percent(limits[1])})"
    aim = "promised" if scores["calibrated"] else "aimed at"
    return f"{told}; {aim}: at most {_percent(alpha)}. {_compared(limits, alpha)}"


def _image_verdict(found: Content, alpha: float) -> str:
    low, high = found["interval"]
    return (
        f"They missed more than {_percent(found['tolerance'])} of the pixels of "
        f"{_percent(found['share'])} of {_count(found['images'])} (95 % interval: {_percent(low)} "
        f"to {_percent(high)}); promised: of at most {_percent(alpha)}. "
        f"{_compared(found['interval'], alpha)}"
    )


def _compared(limits: Sequence[float], alpha: float) -> str:
    if limits[1] <= alpha:
        return "These pictures agree with that."
    if limits[0] > alpha:
        return (
            "That is more: these pictures differ from what it was meant for, or it was wrong from "
            "the start."
        )
    return "These pictures are too few, or too different, to tell whether more would be missed."


def _about(report: Content) -> str:
    settings: Content = report["settings"]
    pictures, day = _count(len(report["images"])), settings["date"][:10]
    return f"{pictures}, restored ({settings['operator']}) and compared with the truth on {day}."


def _score_table(scores: Content) -> str:
    kinds = [kind for kind in ("raw", "calibrated") if scores[kind] is not None]
    columns: list[Content] = [scores[kind] for kind in kinds]
    quarters = ("the narrowest quarter of intervals", "the second", "the third", "the widest")
    rows: list[tuple[str, Sequence[str]]] = [
        ("missed pixels", [_with_limits(s, "risk", _percent) for s in columns]),
        *(
            (f"… among {name}", [_stratum(s, i) for s in columns])
            for i, name in enumerate(quarters)
        ),
        ("mean width, image units", [_data(s["width"], _decimal) for s in columns]),
        ("median width", [_data(s["width_median"], _decimal) for s in columns]),
        (
            "rank correlation of width and error",
            [_with_limits(s, "rank_correlation", _decimal) for s in columns],
        ),
        ("unevenness over the picture, sd", [_uneven(s, "sd") for s in columns]),
        ("… by chance alone", [_uneven(s, "chance_sd") for s in columns]),
        ("PSNR of the restorations, dB", [_data(s["psnr"], _hundredths) for s in columns]),
        ("SSIM", [_data(s["ssim"], _decimal) for s in columns]),
    ]
    if scores["psnr_degraded"] is not None:
        degraded = _data(scores["psnr_degraded"], _hundredths)
        rows.append(("PSNR of the degraded pictures, dB", [degraded] * len(columns)))
    return _table(("", *kinds), rows)


def _stratum(score: Content, i: int) -> str:
    limits = score["stratified_risk_interval"][i]
    return _data(score["stratified_risk"][i], _percent) + _limits(limits, _percent)


def _uneven(score: Content, which: str) -> str:
    spread: Content | None = score["miscoverage"]
    return _data(None if spread is None else spread[which], _percent)


def _cost_table(curve: Content) -> str:
    rows: list[tuple[str, list[str]]] = []
    for wanted in _WANTED_RISKS:
        found = next((i for i, risk in enumerate(curve["risk"]) if risk <= wanted), None)
        if found is not None:
            values = (("risk", _percent), ("sizes", _decimal), ("width", _decimal))
            row = [_data(curve[name][found], form) for name, form in values]
            rows.append((f"at most {_percent(wanted)}", row))
    return _table(("to miss", "missed", "size λ", "mean width"), rows)


def _picture_table(images: Sequence[Content]) -> str:
    rows = [
        (
            image["name"],
            [
                _data(1 - image["coverage"], _percent),
                _data(image["mean_width"], _decimal),
                _data(image.get("psnr"), _hundredths),
            ],
        )
        for image in images
    ]
    return _table(("picture", "missed pixels", "mean width", "PSNR, dB"), rows)


def _made_table(report: Content) -> str:
    settings: Content = report["settings"]
    top = {name: report[name] for name in ("version", "model", "task", "noise", "alpha")}
    run = {k: v for k, v in settings.items() if k not in ("scores", "card")}
    run["nfe"] = ", ".join(str(n) for n in sorted({image["nfe"] for image in report["images"]}))
    rows = _made_rows({**top, **run}, _MEANINGS)
    if settings["card"] is not None:
        rows += _made_rows(settings["card"], _CARD_MEANINGS, prefix="calibration: ")
    return f'<table class="made"><tbody>{"".join(rows)}</tbody></table>'


def _made_rows(content: Content, meanings: Mapping[str, str], prefix: str = "") -> list[str]:
    return [
        f'<tr><th scope="row">{escape(prefix + meanings.get(name, name))}</th>'
        f"<td>{escape(_plain(value))}</td></tr>"
        for name, value in content.items()
        if value is not None
    ]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Columns and row names are text, cells are HTML."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{c}</td>" for c in cells)}</tr>'
        for name, cells in rows
    )
    return f'<table class="numbers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _figure(figure: Figure) -> str:
    data = b64encode(figure.png).decode("ascii")
    return (
        f'<figure><img alt="{escape(figure.title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(figure.reading)}</figcaption></figure>"
    )


def _data(value: float | None, form: Callable[[float], str]) -> str:
    """A rounded number that still carries all its digits; a dash where there is none."""
    if value is None:
        return "–"
    return f'<data value="{json.dumps(value)}">{escape(form(value))}</data>'


def _with_limits(score: Content, name: str, form: Callable[[float], str]) -> str:
    return _data(score[name], form) + _limits(score[f"{name}_interval"], form)


def _limits(limits: Sequence[float] | None, form: Callable[[float], str]) -> str:
    if limits is None:
        return ""
    low, high = (_data(value, form) for value in limits)
    return f'<span class="limits">{low} to {high}</span>'


def _count(pictures: int) -> str:
    return "1 picture" if pictures == 1 else f"{pictures} pictures"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _decimal(value: float) -> str:
    return f"{value:.3f}"


def _hundredths(value: float) -> str:
    return f"{value:.2f}"
