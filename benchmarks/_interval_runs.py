"""Models of bounds, trained once, kept, and used by several benchmarks.

Two kinds of pictures, each split once and for all:

- nuclei, 64 pixels, grey: 304 training pictures to learn from, 34 to choose by; busiest crops of 70
  test pictures to calibrate on, of the 52 others to judge;
- photographs (CIFAR-10, 32 pixels, colour): 45000 to train diffusion models on; of the other 5000,
  1000 to learn bounds from and 200 to choose by; of the test pictures 200 to calibrate on, 800 to
  judge (the numbers of Conffusion).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from restoration_quality import pictures, split
from torch import Tensor

from certes.apps.console import progress
from certes.conditional.config import ConditionalConfig
from certes.conditional.model import ConditionalModel, load_conditional
from certes.conditional.one_pass.levels import best_level
from certes.conditional.one_pass.model import OnePassModel, load_one_pass, save_one_pass
from certes.conditional.one_pass.recipe import OnePass
from certes.conditional.one_pass.sampled import SampledBounds, sample_bounds_of
from certes.conditional.one_pass.starts import from_conditional, from_nothing, from_pictures
from certes.conditional.presets import PRESETS
from certes.conditional.publish import publish_conditional
from certes.conditional.recipe import Conditional
from certes.data.patches import PatchDataset, load_folder
from certes.data.sheets import read_sheets
from certes.networks.model import Model, load, save_model
from certes.training.config import TrainingConfig
from certes.training.loop import Run
from certes.training.presets import unet_keys
from certes.training.unconditional import Unconditional

SHARED = Path(__file__).parents[2] / "shared" / "data"
RUNS = Path(__file__).parent / "results" / ".cache" / "intervals"

LEARNING: dict[str, Any] = {"steps": 1000, "learning_rate": 3e-4, "warmup": 50}
"""Of bounds: all methods alike, but for the rate of networks that start from nothing."""
FRESH_RATE = 1e-3
SAMPLED = 320
"""Patches whose sampled bounds DM_SBA learns from."""

# A prior of photographs as large as the conditional networks, and its like that knows one level
# of noise only: an ordinary denoiser.
_PHOTO = TrainingConfig(
    unet_keys(3, 32, [48, 96], attention=1, layers_per_block=1, stem=2, norm_num_groups=16),
    center=0.47,
    scale=0.25,
    patch=32,
    busy=0.0,
    symmetries="flips",
    batch=16,
    steps=6000,
    warmup=200,
    weights="uniform",
)
_ONE_LEVEL = 1.5  # log signal-to-noise ratio: a noise of .12 in image units
PRIORS = {
    "photos-prior": _PHOTO,
    "photos-denoiser": replace(
        _PHOTO,
        schedule={"kind": "cosine", "log_snr_min": _ONE_LEVEL, "log_snr_max": _ONE_LEVEL + 1e-3},
    ),
    "photos-untrained": replace(_PHOTO, steps=1, learning_rate=0.0),
}
UNTRAINED = ("nothing", "photos-untrained")


@dataclass(frozen=True)
class Pictures:
    """One kind of pictures, split.

    Args:
        name: which.
        pretraining: for diffusion models.
        learning: for bounds.
        chosen: to choose by, image units.
        calibration, held: to calibrate on and to judge, image units.
    """

    name: str
    pretraining: list[Tensor]
    learning: list[Tensor]
    chosen: Tensor
    calibration: Tensor
    held: Tensor


@cache
def nuclei() -> Pictures:
    """Fluorescence pictures."""
    train = load_folder(SHARED / "nuclei/train/images", grey=True)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(3)).tolist()
    names, crops = pictures(SHARED / "nuclei/test/images")
    calibration, held = split(names)
    chosen = PatchDataset([train[i] for i in order[304:]], 64, 1.0, symmetries="none")
    return Pictures(
        "nuclei",
        train,
        [train[i] for i in order[:304]],
        chosen.batch(0, 34, 0),
        crops[calibration],
        crops[held],
    )


@cache
def photos() -> Pictures:
    """Small photographs."""
    train, test = (read_sheets(SHARED / "cifar10", part).pictures for part in ("train", "test"))
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(3))
    judged = test[order[:1000]].float() / 255
    return Pictures(
        "photos",
        list(train[:45000]),
        list(train[45000:46000]),
        train[46000:46200].float() / 255,
        judged[:200],
        judged[200:],
    )


KINDS = {"nuclei": nuclei, "photos": photos}


def preset(kind: str, task: str) -> ConditionalConfig:
    """The run of a conditional model."""
    return PRESETS[f"{kind}-{task}"]


def conditional(kind: str, task: str) -> ConditionalModel:
    """A conditional model of a task, trained or read."""
    folder = RUNS / f"{kind}-{task}"
    if not (folder / "model" / "certes.json").is_file():
        config = _quiet(preset(kind, task))
        recipe, data = Conditional(config), _patches(config, KINDS[kind]().pretraining)
        run = Run(recipe, data, folder, True)
        denoiser = run.averaged() if run.step == config.steps else run.train()
        publish_conditional(recipe, denoiser, data, folder / "model", {"name": folder.name})
    return load_conditional(folder / "model")


def of_pictures(name: str) -> Model:
    """A model of pictures: a bundled one, or one of `PRIORS`, trained or read."""
    if name not in PRIORS:
        return load(name)
    folder = RUNS / name
    if not (folder / "model" / "certes.json").is_file():
        config = _quiet(PRIORS[name])
        run = Run(Unconditional(config), _patches(config, photos().pretraining), folder, True)
        denoiser = run.averaged() if run.step == config.steps else run.train()
        save_model(folder / "model", denoiser, {"name": name}, torch.bfloat16)
    return load(folder / "model")


@dataclass(frozen=True)
class Method:
    """A way to learn bounds.

    Args:
        start: ``conditional``, ``nothing`` or the name of a model of pictures.
        head: what the network answers.
        steps: of learning; None: as all others.
    """

    start: str
    head: str = "quantiles"
    steps: int | None = None


def one_pass(kind: str, task: str, name: str, method: Method) -> OnePassModel:
    """A model of bounds, trained or read."""
    folder = RUNS / f"{kind}-{task}-{name}"
    if not (folder / "model" / "certes.json").is_file():
        recipe = _recipe(kind, task, method)
        data = _learning(kind, task, recipe, method)
        run = Run(recipe, data, folder, resume=True)
        network = run.averaged() if run.step == recipe.config.steps else run.train()
        save_one_pass(folder / "model", network, recipe, {"name": folder.name})
    return load_one_pass(folder / "model")


def _recipe(kind: str, task: str, method: Method) -> OnePass:
    config = preset(kind, task)
    run: dict[str, Any] = {
        **LEARNING,
        "patch": config.patch,
        "busy": config.busy,
        "symmetries": config.symmetries,
        "batch": config.batch,
        "sample_every": 100_000,
    }
    if method.steps is not None:
        run["steps"] = method.steps
    if method.start in UNTRAINED:
        run["learning_rate"] = FRESH_RATE
    if method.start == "conditional":
        return from_conditional(conditional(kind, task), method.head, **run)
    if method.start == "nothing":
        return from_nothing(config, method.head, **run)
    model = of_pictures(method.start)
    made = config.made_task()
    level, errors = best_level(model, made, KINDS[kind]().chosen)
    shown = ", ".join(f"{k:.3f}: {v:.5f}" for k, v in errors.items())
    print(f"{kind} {task} from {method.start}: level {level:.3f} (squared errors {shown})")
    return from_pictures(model, made, level, method.head, **run)


def _learning(
    kind: str, task: str, recipe: OnePass, method: Method
) -> PatchDataset | SampledBounds:
    patches = _patches(recipe.config, KINDS[kind]().learning)
    if method.head != "sampled":
        return patches
    path = RUNS / f"{kind}-{task}-sampled.safetensors"
    with progress(f"sampling {kind} {task}", SAMPLED) as advance:
        return sample_bounds_of(conditional(kind, task), patches, SAMPLED, path, advance=advance)


def _patches(config: Any, pictures: list[Tensor]) -> PatchDataset:
    return PatchDataset(pictures, config.patch, config.busy, symmetries=config.symmetries)


def _quiet(config: Any) -> Any:
    return replace(config, sample_every=config.steps)
