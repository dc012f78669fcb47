"""Options of the commands that walk the reverse chain, each described once. No import of torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer


class SolverName(StrEnum):
    """Keys of ``certes.diffusion.solvers.sampling.SOLVERS``."""

    ANCESTRAL = "ancestral"
    DDIM = "ddim"
    DPM_SOLVER_2M = "dpm_solver_2m"
    DPM_SOLVER_2M_SDE = "dpm_solver_2m_sde"
    EULER_MARUYAMA = "euler_maruyama"
    HEUN = "heun"
    PREDICTOR_CORRECTOR = "predictor_corrector"
    PROBABILITY_FLOW = "probability_flow"
    REVERSE_DIFFUSION = "reverse_diffusion"
    UNIPC = "unipc"
    UNIPC_3 = "unipc_3"


class VarianceName(StrEnum):
    """The choices of ``certes.diffusion.reverse.Variance``."""

    SMALL = "small"
    LARGE = "large"
    LEARNED = "learned"
    CALIBRATED = "calibrated"


class MixingName(StrEnum):
    """The choices of ``certes.generation.interpolation.Mixing``."""

    LINEAR = "linear"
    VARIANCE_PRESERVING = "variance-preserving"


Solver = Annotated[
    SolverName,
    typer.Option(
        "--solver",
        help="How the chain is walked; ancestral and dpm_solver_2m_sde add noise on the way. "
        "The paper's is ancestral, with --steps 1000.",
    ),
]
Variance = Annotated[
    VarianceName,
    typer.Option(
        "--variance",
        help="ancestral: variance of the reverse step; learned and calibrated need a model that "
        "knows them.",
    ),
]
Levels = Annotated[
    list[float] | None,
    typer.Option(
        "--level",
        metavar="SIGMA",
        show_default="the paper's",
        help="Standard deviation of the noise, where pictures have values in [0, 1]; repeat the "
        "option for several.",
    ),
]


@dataclass(frozen=True)
class ChainOptions:
    """Options that say what draws pictures, and how."""

    model: str
    solver: SolverName
    variance: VarianceName
    steps: int
    seed: int
    device: str | None
