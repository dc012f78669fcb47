"""Conditional models of garments: trained once, kept, and used by several benchmarks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from certes.conditional.presets import PRESETS
from certes.conditional.recipe import Conditional
from certes.data.patches import PatchDataset
from certes.data.sheets import read_sheets
from certes.networks.conditional import ConditionalNetworkDenoiser
from certes.training.loop import Run

DATA = Path(__file__).parents[2] / "shared" / "data" / "fashion_mnist"
RUNS = Path(__file__).parent / "results" / ".cache" / "conditional"


def trained(preset: str, data: Path = DATA) -> ConditionalNetworkDenoiser:
    """The network of a preset, trained on the 60000 training pictures of Fashion-MNIST.

    A run that was stopped goes on where it was; a finished one is only read.
    """
    pictures = read_sheets(data, "train").pictures
    config = replace(PRESETS[preset], sample_every=PRESETS[preset].steps)
    patches = PatchDataset(list(pictures), config.patch, config.busy, symmetries=config.symmetries)
    run = Run(Conditional(config), patches, RUNS / preset, resume=True)
    return run.averaged() if run.step == config.steps else run.train()
