"""From trained weights to the folder of a model of functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from certes.data.patches import PatchDataset
from certes.function_space.certificate import certificate
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.filter_measuring import measure_filter
from certes.function_space.model import save_function_model
from certes.training.fitted import Fitted
from certes.training.inflation import measure_inflation
from certes.training.publish import FRESH, INFLATION_PATCHES, SPECTRUM_PATCHES
from certes.training.residuals import measure_residuals

# Patches for the filter, whose every gain is shared by many coefficients.
_FILTER_PATCHES = 64


def publish_functions(
    denoiser: FunctionDenoiser,
    data: PatchDataset,
    folder: Path,
    card: dict[str, Any],
    count: int = SPECTRUM_PATCHES,
) -> None:
    """Measure a network on its training pictures and write the model folder.

    First the filter, which makes of the network's answers estimates of pictures; then their errors;
    and the discretisation certificate, which the card keeps. The folder remembers the pictures
    (:mod:`certes.training.fitted`).

    Args:
        denoiser: the trained network; its ``unmollify``, ``spectrum`` and ``inflation`` are set.
        data: the training pictures.
        folder: where; see :func:`certes.function_space.model.save_function_model`.
        card: ``name``, training data, licence and whatever else is known.
        count: patches to measure errors on; fewer are less accurate, and sooner done.
    """
    # What is measured is what will be used: the weights as they are stored.
    denoiser.net.to(torch.bfloat16).float()
    patches = data.batch(FRESH, count, seed=0)
    denoiser.unmollify = measure_filter(denoiser, patches[:_FILTER_PATCHES])
    turned = data.symmetries == "square"
    denoiser.spectrum = measure_residuals(denoiser, patches, turned=turned)
    denoiser.inflation = measure_inflation(denoiser, patches[:INFLATION_PATCHES])
    told = {**card, "certificate": certificate(denoiser, patches)}
    Fitted.to(data.pictures()).save(folder)
    save_function_model(folder, denoiser, told)
