"""From trained weights to a conditional model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from certes.conditional.model import save_conditional, summary_of
from certes.conditional.recipe import Conditional
from certes.data.patches import PatchDataset
from certes.networks.conditional import ConditionalNetworkDenoiser
from certes.training.fitted import Fitted


def publish_conditional(
    recipe: Conditional,
    denoiser: ConditionalNetworkDenoiser,
    data: PatchDataset,
    folder: Path,
    card: dict[str, Any],
) -> None:
    """Write the model folder of a finished run; its estimator is that of the last step.

    The folder remembers the pictures (:mod:`certes.training.fitted`).

    Args:
        recipe: what was trained.
        denoiser: the trained network.
        data: the training pictures.
        folder: where.
        card: ``name``, training data, licence and whatever else is known.
    """
    last = recipe.estimator.at(recipe.config.steps)
    told = {**card, "summary": summary_of(recipe.task, last)}
    Fitted.to(data.pictures()).save(folder)
    save_conditional(folder, denoiser, recipe.task, last, told)
