"""What is known of a model, in tables: on the screen, and as its page of the documentation.

Everything comes from the model's folder (its card, rates, calibration cards and README), so that a
page says what the folder says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

Description = Mapping[str, Any]
"""As `certes.apps.jobs.models.describe` gives it."""

SECTIONS = ("scores", "rates", "certificate", "picture_sizes", "cards")
"""What of a description is told in tables."""

_SCORES = {
    "psnr": "PSNR, dB",
    "psnr_ddrm_same_network": "DDRM on the same network",
    "psnr_best_classical": "best classical method",
    "risk": "held-out risk of the card",
}


@dataclass(frozen=True)
class Section:
    """One thing that is known, as a table.

    Args:
        title: what it is.
        said: what the numbers mean, a sentence or more.
        columns: of the table.
        rows: of the table.
        words: how many of its first columns hold words.
    """

    title: str
    said: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


def sections(description: Description) -> list[Section]:
    """What of a description is told in tables; nothing of what is not known."""
    return [_TOLD[key](description[key]) for key in SECTIONS if description.get(key)]


def page(description: Description, readme: str) -> str:
    """The page of a bundled model, Markdown.

    Args:
        description: of the model.
        readme: its README.
    """
    name = description["name"]
    heading, _, body = readme.partition("\n")
    assert heading == f"# {name}", f"README of {name}: starts with {heading!r}"
    lines = [
        heading,
        "",
        "<!-- made from the model's folder by certes.apps.model_page -->",
        "",
        f'`certes.load("{name}")`, `--model {name}`, `certes models show {name}`: '
        f"{description['parameters'] / 1e6:.1f} million parameters, hash `{description['hash']}`.",
        body.rstrip(),
    ]
    for section in sections(description):
        lines += ["", f"## {section.title}", "", section.said, "", *_table(section)]
    return "\n".join(lines) + "\n"


def index(briefs: Sequence[Mapping[str, Any]]) -> str:
    """The page that lists the bundled models, Markdown.

    Args:
        briefs: as `certes.apps.jobs.models.list_bundled` gives them.
    """
    columns = ("model", "of", "trained on", "licence", "calibration cards")
    rows = tuple(
        (
            f"[{brief['name']}]({brief['name']}.md)",
            brief["summary"] or brief["kind"],
            brief["training_data"],
            brief["licence"],
            ", ".join(card["name"] for card in brief["cards"]) or "none",
        )
        for brief in briefs
    )
    return _INDEX.format(table="\n".join(_table(Section("", "", columns, rows))))


_INDEX = """# Models

<!-- made from the models' folders by certes.apps.model_page -->

These come with certes; `certes models list` and `certes models show NAME` say the same.

{table}

## Which one

- **Grey fluorescence microscopy of cell nuclei**, at the resolution of the training pictures:
  `nuclei`. It has seen the most, and has a card for each task of `certes demo`.
- **The same at another resolution**, or values at scattered positions: `nuclei-functions`;
  `nuclei-functions@2x` is for pictures twice as fine as the training pictures. Cards are for the
  resolution that they were made at.
- **Photographs**, grey or in colour: `photo-grey`, a small one; the preset `photo` trains a larger
  one on a GPU. Its cards are for grey pictures.
- **Anything else**: `certes train`, or a diffusers or guided-diffusion checkpoint measured with
  `certes models measure`. A model that never saw your kind of pictures may be wrong with
  confidence; a calibration card of your own (`certes calibrate`) says by how much its intervals
  must grow.

## What the pages say

