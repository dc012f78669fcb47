"""From trained weights to a model folder: measure what the samplers need to know, then write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from certes.data.patches import PatchDataset
from certes.networks.denoiser import NetworkDenoiser
from certes.networks.model import save_model
from certes.training.fitted import Fitted
from certes.training.inflation import measure_inflation
from certes.training.rates import measure_rates
from certes.training.residuals import measure_residuals

# Patches for the residual spectrum (5 % accuracy a coefficient) and the rates; for the inflation
# (3 %).
SPECTRUM_PATCHES = 256
INFLATION_PATCHES = 32

# A step that no training run reaches, so that the patches are fresh crops.
FRESH = 2**31


def publish(
    denoiser: NetworkDenoiser,
    data: PatchDataset,
    folder: Path,
    card: dict[str, Any],
    count: int = SPECTRUM_PATCHES,
    earlier: Fitted | None = None,
) -> None:
    """Measure the network's errors on its training pictures and write the model folder.

    The folder remembers the pictures (:mod:`certes.training.fitted`).

    Args:
        denoiser: the trained network; its ``spectrum``, ``inflation`` and ``rates`` are set.
        data: the training pictures.
        folder: where; see :func:`certes.networks.model.save_model`.
        card: ``name``, training data, licence and whatever else is known.
        count: patches to measure on; fewer are less accurate, and sooner done.
        earlier: pictures that the network knew before.
    """
    # What is measured is what will be used: the weights as they are stored.
    denoiser.net.to(torch.bfloat16).float()
    patches = data.batch(FRESH, count, seed=0)
    turned = data.symmetries == "square"
    denoiser.spectrum = measure_residuals(denoiser, patches, turned=turned)
    denoiser.inflation = measure_inflation(denoiser, patches[:INFLATION_PATCHES])
    denoiser.rates = measure_rates(denoiser, patches)
    (Fitted.to(data.pictures()) | earlier).save(folder)
    save_model(folder, denoiser, card, torch.bfloat16)
