"""Train a model and make a model folder of it."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
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
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.latent import save_latent
from certes.function_space.latent_recipe import (
    CodeBatches,
    LatentConfig,
    LatentRecipe,
    codes_of,
)
from certes.function_space.presets import load_function_config
from certes.function_space.publish import publish_functions
from certes.function_space.recipe import FunctionRecipe
from certes.function_space.training_config import FunctionConfig
from certes.training.batches import Batches
from certes.training.config import RunConfig
from certes.training.loop import Run
from certes.training.presets import load_config
from certes.training.publish import publish
from certes.training.recipe import Denoises, Recipe
from certes.training.unconditional import Unconditional

CODED_PATCHES, CODE_STEPS = 1024, 3000
"""From how many patches the codes of a model of functions are learned, each in eight orientations,
and in how many steps at most."""


def train_model(
    preset: str,
    data: Path,
    conditions: Path | None,
    out: Path,
    resume: bool,
    name: str | None,
    licence: str,
) -> dict[str, Any]:
    """Train, measure what samplers need to know, save the model folder.

    Raises: InputError for an unknown preset or unfit pictures, ModelError for a folder that holds
        another run.
    """
    config = load_conditional_config(preset) or load_function_config(preset) or load_config(preset)
    check_folders(data=data, conditions=conditions)
    patches = read_patches(config, data, conditions)
    card = training_card(name or Path(preset).stem, data, len(patches), licence, config)
    card["preset"] = preset
    folder = out / "model"
    if isinstance(config, ConditionalConfig):
        recipe = Conditional(config)
        conditional = trained(recipe, patches, out, resume)
        if conditional is not None:
            publish_conditional(recipe, conditional, patches, folder, card)
    elif isinstance(config, FunctionConfig):
        functions = trained(FunctionRecipe(config), patches, out, resume)
        if functions is not None:
            with progress("measuring the network's errors", None):
                publish_functions(functions, patches, folder, card)
            if config.operator().latent:
                learn_codes(config, functions, patches, out, resume)
    else:
        denoiser = trained(Unconditional(config), patches, out, resume)
        if denoiser is not None:
            with progress("measuring the network's errors", None):
                publish(denoiser, patches, folder, card)
    return {**card, "folder": str(folder)}


def learn_codes(
    config: FunctionConfig,
    functions: FunctionDenoiser,
    patches: PatchDataset,
    out: Path,
    resume: bool,
) -> None:
    """The second stage of a model of functions: a model of its codes, saved beside it."""
    steps = min(config.steps, CODE_STEPS)
    learning = LatentConfig(
        network={"latent": config.operator().latent}, steps=steps, sample_every=steps
    )
    with progress("reading codes", None):
        codes = CodeBatches(codes_of(functions, patches, CODED_PATCHES))
    prior = trained(LatentRecipe(learning, codes, functions), codes, out / "codes", resume)
    if prior is not None:
        save_latent(out / "model", prior)


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


def trained(recipe: Recipe[Denoises], patches: Batches, out: Path, resume: bool) -> Denoises | None:
    """What a recipe trains; None on a process that is not the one to save it."""
    # The loop draws its progress on stdout, which is the result's.
    with redirect_stdout(sys.stderr):
        run = Run(recipe, patches, out, resume)
        denoiser = run.train()
    return denoiser if run.accelerator.is_main_process else None
