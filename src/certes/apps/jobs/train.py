"""Train a model and make a model folder of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from certes import __version__
from certes.apps.console import progress
from certes.apps.training_data import check_folders, read_patches
from certes.conditional.config import ConditionalConfig
from certes.conditional.presets import load_conditional_config
from certes.conditional.publish import publish_conditional
from certes.conditional.recipe import Conditional
from certes.data.patches import PatchDataset
from certes.function_space.latent import save_latent
from certes.function_space.latent_recipe import learn_codes, second_stage
from certes.function_space.presets import load_function_config
from certes.function_space.publish import publish_functions
from certes.function_space.recipe import FunctionRecipe
from certes.function_space.training_config import FunctionConfig
from certes.training.config import RunConfig, TrainingConfig
from certes.training.loop import Run, check_share
from certes.training.presets import load_config
from certes.training.processes import is_main, join, united
from certes.training.publish import publish
from certes.training.unconditional import Unconditional

Publish = Callable[[Path, dict[str, Any]], None]
"""Writes the model folder, given its card."""


def train_model(
    preset: str,
    data: Path,
    conditions: Path | None,
    out: Path,
    resume: bool,
    name: str | None,
    licence: str,
) -> dict[str, Any] | None:
    """Train, measure what samplers need to know, save the model folder.

    Returns what became of it; ``None`` on a process that is not the one to say.

    Raises: InputError for an unknown preset or unfit pictures, ModelError for a folder that holds
        another run.
    """
    with united():
        join()
        config = (
            load_conditional_config(preset) or load_function_config(preset) or load_config(preset)
        )
        check_folders(data=data, conditions=conditions)
        patches = read_patches(config, data, conditions)
        card = training_card(name or Path(preset).stem, data, len(patches), licence, config)
        published = learned(config, patches, out, resume)
        main = is_main()
    if not main:
        return None
    card["preset"] = preset
    published(out / "model", card)
    return {**card, "folder": str(out / "model")}


def learned(config: RunConfig, patches: PatchDataset, out: Path, resume: bool) -> Publish:
    """Train what a configuration describes; returns what makes a model folder of it.

    All processes train; to publish, which one does alone, none of the others is needed.
    """
    if isinstance(config, ConditionalConfig):
        return _conditional(config, patches, out, resume)
    if isinstance(config, FunctionConfig):
        return _functions(config, patches, out, resume)
    assert isinstance(config, TrainingConfig)  # there are no others
    denoiser = Run(Unconditional(config), patches, out, resume).train()

    def published(folder: Path, card: dict[str, Any]) -> None:
        with progress("measuring the network's errors", None):
            publish(denoiser, patches, folder, card)

    return published


def _conditional(
    config: ConditionalConfig, patches: PatchDataset, out: Path, resume: bool
) -> Publish:
    recipe = Conditional(config)
    denoiser = Run(recipe, patches, out, resume).train()
    return lambda folder, card: publish_conditional(recipe, denoiser, patches, folder, card)


def _functions(config: FunctionConfig, patches: PatchDataset, out: Path, resume: bool) -> Publish:
    coding = second_stage(config)
    if coding is not None:  # what the second stage refuses, it shall refuse before the first
        check_share(coding.batch, join().num_processes)
    functions = Run(FunctionRecipe(config), patches, out, resume).train()
    prior = None
    if coding is not None:
        prior = learn_codes(coding, functions, patches, out / "codes", resume)

    def published(folder: Path, card: dict[str, Any]) -> None:
        with progress("measuring the network's errors", None):
            publish_functions(functions, patches, folder, card)
        if prior is not None:
            save_latent(folder, prior)

    return published


def training_card(
    name: str, data: Path, pictures: int, licence: str, config: RunConfig
) -> dict[str, Any]:
    """What a model folder says of how it was trained."""
    return {
        "name": name,
        "training_data": data.resolve().name,
        "pictures": pictures,
        "licence": licence,
        "steps": config.steps,
        "version": __version__,
        "training": config.to_dict(),
    }
