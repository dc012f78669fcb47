"""Which calibration card holds for a run: the user's, or one that the model brought along."""

from __future__ import annotations

from pathlib import Path

import torch

from certes.errors import InputError
from certes.intervals.bounds import Bounds, Provenance
from certes.intervals.cards import Calibration
from certes.networks.model import BUNDLED, bundled_models

FOLDER = "cards"


def shipped_cards(source: str) -> dict[str, Calibration]:
    """Cards by name, from the folder ``cards`` in the model's own; `source` as for `certes.load`.

    Raises: CalibrationError for a damaged card.
    """
    path = BUNDLED / source if source in bundled_models() else Path(source)
    folder = path.parent if path.is_file() else path
    return {card.stem: Calibration.load(card) for card in sorted((folder / FOLDER).glob("*.json"))}


def find_card(given: Path | None, source: str, wanted: Provenance | None) -> Calibration | None:
    """The given card, else a shipped one made for exactly these settings, else None.

    Args:
        given: the card that the user named.
        source: the model, as for `certes.load`.
        wanted: what the bounds will say of themselves; None when the noise is yet to be estimated.

    Raises: CalibrationError when the given card does not hold for these settings: it says what
        differs. InputError for a card with estimated noise.
    """
    if given is None:
        return next((c for c in shipped_cards(source).values() if c.provenance == wanted), None)
    if wanted is None:
        raise InputError(
            "calibration: a card holds for one noise level, not for an estimate: give --noise SIGMA"
        )
    card = Calibration.load(given)
    check_card(card, wanted)
    return card


def check_card(card: Calibration, wanted: Provenance) -> None:
    """Try a card on bounds of a single pixel, before any work goes into real ones.

    Raises: CalibrationError when it does not hold for bounds of this provenance.
    """
    pixel = torch.full((1, 1, 1, 1), 0.5)
    card(Bounds(pixel, pixel, pixel, wanted))
