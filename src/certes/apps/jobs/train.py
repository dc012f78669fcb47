"""Train a model and make a model folder of it."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from certes import __version__
from certes.apps.console import progress
from certes.data.patches import PatchDataset, load_folder
from certes.data.pictures import find_pictures
from certes.errors import InputError
from certes.training.loop import Run
from certes.training.presets import load_config
from certes.training.publish import publish
from certes.training.unconditional import Unconditional


def train_model(
    preset: str, data: Path, out: Path, resume: bool, name: str | None, licence: str
) -> dict[str, Any]:
    """Train, measure the network's errors on training patches, save the model folder.

    Raises: InputError for an unknown preset or unfit pictures, ModelError for a folder that holds
        another run.
    """
    config = load_config(preset)
    if not data.is_dir():
        raise InputError(f"data: {data} is no folder; give a folder of training pictures")
    with progress("reading pictures", len(find_pictures([data]))) as advance:
        pictures = load_folder(data, advance, grey=config.unet().in_channels == 1)
    patches = PatchDataset(pictures, config.patch, config.busy, symmetries=config.symmetries)
    card = {
        "name": name or Path(preset).stem,
        "training_data": data.resolve().name,
        "pictures": len(patches),
        "licence": licence,
        "preset": preset,
        "steps": config.steps,
        "version": __version__,
        "training": config.to_dict(),
    }
    # The loop draws its progress on stdout, which is the result's.
    with redirect_stdout(sys.stderr):
        run = Run(Unconditional(config), patches, out, resume)
        denoiser = run.train()
    if run.accelerator.is_main_process:
        with progress("measuring the network's errors", None):
            publish(denoiser, patches, out / "model", card)
    return {**card, "folder": str(out / "model")}
