"""From trained weights to a conditional model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from certes.conditional.model import save_conditional, summary_of
from certes.conditional.recipe import Conditional
from certes.networks.conditional import ConditionalNetworkDenoiser


def publish_conditional(
    recipe: Conditional, denoiser: ConditionalNetworkDenoiser, folder: Path, card: dict[str, Any]
) -> None:
    """Write the model folder of a finished run; its estimator is that of the last step.

    Args:
        recipe: what was trained.
        denoiser: the trained network.
        folder: where.
        card: ``name``, training data, licence and whatever else is known.
    """
    last = recipe.estimator.at(recipe.config.steps)
    told = {**card, "summary": summary_of(recipe.task, last)}
    save_conditional(folder, denoiser, recipe.task, last, told)
