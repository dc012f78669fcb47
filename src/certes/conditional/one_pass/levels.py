"""Which noise level a model of pictures is told, when it is to start as a network of bounds."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from certes.conditional.tasks import ConditionalTask
from certes.networks.conditional import Block
from certes.networks.heads import Quantiles
from certes.networks.model import Model
from certes.networks.one_pass import general

CANDIDATES = 9
_LOWEST, _HIGHEST = 0.02, 2.0  # as shares of the pictures' spread


def best_level(
    model: Model, task: ConditionalTask, x: Float[Tensor, "b c h w"], seed: int = 0
) -> tuple[float, dict[float, float]]:
    """The level at which the untrained network is nearest to the truth (least squares).

    Conffusion tells networks a step chosen by hand for each task (3, 15 or 155). The start matters:
    what is told cannot be learned away by a short fine-tuning.

    Args:
        model: a trained model.
        task: what its network shall answer to.
        x: true pictures; none that bounds are calibrated on, for they serve to choose.
        seed: of what is random in their conditions.

    Returns:
        The level, image units, and the mean squared error at each candidate.
    """
    device = model.device
    x = x.to(device)
    y = task.shown(task.measure(x, torch.Generator(device).manual_seed(seed)))
    extra = task.channels(model.channels) - model.channels
    scale = model.denoiser.scale
    head = Quantiles(0.1, Block(model.channels, model.denoiser.center, scale))
    levels: list[float] = (scale * np.geomspace(_LOWEST, _HIGHEST, CANDIDATES)).tolist()
    errors: dict[float, float] = {}
    for level in levels:
        estimate = general(model.denoiser, level, extra, head)(y)[:, 1]
        errors[level] = float((estimate - x).square().mean())
    return min(levels, key=lambda level: errors[level]), errors
