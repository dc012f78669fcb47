"""Named conditional training runs: a task, an estimator, data of a kind.

Small ones, for one CPU core and pictures of 28 pixels (``edges-cmde``), and those of the paper
(``edges2shoes-cmde``), whose noise levels, batches and steps are those of the authors' code.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from certes.conditional.config import ConditionalConfig
from certes.conditional.estimators import SIGMA_MIN, Curriculum, Estimator, cde, cdiffe, cmde
from certes.conditional.estimators import vs_cmde as vs
from certes.conditional.tasks import (
    ConditionalTask,
    Deblurring,
    Denoising,
    Drawing,
    Inpainting,
    Labels,
    Paired,
    SuperResolving,
)
from certes.diffusion.schedules import VE
from certes.networks.conditional import Block
from certes.training.presets import config_of_kind, unet_keys

ESTIMATORS = ("cde", "cdiffe", "cmde", "vs-cmde")


def estimator_for(name: str, sigma_x: float, sigma_y: float, start: float, steps: int) -> Estimator:
    """An estimator of the paper by name.

    Args:
        name: one of :data:`ESTIMATORS`.
        sigma_x: x's largest noise, image units: the square root of its number of values.
        sigma_y: y's, of a CMDE.
        start: y's largest noise at the first step of a VS-CMDE.
        steps: after how many steps that has come down to ``sigma_y``.
    """
    x = VE(SIGMA_MIN, sigma_x)
    match name:
        case "cde":
            return cde(x)
        case "cdiffe":
            return cdiffe(x)
        case "cmde":
            return cmde(x, sigma_y)
        case _:
            return vs(x, Curriculum(start, sigma_y, steps))


def _config(
    task: ConditionalTask,
    estimator: Estimator,
    x: Block,
    y: Block,
    unet: dict[str, Any],
    **run: Any,
) -> ConditionalConfig:
    network = unet | {
        "in_channels": x.channels + y.channels,
        "out_channels": x.channels + y.channels * estimator.predicts_y,
        "noise_levels": 2,
    }
    return ConditionalConfig(
        network=network,
        task=json.loads(json.dumps(task.to_config())),
        estimator=json.loads(json.dumps(estimator.to_config())),
        x=x.to_config(),
        y=y.to_config(),
        **run,
    )


# Garments of Fashion-MNIST: their mean and spread; lines are thin.
_GARMENT, _LINES = Block(1, 0.29, 0.35), Block(1, 0.13, 0.34)
_SMALL_UNET = unet_keys(
    1, 28, [32, 64], attention=1, layers_per_block=1, stem=2, norm_num_groups=16
)
_SMALL_RUN: dict[str, Any] = {
    "patch": 28,
    "busy": 0.0,
    "symmetries": "flips",
    "batch": 16,
    "steps": 6000,
    "learning_rate": 1e-3,
    "warmup": 200,
    "precision": "no",
    "sample_every": 2000,
    "checkpoint_every": 500,
}
_SMALL: dict[str, tuple[ConditionalTask, Block, float]] = {
    "edges": (Drawing(sigma=0.8, threshold=0.1), _LINES, 1.0),
    "super-resolve": (SuperResolving(factor=4), _GARMENT, 0.5),
    "inpaint": (Inpainting(), Block(2, 0.29, 0.35), 1.0),
}


# Of y's errors: no sampler uses the estimate of y, and a small network has little to spare for it.
# With 1, a CMDE's drawings of garments are 1.8 times as far from real ones (Frechet distance).
_Y_SHARE = 0.05


def _small(task: str, estimator: str) -> ConditionalConfig:
    what, y, sigma_y = _SMALL[task]
    steps: int = _SMALL_RUN["steps"]
    made = estimator_for(estimator, 28.0, sigma_y, 28.0, steps // 2)
    made = replace(made, y_share=_Y_SHARE) if made.predicts_y else made
    return _config(what, made, _GARMENT, y, _SMALL_UNET, **_SMALL_RUN)


# Fluorescence pictures of nuclei, 64 pixels: labels to pictures, and denoising.
_NUCLEI = Block(1, 0.08, 0.15)
_NUCLEI_UNET = unet_keys(
    1, 64, [64, 128, 192], attention=2, layers_per_block=1, stem=2, norm_num_groups=16
)
_NUCLEI_TASKS: dict[str, tuple[ConditionalTask, Block, float]] = {
    "labels": (Labels(), Block(2, 0.3, 0.4), 1.0),
    "denoise": (Denoising(noise=0.1), _NUCLEI, 0.1),
}


def _nuclei(task: str, estimator: str) -> ConditionalConfig:
    what, y, sigma_y = _NUCLEI_TASKS[task]
    made = estimator_for(estimator, 64.0, sigma_y, 64.0, 3000)
    made = replace(made, y_share=_Y_SHARE) if made.predicts_y else made
    return _config(what, made, _NUCLEI, y, _NUCLEI_UNET, batch=32, steps=6000)


# Nuclei once more and small photographs, for one CPU core: a third of an hour, a quarter.
_QUICK_UNET = unet_keys(1, 64, [32, 64, 96], layers_per_block=1, stem=2, norm_num_groups=16)
_PHOTO_UNET = unet_keys(
    3, 32, [48, 96], attention=1, layers_per_block=1, stem=2, norm_num_groups=16
)
_PHOTO = Block(3, 0.47, 0.25)
_NOISE = 0.02
_RESTORATIONS: dict[str, ConditionalTask] = {
    task.kind: task
    for task in (
        Denoising(noise=0.1),
        SuperResolving(_NOISE, factor=4),
        Inpainting(_NOISE),
        Deblurring(_NOISE),
    )
}


def _quick(task: str, picture: Block, unet: dict[str, Any], **run: Any) -> ConditionalConfig:
    """A CDE whose conditions are pictures as well, with a mask where pixels are missing."""
    what = _RESTORATIONS[task]
    y = replace(picture, channels=what.channels(picture.channels))
    size: int = unet["sample_size"]
    made = cde(VE(SIGMA_MIN, float(size * picture.channels**0.5)))
    return _config(what, made, picture, y, unet, patch=size, batch=16, **run)


_FACE = Block(3)
_PAPER_RUN: dict[str, Any] = {
    "fit": "resize",
    "busy": 0.0,
    "symmetries": "flips",
    "steps": 500_000,
    "learning_rate": 2e-4,
    "warmup": 2500,
    "rate_decay": "constant",
    "compile": True,
    "checkpoint_every": 5000,
    "sample_every": 25_000,
}


def _wide(size: int, width: int, multiples: list[int], levels: tuple[int, ...]) -> dict[str, Any]:
    """The authors' U-Nets: two residual blocks a level, attention at some of them, dropout .1."""
    widths = [width * multiple for multiple in multiples]
    attends = ["Attn" if level in levels else "" for level in range(len(widths))]
    return unet_keys(3, size, widths, layers_per_block=2, dropout=0.1) | {
        "down_block_types": [f"{a}DownBlock2D" for a in attends],
        "up_block_types": [f"{a}UpBlock2D" for a in reversed(attends)],
        "add_attention": True,
    }


