"""Learn to answer with bounds in one pass, from any model or from nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certes.apps.asking import is_conditional
from certes.apps.console import progress
from certes.apps.jobs.train import training_card
from certes.apps.training_data import check_folders, read_task_patches
from certes.conditional.model import load_conditional
from certes.conditional.one_pass.levels import best_level
from certes.conditional.one_pass.model import save_one_pass
from certes.conditional.one_pass.recipe import OnePass
from certes.conditional.one_pass.sampled import sample_bounds_of
from certes.conditional.one_pass.starts import from_conditional, from_nothing, from_pictures
from certes.conditional.presets import load_conditional_config
from certes.conditional.tasks import (
    ConditionalTask,
    Deblurring,
    Denoising,
    Inpainting,
    SuperResolving,
)
from certes.data.patches import PatchDataset
from certes.errors import InputError
from certes.networks import model as unconditional
from certes.networks.heads import Sampled
from certes.training.batches import Batches
from certes.training.fitted import Fitted
from certes.training.loop import Run
from certes.training.processes import is_main, join, main_first, united

_SIDE = 64
_LEARNING: dict[str, Any] = {"steps": 1500, "batch": 16, "learning_rate": 3e-4, "warmup": 50}
_INHERITED = ("patch", "busy", "symmetries")
# Patches that the told noise level is chosen by: of a step that no run reaches.
_JUDGED, _FRESH = 32, 2**31
SAMPLED = "sampled.safetensors"


@dataclass(frozen=True)
class TuneOptions:
    """What shall answer with bounds, and how; None is not said.

    Args:
        start: a conditional model, a model of pictures, or a conditional preset (then nothing but
            its network's shape is taken).
        task: what a model of pictures shall answer to: ``denoise``, ``super-resolve``, ``inpaint``
            or ``deblur``.
        noise: of that task's measurements, image units.
        size: of that task: factor, share of missing pixels, or width of the blur in pixels.
        head: what the network answers.
        alpha: share of pixels that the bounds aim to miss.
        sampled: patches whose sampled bounds are learned from in place of truths (DM_SBA).
        steps: of learning.
    """

    start: str
    task: str | None
    noise: float | None
    size: float | None
    head: str
    alpha: float
    sampled: int | None
    steps: int | None


def tune_model(
    options: TuneOptions,
    data: Path,
    conditions: Path | None,
    out: Path,
    resume: bool,
    name: str | None,
    licence: str,
) -> dict[str, Any] | None:
    """Learn, and save the model folder.

    Returns what became of it; ``None`` on a process that is not the one to say.

    Raises: InputError for options that make no sense together or unfit pictures, ModelError for a
        model that cannot be had, or a folder that holds another run.
    """
    with united():
        join()
        check_folders(data=data, conditions=conditions)
        recipe, patches = _start(options, data, conditions)
        learned: Batches = patches
        if options.sampled is not None:
            with main_first():
                learned = _sampled(options, patches, out)
        network = Run(recipe, learned, out, resume).train()
        main = is_main()
    if not main:
        return None
    called = name or f"{Path(options.start).name}-bounds"
    card = training_card(called, data, len(patches), licence, recipe.config)
    fitted = Fitted.to(patches.pictures()) | _known_before(options.start)
    fitted.save(out / "model")
    save_one_pass(out / "model", network, recipe, card)
    return {**card, "method": recipe.config.method, "folder": str(out / "model")}


def made_task(name: str, noise: float | None, size: float | None) -> ConditionalTask:
    """A task for a model of pictures.

    Raises: InputError for one that no picture can stand for, or a size that it has not.
    """
    level = 0.02 if noise is None else noise
    match name:
        case Denoising.kind if size is None:
            return Denoising(0.1 if noise is None else noise)
        case SuperResolving.kind if size is None or size in range(2, 65):
            return SuperResolving(level, factor=int(size or 4))
        case Inpainting.kind:
            return Inpainting(level, share=0.25 if size is None else size)
        case Deblurring.kind if size is None or size > 0:
            return Deblurring(level, sigma=size or 2.0)
        case _:
            raise InputError(
                f"task, size: {name!r}, {size}; give denoise (no size), super-resolve (a factor), "
                "inpaint (a share of pixels) or deblur (a width in pixels)"
            )


def _start(
    options: TuneOptions, data: Path, conditions: Path | None
) -> tuple[OnePass, PatchDataset]:
    """Where learning starts, and from which patches."""
    head = Sampled.kind if options.sampled is not None else options.head
    common: dict[str, Any] = {"head": head, "alpha": options.alpha}
    asked: dict[str, Any] = {} if options.steps is None else {"steps": options.steps}
    config = load_conditional_config(options.start)
    if config is None and not is_conditional(options.start):
        return _from_pictures(options, data, conditions, {**common, **_LEARNING, **asked})
    _refuse_task(options)
    if config is None:
        model = load_conditional(options.start)
        run = {**_LEARNING, **_inherited(model.card, None), **asked}
        recipe = from_conditional(model, **common, **run)
    elif options.sampled is None:
        recipe = from_nothing(config, **common, **asked)
    else:
        raise InputError(
            f"sampled: {options.start} is a preset, and draws no samples; give a trained "
            "conditional model, or leave --sampled out"
        )
    channels = recipe.start.front.x.channels
    return recipe, read_task_patches(recipe.config, recipe.task, channels, data, conditions)


def _from_pictures(
    options: TuneOptions, data: Path, conditions: Path | None, settings: dict[str, Any]
) -> tuple[OnePass, PatchDataset]:
    """G-Conffusion; the noise level that the network is told is chosen on some patches."""
    if options.sampled is not None or options.task is None:
        problem = "sampled: a conditional model is" if options.task else "task: none given; one is"
        raise InputError(
            f"{problem} needed, and {options.start} is a model of pictures: give --task denoise, "
            "super-resolve, inpaint or deblur, and no --sampled"
        )
    task = made_task(options.task, options.noise, options.size)
    model = unconditional.load(options.start)
    side = model.side
    settings = {**settings, **_inherited(model.card, side)}
    first = from_pictures(model, task, model.scale, **settings)
    patches = read_task_patches(first.config, task, model.channels, data, conditions)
    level, _ = best_level(model, task, patches.batch(_FRESH, _JUDGED, seed=0))
    return from_pictures(model, task, level, **settings), patches


def _known_before(start: str) -> Fitted | None:
    """The pictures that the start knows; a preset knows none."""
    return None if load_conditional_config(start) else Fitted.load(unconditional.folder_of(start))


def _refuse_task(options: TuneOptions) -> None:
    for name in ("task", "noise", "size"):
        if getattr(options, name) is not None:
            raise InputError(
                f"{name}: given, but {options.start} is conditional and knows its task; leave it "
                "out"
            )


def _inherited(card: dict[str, Any], side: int | None) -> dict[str, Any]:
    """Patches like those that the model was trained on, where it says which."""
    training: dict[str, Any] = card.get("training", {})
    return {"patch": side or _SIDE, **{k: training[k] for k in _INHERITED if k in training}}


def _sampled(options: TuneOptions, patches: PatchDataset, out: Path) -> Batches:
    assert options.sampled is not None
    out.mkdir(parents=True, exist_ok=True)
    model = load_conditional(options.start)
    with progress("sampling bounds to learn from", options.sampled) as advance:
        return sample_bounds_of(
            model, patches, options.sampled, out / SAMPLED, alpha=options.alpha, advance=advance
        )
