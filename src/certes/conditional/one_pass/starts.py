"""Where a network of bounds starts: a conditional model, a model of pictures, or nothing."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from certes.conditional.config import ConditionalConfig
from certes.conditional.model import ConditionalModel
from certes.conditional.one_pass.config import OnePassConfig
from certes.conditional.one_pass.recipe import OnePass
from certes.conditional.tasks import ConditionalTask
from certes.errors import InputError, ModelError
from certes.networks.conditional import Block, ConditionalNetworkDenoiser
from certes.networks.heads import head_named
from certes.networks.model import Model
from certes.networks.one_pass import OnePassNetwork, general, narrow
from certes.training.config import RunConfig
from certes.training.unconditional import fresh_network

NOTHING = "nothing"
"""Said of a network that starts from random weights."""


def from_conditional(
    model: ConditionalModel, head: str = "quantiles", alpha: float = 0.1, **run: Any
) -> OnePass:
    """N-Conffusion; with the head ``sampled``, DM_SBA.

    Args:
        model: a trained conditional model of the task.
        head: what the network shall answer (:mod:`certes.networks.heads`).
        alpha: share of pixels that the bounds aim to miss.
        run: further fields of :class:`RunConfig` (steps, batch, patch ...).

    Raises:
        ModelError: if the model is no network.
    """
    if not isinstance(model.denoiser, ConditionalNetworkDenoiser):
        raise ModelError(f"model: {model.name} is no network, and cannot be fine-tuned")
    made = head_named(head, alpha, model.denoiser.x)
    start = narrow(model.denoiser, float(model.estimator.x.noise_level(1.0)), made)
    method = "dm-sba" if made.targets > 1 else "n-conffusion"
    return _recipe(method, start, model.task, model.hash, run)


def from_pictures(
    model: Model,
    task: ConditionalTask,
    sigma: float,
    head: str = "quantiles",
    alpha: float = 0.1,
    **run: Any,
) -> OnePass:
    """G-Conffusion: any model of pictures, for any task.

    Args:
        model: a trained model.
        task: what it shall answer to.
        sigma: the noise level that its network is told, image units; see
            :func:`certes.conditional.one_pass.levels.best_level`.
        head, alpha, run: as for :func:`from_conditional`.

    Raises:
        InputError: for a task whose conditions are no pictures of the model's channels.
    """
    extra = task.channels(model.channels) - model.channels
    if extra < 0:
        raise InputError(
            f"task: conditions of {task.kind!r} have fewer channels than the {model.channels} of "
            f"{model.name}'s pictures; give one whose conditions are pictures"
        )
    x = Block(model.channels, model.denoiser.center, model.denoiser.scale)
    start = general(model.denoiser, sigma, extra, head_named(head, alpha, x))
    return _recipe("g-conffusion", start, task, model.hash, run)


def from_nothing(
    config: ConditionalConfig, head: str = "quantiles", alpha: float = 0.1, **run: Any
) -> OnePass:
    """ADM_UQ (im2im-uq): the network that a conditional run would train, from random weights.

    Args:
        config: a run of the task, whose network, units and other settings are taken.
        head, alpha: as for :func:`from_conditional`.
        run: fields of :class:`RunConfig` in place of the run's own.
    """
    x, y = config.blocks()
    denoiser = ConditionalNetworkDenoiser(fresh_network(config), x, y)
    sigma_x = float(config.made_estimator().x.noise_level(1.0))
    start = narrow(denoiser, sigma_x, head_named(head, alpha, x))
    own = {f.name: getattr(config, f.name) for f in fields(RunConfig) if f.name != "network"}
    return _recipe("adm-uq", start, config.made_task(), NOTHING, {**own, **run})


def _recipe(
    method: str, start: OnePassNetwork, task: ConditionalTask, mark: str, run: dict[str, Any]
) -> OnePass:
    config = OnePassConfig(
        network=json.loads(json.dumps(start.net.config.to_dict())),
        method=method,
        task=json.loads(json.dumps(task.to_config())),
        front=start.front.to_config(),
        start=mark,
        head=start.head.kind,
        alpha=start.head.alpha,
        **run,
    )
    return OnePass(config, start)
