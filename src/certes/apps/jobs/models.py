"""What is known of models; foreign ones measured, and ours written for others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from certes import __version__
from certes.apps.cards import shipped_cards
from certes.apps.console import progress
from certes.apps.model_page import index, page
from certes.conditional.model import KIND, load_conditional
from certes.conditional.one_pass.model import load_one_pass
from certes.data.patches import PatchDataset, load_folder
from certes.data.pictures import find_pictures
from certes.diffusion.rates import RateCurve
from certes.errors import InputError
from certes.function_space import model as function_space
from certes.networks import one_pass
from certes.networks.conditional import ConditionalNetworkDenoiser
from certes.networks.export import save_diffusers
from certes.networks.files import read_json
from certes.networks.model import (
    BUNDLED,
    CARD,
    RATES,
    bundled_models,
    digest_of,
    folder_of,
    kind_of,
    load,
    reading,
)
from certes.training.fitted import Fitted
from certes.training.publish import publish

README = "README.md"
# Side of the patches for a fully convolutional network that does not say its own.
_SIDE = 64
# Noise levels at which rates are told, image units.
_TOLD = (0.3, 0.1, 0.03, 0.01)
# Upper ends of octaves of noise: the steps of a chain within one share its divergence evenly.
_OCTAVES = tuple(2.0**-i for i in range(7))


def list_bundled() -> list[dict[str, Any]]:
    """The bundled models, in short.

    Raises: ModelError or CalibrationError for a damaged installation.
    """
    return [_brief(name) for name in bundled_models()]


def describe(source: str) -> dict[str, Any]:
    """All that is known of a model; `source` as for `certes.load`.

    Raises: ModelError if there is no such model, or it cannot be read.
    """
    known, card = _KINDS.get(kind_of(source), _unconditional)(source)
    more = {key: value for key, value in card.items() if key not in known}
    return {**known, **more, "cards": _cards(source)}


def pages() -> dict[str, str]:
    """The documentation's pages of the bundled models by name, with their index, Markdown.

    Raises: ModelError or CalibrationError for a damaged installation.
    """
    models = {
        name: page(describe(name), (BUNDLED / name / README).read_text(encoding="utf-8"))
        for name in bundled_models()
    }
    return {"index": index(list_bundled()), **models}


def export(source: str, out: Path) -> dict[str, Any]:
    """Write a model for diffusers; `source` as for `certes.load`.

    Raises: ModelError for what diffusers cannot express, InputError if `out` holds something.
    """
    model = load(source, "cpu", dtype=torch.float32)
    save_diffusers(model, out)
    return {"model": model.name, "hash": model.hash, "folder": str(out)}


def measure(source: str, data: Path, out: Path, licence: str, device: str | None) -> dict[str, Any]:
    """Measure any model's errors on pictures like those it was trained on; save a model folder.

    Raises: ModelError for a model that cannot be read, InputError for unfit pictures, or if `out`
        holds something other than a model folder.
    """
    if out.exists() and any(out.iterdir()) and not (out / CARD).is_file():
        raise InputError(f"out: {out} holds something else; give a new folder")
    if not data.is_dir():
        raise InputError(f"data: {data} is no folder; give a folder of pictures")
    model = load(source, device, dtype=torch.float32)
    side = model.side or _SIDE
    with progress("reading pictures", len(find_pictures([data]))) as advance:
        pictures = load_folder(data, advance, grey=model.channels == 1)
    patches = PatchDataset(pictures, side, busy=0, symmetries="none")  # as its user gives them
    card = {
        **model.card,
        "training_data": data.resolve().name,
        "pictures": len(patches),
        "licence": licence,
        "version": __version__,
    }
    with progress("measuring the network's errors", None):
        publish(model.denoiser, patches, out, card, earlier=Fitted.load(folder_of(source)))
    return {
        "model": model.name,
        "hash": digest_of(model.denoiser),
        "pictures": len(patches),
        "inflation": model.denoiser.inflation,
        "folder": str(out),
    }


def _unconditional(source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is known of a model of pictures, and its card."""
    model = load(source, "cpu")
    known = {
        "name": model.name,
        "hash": model.hash,
        "channels": model.channels,
        "parameters": _parameters(model.net),
        **reading(model.denoiser),
        "head": model.denoiser.head,
        "rates": None if model.rates is None else _summary(model.rates),
    }
    return known, model.card


def _conditional(source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is known of a conditional model, and its card, which says how it reads conditions."""
    model = load_conditional(source, "cpu")
    denoiser = model.denoiser
    assert isinstance(denoiser, ConditionalNetworkDenoiser)  # loaded models are networks
    known = {
        "name": model.name,
        "hash": model.hash,
        "kind": KIND,
        "summary": model.summary,
        "task": model.task.to_config(),
        "estimator": model.estimator.to_config(),
        "channels": model.channels,
        "parameters": _parameters(denoiser.net),
    }
    return known, model.card


def _bounds(source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is known of a model that answers with bounds, and its card."""
    model = load_one_pass(source, "cpu")
    known = {
        "name": model.name,
        "hash": model.hash,
        "kind": one_pass.KIND,
        "summary": f"{model.method}: bounds in one network call, {model.task.kind}",
        "channels": model.channels,
        "parameters": _parameters(model.network.net),
    }
    return known, model.card


def _functions(source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is known of a model of functions, and its card, with the discretisation certificate."""
    model = function_space.load_function_model(source, "cpu")
    known = {
        "name": model.name,
        "hash": model.hash,
        "channels": model.channels,
        "parameters": _parameters(model.net),
        "pitch": model.pitch,
        **function_space.reading_of(model.denoiser),
        "latent": model.net.config.latent,
        "rates": _function_rates(source) if model.pitch == 1 else None,
    }
    return known, model.card


def _function_rates(source: str) -> dict[str, Any] | None:
    """What was measured at the pitch of the training pictures."""
    path = folder_of(source) / RATES
    return _summary(RateCurve.from_dict(read_json(path))) if path.is_file() else None


_KINDS = {
    KIND: _conditional,
    one_pass.KIND: _bounds,
    function_space.KIND: _functions,
}


def _parameters(net: nn.Module) -> int:
    return sum(weights.numel() for weights in net.parameters())


def _summary(rates: RateCurve) -> dict[str, Any]:
    """Bits per value that a chain spends down to some noise levels, and for all of a picture."""
    bits = {str(level): round(float(rates.rate(level)), 4) for level in _TOLD}
    levels = rates.levels
    lossless = float((rates.rate(levels) + rates.tail_at(levels)).min())
    return {
        "bits_per_value": bits,
        "bits_per_value_each_octave": {
            str(high / 2): round(float(rates.rate(high / 2) - rates.rate(high)), 4)
            for high in _OCTAVES
        },
        "lossless_bits_per_value": round(lossless, 4),
    }


def _brief(name: str) -> dict[str, Any]:
    card = read_json(BUNDLED / name / CARD)
    known = {key: card.get(key, "unknown") for key in ("channels", "training_data", "licence")}
    summary = card.get("summary") or card.get("description")
    kind = {"kind": card.get("kind", "unknown"), "summary": summary}
    return {"name": name, **kind, **known, "cards": _cards(name)}


def _cards(source: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "operator": None if card.provenance is None else card.provenance.operator,
            "noise": None if card.provenance is None else card.provenance.noise,
            "rule": card.rule,
            "pictures": card.images,
            "lambda": card.size,
            "alpha": card.alpha,
            "delta": card.delta,
            "guarantee": card.guarantee,
        }
        for name, card in shipped_cards(source).items()
    ]
