"""Options that several commands share, each described once. No import of torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class TaskName(StrEnum):
    """What happened to the pictures."""

    DENOISE = "denoise"
    SUPER_RESOLVE = "super-resolve"
    INPAINT = "inpaint"
    DEBLUR = "deblur"
    COLORIZE = "colorize"
    COMPRESSED_SENSING = "compressed-sensing"
    JPEG = "jpeg"


class AskedTaskName(StrEnum):
    """What a user may say that happened: any of the above, or what only conditional models undo."""

    DENOISE = "denoise"
    SUPER_RESOLVE = "super-resolve"
    INPAINT = "inpaint"
    DEBLUR = "deblur"
    COLORIZE = "colorize"
    COMPRESSED_SENSING = "compressed-sensing"
    JPEG = "jpeg"
    EDGES = "edges"
    LABELS = "labels"
    PAIRED = "paired"


class SamplerName(StrEnum):
    """Keys of ``certes.restoration.restore.SAMPLERS``."""

    PINNED = "pinned"
    CONDITIONAL = "conditional"
    ROUNDED = "rounded"
    DPS = "dps"
    DDRM = "ddrm"
    DDNM = "ddnm"
    DIFFPIR = "diffpir"
    JPEG = "jpeg"
    TWISTED = "twisted"


class PolicyName(StrEnum):
    """Keys of ``certes.conditional.policies.POLICIES``."""

    FIXED = "fixed"
    FRESH = "fresh"
    PATH = "path"


class ColoursName(StrEnum):
    """Ways of ``certes.networks.colours``."""

    OPPONENT = "opponent"
    SEPARATE = "separate"


class RuleName(StrEnum):
    """Keys of ``certes.intervals.rules.RULES``."""

    WSR = "wsr"
    HB = "hb"
    HOEFFDING = "hoeffding"
    BERNSTEIN = "bernstein"
    CRC = "crc"
    IMAGE = "image"


class FamilyName(StrEnum):
    """Keys of ``certes.intervals.families.FAMILIES``, but for that of nested samples."""

    SCALE = "scale"
    ADDITIVE = "additive"
    STD = "std"
    RATIO = "ratio"


class ShapeName(StrEnum):
    """Ways to let lambda differ: ``certes.intervals.calibration.calibrate``."""

    SIDES = "sides"
    STRATA = "strata"


DEFAULT_NOISE = {
    TaskName.DENOISE: 0.1,
    TaskName.SUPER_RESOLVE: 0.02,
    TaskName.INPAINT: 0.02,
    TaskName.DEBLUR: 0.02,
    TaskName.COLORIZE: 0.02,
    TaskName.COMPRESSED_SENSING: 0.02,
    TaskName.JPEG: 0.0,
}
"""Noise of the shipped calibration cards (where there is one), image units."""

Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="INPUT",
        show_default=False,
        help="Pictures, or folders of them: PNG, JPEG or TIFF (8 bit, 16 bit, float), grey or RGB; "
        "for compressed-sensing the files that certes degrade writes.",
    ),
]
Task = Annotated[
    TaskName, typer.Option("--task", show_default=False, help="What happened to the pictures.")
]
AskedTask = Annotated[
    AskedTaskName | None,
    typer.Option(
        "--task",
        show_default="a conditional model's own",
        help="What happened to the pictures. To be said unless the model is conditional: that "
        "knows its task and all that belongs to it (edges, labels, paired are such tasks only).",
    ),
]
Factor = Annotated[
    int | None,
    typer.Option(
        "--factor", min=1, max=64, show_default="4", help="super-resolve: how many times finer."
    ),
]
Kernel = Annotated[
    str | None,
    typer.Option(
        "--kernel",
        metavar="SPEC",
        show_default="box, gaussian:2",
        help="super-resolve: box, bicubic, gaussian:SIGMA or uniform:WIDTH. deblur: "
        "gaussian:SIGMA, anisotropic:SIGMA_ROWS,SIGMA_COLUMNS, uniform:WIDTH, disk:RADIUS, "
        "motion:LENGTH,ANGLE (pixels, degrees), a picture of the kernel, or auto (a Gaussian whose "
        "width is estimated from each picture).",
    ),
]
Ratio = Annotated[
    float | None,
    typer.Option(
        "--ratio",
        show_default="0.25",
        help="compressed-sensing: measured numbers for each pixel, in (0, 1].",
    ),
]
Quality = Annotated[
    int | None,
    typer.Option(
        "--quality",
        min=1,
        max=100,
        show_default="what the file itself says, else 10",
        help="jpeg: the quality at which the picture was saved.",
    ),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        metavar="PNG",
        show_default=False,
        help="inpaint: a picture of the same size, white where pixels are known, black elsewhere.",
    ),
]
Missing = Annotated[
    float | None,
    typer.Option(
        "--missing",
        show_default="0.8",
        help="inpaint without --mask: share of pixels to remove at random.",
    ),
]
NoiseOrAuto = Annotated[
    str | None,
    typer.Option(
        "--noise",
        metavar="SIGMA|auto|poisson",
        show_default="auto",
        help="Standard deviation of the noise, values in [0, 1]; auto estimates it from each "
        "picture, and the intervals allow for the estimate's error (not for inpaint); poisson "
        "estimates how noise grows with the signal (denoise only), and takes that as known.",
    ),
]
Colours = Annotated[
    ColoursName | None,
    typer.Option(
        "--colours",
        show_default="opponent",
        help="How a grey model judges colour pictures: opponent (brightness and two differences of "
        "colours: photographs) or separate (stains, channels that have nothing in common).",
    ),
]
NoiseLevel = Annotated[
    float | None,
    typer.Option(
        "--noise",
        metavar="SIGMA",
        show_default="0.1 for denoise, else 0.02",
        help="Standard deviation of the noise to add, values in [0, 1].",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME|PATH",
        help="A bundled model (certes models list), a model folder, a diffusers DDPM folder, or a "
        "guided-diffusion .pt; PATH@N is its class N. Of a model of functions, NAME@2x is for "
        "pictures twice as fine as its training pictures.",
    ),
]
Samples = Annotated[
    int, typer.Option("--samples", min=1, help="Answers drawn for each picture; bounds need many.")
]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Network calls for each answer.")]
Alpha = Annotated[
    float, typer.Option("--alpha", help="Share of pixels that intervals may miss, in (0, 1).")
]
Delta = Annotated[
    float,
    typer.Option("--delta", help="Probability that the guarantee may be wrong, in (0, 1)."),
]
Rule = Annotated[
    RuleName,
    typer.Option(
        "--rule",
        help="wsr (betting, narrowest), hb (Hoeffding-Bentkus), hoeffding, bernstein; crc (only on "
        "average over calibrations); image (a new picture misses few of its pixels, with "
        "probability 1 - alpha).",
    ),
]
Tolerance = Annotated[
    float,
    typer.Option("--tolerance", help="Rule image: share of a picture's pixels that may be missed."),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        metavar="NAME",
        show_default="the calibrated one that suits the task; unipc_3 of a conditional model",
        help="pinned and conditional are calibrated, but need a model with a residual spectrum "
        "(certes models measure); rounded, dps, ddrm, ddnm, diffpir, jpeg and twisted are "
        "published methods, for comparison. Conditional models take a --solver of certes sample.",
    ),
]
Policy = Annotated[
    PolicyName | None,
    typer.Option(
        "--policy",
        show_default="fresh",
        help="Conditional models: the condition that each step is shown: as it is, under fresh "
        "noise, or on one path out of noise.",
    ),
]
Conditions = Annotated[
    Path | None,
    typer.Option(
        "--conditions",
        metavar="DIR",
        show_default=False,
        help="Conditional models for labels or pairs: a condition of the same name for each "
        "picture in --data.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")]
Licence = Annotated[
    str, typer.Option("--licence", help="Licence of the training pictures, for the model's card.")
]
Card = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="CARD",
        show_default="the model's own card, if one holds for these settings",
        help="Calibration card (certes calibrate makes one): gives the intervals a guarantee.",
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(
        "--truth",
        metavar="FILE|DIR",
        show_default=False,
        help="The true picture, or a folder with one of the same name for each input: adds PSNR "
        "(dB) and coverage to the report.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same result.")]
Device = Annotated[
    str | None,
    typer.Option("--device", show_default="the first GPU, else cpu", help="cpu, cuda, cuda:1 ..."),
]
Data = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        show_default=False,
        help="Folder of true pictures, which are degraded and restored. They must not have served "
        "to train the model.",
    ),
]
Crop = Annotated[
    int, typer.Option("--crop", min=8, help="Side of the centre part of each picture, in pixels.")
]
Out = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", show_default=False, help="Folder for the results."),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")
]

NO_GUARANTEE = (
    "These intervals carry no guarantee: no calibration card was made for exactly these settings. "
    "certes models show NAME lists a model's cards; certes calibrate makes one."
)


@dataclass(frozen=True)
class TaskOptions:
    """Options that say what happened to the pictures; None is the task's default."""

    name: TaskName
    factor: int | None = None
    kernel: str | None = None
    mask: Path | None = None
    missing: float | None = None
    ratio: float | None = None
    quality: int | None = None


@dataclass(frozen=True)
class Asked:
    """What a user says of the pictures; None is not said."""

    task: AskedTaskName | None
    factor: int | None = None
    kernel: str | None = None
    mask: Path | None = None
    missing: float | None = None
    ratio: float | None = None
    quality: int | None = None
    noise: float | str | None = None
    conditions: Path | None = None


@dataclass(frozen=True)
class SamplingOptions:
    """Options that say what restores, and how; None is the default of what restores."""

    model: str
    samples: int
    steps: int
    alpha: float
    seed: int
    sampler: str | None
    device: str | None
    colours: ColoursName | None = None
    policy: PolicyName | None = None


@dataclass(frozen=True)
class HeldOutOptions:
    """Options of a check that a card does not answer."""

    model: str
    crop: int
    seed: int
    device: str | None
    conditions: Path | None = None
