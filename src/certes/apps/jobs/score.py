"""Score a folder of generated pictures against a folder of real ones."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from certes import __version__
from certes.apps.console import progress
from certes.data.files import write_json
from certes.data.pictures import find_pictures, read_picture
from certes.errors import InputError
from certes.evaluation.features import FeatureNetwork, model_features
from certes.evaluation.folders import PictureFiles
from certes.evaluation.generated import features_of, score_features
from certes.evaluation.weights import inception_features, is_script, script_features
from certes.networks.model import load

INCEPTION = "inception"


def score_folders(
    samples: Path,
    data: Path,
    features: str,
    weights: Path | None,
    fit: str | None,
    seed: int,
    device: str | None,
    out: Path | None,
) -> dict[str, Any]:
    """Score the pictures in `samples` against those in `data`; returns what ``--out`` holds.

    Raises: CertesError for a network that cannot be had, or pictures that cannot be compared.
    """
    generated, real = _drawn(_pictures("SAMPLES", samples)), _pictures("data", data)
    network = _network(features, weights, device)
    height, width = read_picture(generated[0]).pixels.shape[-2:]
    drawn = PictureFiles(generated, (height, width), network.channels)
    true = PictureFiles(real, (height, width), network.channels, fit)
    with progress("looking at pictures", len(generated) + len(real)) as advance:
        of_drawn = features_of(network, drawn.batches(advance))
        of_true = features_of(network, true.batches(advance))
    with progress("comparing", None):
        scores = score_features(network, of_true, of_drawn, seed)
    content = {
        "version": __version__,
        "distance": scores.distance_name,
        **asdict(scores),
        "size": [height, width],
        "fit": fit,
        "seed": seed,
    }
    if out is not None:
        write_json(out, content)
    return content


def _network(features: str, weights: Path | None, device: str | None) -> FeatureNetwork:
    if features == INCEPTION:
        return inception_features(weights, device)
    if weights is not None:
        raise InputError(
            f"weights: {weights} is for --features inception, not for --features {features}"
        )
    path = Path(features)
    if path.is_file() and is_script(path):
        return script_features(path, device)
    # In float32 everywhere, so that scores do not depend on what the machine is fast in.
    return model_features(load(features, device, dtype=torch.float32))


def _pictures(name: str, folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{name}: {folder} is no folder: give a folder of pictures")
    return find_pictures([folder])


def _drawn(found: list[Path]) -> list[Path]:
    """Where `certes sample` wrote, its samples without the sheets and frames beside them."""
    samples = [path for path in found if re.fullmatch(r"sample-\d+", path.stem)]
    return samples or found