*Scores* are of pictures that the model was not trained on, tuned on or chosen by. *What it expects
to spend* is the expected Kullback-Leibler divergence of its reverse steps, which is what a codec
pays. A *certificate* says how much answers depend on the resolution or the size of the picture.
*Calibration cards* make guaranteed intervals: one is used by itself where model, task, noise,
samples, steps and alpha are those of the card.
"""


def _scores(scores: Mapping[str, Any]) -> Section:
    kinds = [kind for kind in _SCORES if kind in scores]
    tasks = list(scores[kinds[0]])
    rows = [(task, *(_score(scores[kind].get(task)) for kind in kinds)) for task in tasks]
    columns = ("task", *(_SCORES[kind] for kind in kinds))
    return Section("Scores", f"On {scores['pictures']}.", columns, tuple(rows))


def _score(value: float | str | None) -> str:
    """PSNR has two decimals, a risk has four."""
    if isinstance(value, float | int):
        return f"{value:.2f}" if value > 1 else f"{value:.4f}"
    return value or "-"


def _rates(rates: Mapping[str, Any]) -> Section:
    octaves = rates["bits_per_value_each_octave"].items()
    rows = [(f"{2 * float(low):g}", f"{float(low):g}", f"{bits:.4f}") for low, bits in octaves]
    down = ", ".join(
        f"{bits:.3f} down to {level}" for level, bits in rates["bits_per_value"].items()
    )
    said = (
        "Expected Kullback-Leibler divergence of the reverse steps from one noise level to half of "
        f"it, in bits a value: short steps share it evenly. From pure noise it comes to {down}; "
        f"all of an 8-bit picture takes {rates['lossless_bits_per_value']:.2f} bits a value."
    )
    columns = ("noise from", "to", "bits a value")
    return Section("What it expects to spend", said, columns, tuple(rows))


def _certificate(certificate: Mapping[str, Any]) -> Section:
    distances = certificate["spectral_distance_db"]
    rows = [
        (f"{r}", f"{error:.2%}", f"{distances[r]:.2g} dB" if r in distances else "-")
        for r, error in certificate["operator_error"].items()
    ]
    said = (
        "How answers change with pictures R times as fine as the training pictures, seen at the "
        "resolution that both can show; R below 1: coarser ones. The aliased energy of blurred "
        "noise at the training resolution is "
        f"{certificate['aliased_energy']:.2g} along an axis."
    )
    columns = ("R", "answers differ by", "spectra of samples differ by")
    return Section("Discretisation certificate", said, columns, tuple(rows))


def _picture_sizes(sizes: Mapping[str, Any]) -> Section:
    rows = [(f"{side} x {side}", f"{error:.3f}") for side, error in sizes["relative_error"].items()]
    said = (
        "A network of pixels has no discretisation certificate: it knows one resolution. It is "
        "fully convolutional, and takes pictures of any size; this is the squared error of "
        f"denoising (noise {sizes['noise']}) the same pixels of {sizes['pictures']} pictures in "
        "pieces of several sizes, relative to that in pieces of the training size."
    )
    return Section("Size of the picture", said, ("pixels", "relative error"), tuple(rows))


def _cards(cards: Sequence[Mapping[str, Any]]) -> Section:
    rows = [
        (
            card["name"],
            operator_in_short(card["operator"]),
            str(card["noise"]),
            card["rule"],
            str(card["pictures"]),
            f"{card['lambda']:.3f}",
        )
        for card in cards
    ]
    guarantees = dict.fromkeys(card["guarantee"] for card in cards)
    columns = ("card", "operator", "noise", "rule", "pictures", "lambda")
    return Section("Calibration cards", "\n\n".join(guarantees), columns, tuple(rows), words=2)


_TOLD: dict[str, Callable[[Any], Section]] = {
    "scores": _scores,
    "rates": _rates,
    "certificate": _certificate,
    "picture_sizes": _picture_sizes,
    "cards": _cards,
}


def operator_in_short(label: str | None) -> str:
    """An operator as cards have it, for people: long rows of numbers are counted, not shown."""
    if label is None:
        return "not said"
    name, _, rest = label.partition(" ")
    parameters: dict[str, Any] = json.loads(rest or "{}")
    told = [
        f"{key} of {len(cast(list[Any], value))} taps"
        if isinstance(value, list)
        else f"{key} {value}"
        for key, value in parameters.items()
    ]
    return ", ".join([name, *told])


def _table(section: Section) -> Iterator[str]:
    yield _row(section.columns)
    yield _row(["---"] * len(section.columns))
    yield from map(_row, section.rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
