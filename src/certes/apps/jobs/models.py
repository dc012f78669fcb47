"""What is known of models."""

from __future__ import annotations

from typing import Any

from certes.apps.cards import shipped_cards
from certes.networks.files import read_json
from certes.networks.model import BUNDLED, CARD, bundled_models, load


def list_bundled() -> list[dict[str, Any]]:
    """The bundled models, in short.

    Raises: ModelError or CalibrationError for a damaged installation.
    """
    return [_brief(name) for name in bundled_models()]


def describe(source: str) -> dict[str, Any]:
    """All that a model folder says about itself; `source` as for `certes.load`.

    Raises: ModelError if there is no such model, or it cannot be read.
    """
    model = load(source, "cpu")
    parameters = sum(weights.numel() for weights in model.denoiser.net.parameters())
    return {
        "name": model.name,
        "hash": model.hash,
        "channels": model.channels,
        "parameters": parameters,
        **{key: value for key, value in model.card.items() if key not in ("name", "channels")},
        "cards": _cards(source),
    }


def _brief(name: str) -> dict[str, Any]:
    card = read_json(BUNDLED / name / CARD)
    known = {key: card.get(key, "unknown") for key in ("channels", "training_data", "licence")}
    return {"name": name, **known, "cards": _cards(name)}


def _cards(source: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "operator": None if card.provenance is None else card.provenance.operator,
            "noise": None if card.provenance is None else card.provenance.noise,
            "alpha": card.alpha,
            "delta": card.delta,
            "guarantee": card.guarantee,
        }
        for name, card in shipped_cards(source).items()
    ]
