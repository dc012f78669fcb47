"""Folders of training pictures, read as a run wants them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from certes.apps.console import Advance, progress
from certes.conditional.config import ConditionalConfig, Fit
from certes.conditional.tasks import ConditionalTask, Labels, Paired
from certes.data.pairs import CELEBA_CROP, PairDataset, load_celeba, load_pairs, load_side_by_side
from certes.data.patches import PatchDataset, load_folder, to_grey
from certes.data.pictures import find_pictures
from certes.data.sheets import read_sheets
from certes.errors import InputError
from certes.training.config import RunConfig
from certes.training.processes import is_main

_SPLIT = "train"

Stack = UInt8[Tensor, "c h w"]


def check_folders(**folders: Path | None) -> None:
    """Refuse what is no folder.

    Raises: InputError naming the option.
    """
    for name, folder in folders.items():
        if folder is not None and not folder.is_dir():
            raise InputError(f"{name}: {folder} is no folder; give a folder of training pictures")


def read_patches(config: RunConfig, data: Path, conditions: Path | None) -> PatchDataset:
    """The training patches of a run.

    Raises: InputError for pictures that cannot be read, or be used by it.
    """
    if not isinstance(config, ConditionalConfig):
        if conditions is not None:
            raise InputError("conditions: this preset trains on pictures alone; leave them out")
        load = partial(load_folder, grey=config.channels == 1)
        return _patches(config, _pictures(data, load))
    task, (x, _) = config.made_task(), config.blocks()
    return read_task_patches(config, task, x.channels, data, conditions, config.fit)


def read_task_patches(
    config: RunConfig,
    task: ConditionalTask,
    channels: int,
    data: Path,
    conditions: Path | None,
    fit: Fit = "crop",
) -> PatchDataset:
    """The training patches of a run that learns a task, for pictures of ``channels`` channels.

    Raises: InputError for pictures that cannot be read, or be used by it.
    """
    if isinstance(task, Paired):
        side = None if fit == "crop" else config.patch
        pairs = _read_pairs(side, data, conditions, labels=isinstance(task, Labels))
        if channels == 1:
            pairs = [_grey_x(stack, task.channels(channels)) for stack in pairs]
        return PairDataset(pairs, channels, config.patch, config.busy, config.symmetries)
    if conditions is not None:
        raise InputError(
            f"conditions: those of the task {task.kind!r} are made from the pictures; leave them "
            "out"
        )
    pictures = _pictures(data, _loader(fit, config.patch))
    return _patches(config, [to_grey(p) for p in pictures] if channels == 1 else pictures)


def _patches(config: RunConfig, pictures: Sequence[Stack]) -> PatchDataset:
    return PatchDataset(pictures, config.patch, config.busy, symmetries=config.symmetries)


def _loader(fit: Fit, side: int) -> Callable[[Path, Advance], list[Stack]]:
    if fit == "crop":
        return load_folder
    crop = CELEBA_CROP if fit == "celeba" else None
    return lambda folder, advance: load_celeba(folder, side, crop, advance)


def _pictures(data: Path, load: Callable[[Path, Advance], list[Stack]]) -> list[Stack]:
    if (data / f"{_SPLIT}-labels.npy").is_file():
        return list(read_sheets(data, _SPLIT).pictures)
    with _watched("reading pictures", data) as advance:
        return load(data, advance)


def _watched(what: str, data: Path) -> AbstractContextManager[Advance]:
    """The progress of reading a folder, which one process shows for all."""
    count = len(find_pictures([data]))
    return progress(what, count) if is_main() else nullcontext(lambda pictures: None)


def _read_pairs(side: int | None, data: Path, conditions: Path | None, labels: bool) -> list[Stack]:
    if conditions is None and labels:
        raise InputError(
            "conditions: none given; this preset learns from labels: give --conditions DIR, with "
            "a picture that numbers the objects for each in --data, of the same name"
        )
    with _watched("reading pairs", data) as advance:
        if conditions is not None:
            return load_pairs(data, conditions, labels, advance)
        return load_side_by_side(data, side, advance)


def _grey_x(stack: Stack, y_channels: int) -> Stack:
    """A pair with a grey picture."""
    x, y = stack[:-y_channels], stack[-y_channels:]
    return torch.cat([to_grey(x), y])