def _paper(task: str, estimator: str) -> ConditionalConfig:
    deep = [1, 1, 2, 2, 3, 3]
    what, y, size, sigma_y, curriculum, batch, unet = {
        "celebahq-inpaint": (
            *(Inpainting(mask=False), _FACE, 128, 1.0, 500_000, 25),
            _wide(128, 96, deep, (3, 4, 5)),
        ),
        "celebahq-super-resolve": (
            *(SuperResolving(factor=8), _FACE, 160, 0.5, 250_000, 16),
            _wide(160, 96, deep, (3, 4, 5)),
        ),
        "edges2shoes": (
            *(Paired(condition_channels=3), _FACE, 64, 1.0, 300_000, 50),
            _wide(64, 128, [1, 1, 2, 2], (2, 3)),
        ),
    }[task]
    sigma_x = (3 * size**2) ** 0.5
    made = estimator_for(estimator, sigma_x, sigma_y, sigma_x, curriculum)
    return _config(what, made, _FACE, y, unet, patch=size, batch=batch, **_PAPER_RUN)


PRESETS: dict[str, ConditionalConfig] = {
    **{f"{t}-{e}": _small(t, e) for t in _SMALL for e in ESTIMATORS},
    **{f"{t}-{e}": _nuclei(t, e) for t in _NUCLEI_TASKS for e in ESTIMATORS},
    **{f"nuclei-{t}": _quick(t, _NUCLEI, _QUICK_UNET, steps=5000) for t in _RESTORATIONS},
    **{
        f"photos-{t}": _quick(
            t, _PHOTO, _PHOTO_UNET, steps=6000, busy=0.0, symmetries="flips", warmup=200
        )
        for t in _RESTORATIONS
    },
    **{
        f"{t}-{e}": _paper(t, e)
        for t in ("celebahq-inpaint", "celebahq-super-resolve", "edges2shoes")
        for e in ESTIMATORS
    },
}
# A minute's trial, with everything that the others have.
PRESETS["tiny-conditional"] = replace(
    PRESETS["edges-cmde"],
    network=PRESETS["edges-cmde"].network
    | {"block_out_channels": [16, 16], "norm_num_groups": 8, "layers_per_block": 1},
    batch=8,
    steps=20,
    warmup=5,
    precision="no",
    checkpoint_every=5,
    sample_every=20,
)


def load_conditional_config(name: str) -> ConditionalConfig | None:
    """A preset by name, or a JSON file with the fields of a :class:`ConditionalConfig`.

    ``None`` for anything that describes no conditional run.

    Raises:
        InputError: if a file says that it is one and has unknown fields.
    """
    return config_of_kind(name, PRESETS, ConditionalConfig, "estimator")
