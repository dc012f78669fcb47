r"""Drawing pictures: how the reverse chain is walked, and where it starts.

A chain runs in the denoiser's own coordinates, :math:`x = x_0 + \sigma e` in image units, where
time is the noise level (Karras et al. 2022, arXiv:2206.00364): every model is walked alike,
whatever the schedule that it was trained on, and the levels are evenly spaced in log-SNR.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.grids import Grid, log_sigma_grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import Process
from certes.diffusion.reverse import Variance, check_variance
from certes.diffusion.schedules import EDM
from certes.diffusion.solvers.ancestral import ancestral
from certes.diffusion.solvers.ddim import ddim
from certes.diffusion.solvers.dpm_solver import dpm_solver_2m
from certes.diffusion.solvers.euler_maruyama import euler_maruyama
from certes.diffusion.solvers.heun import heun
from certes.diffusion.solvers.predictor_corrector import predictor_corrector
from certes.diffusion.solvers.probability_flow import probability_flow
from certes.diffusion.solvers.reverse_diffusion import reverse_diffusion
from certes.diffusion.solvers.state import State
from certes.diffusion.solvers.unipc import unipc
from certes.errors import InputError

# Image units. The noise must drown the mean brightness of a picture, not only its pixels: averaged
# over 256 x 256 pixels a noise of 5 is 0.02. DDPM's chain ends at 157 in units of half the range,
# which is just above SIGMA_MAX. SIGMA_MIN is half a grey level.
SIGMA_MAX = 78.0
SIGMA_MIN = 0.002


def _drawing_nothing(solver: Callable[..., Iterator[State]]) -> Callable[..., Iterator[State]]:
    """Some solvers take no noise; the others' signature makes them some of the list."""

    def walk(
        process: Process,
        denoiser: Denoiser,
        times: Grid,
        x: Float[Tensor, "b c h w"],
        noise: NoiseSource,
    ) -> Iterator[State]:
        return solver(process, denoiser, times, x)

    return walk


def _flow(
    process: Process, denoiser: Denoiser, times: Grid, x: Float[Tensor, "b c h w"]
) -> Iterator[State]:
    """The adaptive solver, seen once for each step of the grid: where it is first past its end."""
    states = probability_flow(process, denoiser, times, x)
    state = next(states)
    for s in times[1:]:
        while state.t > s:
            state = next(states)
        yield state


SolverName = Literal[
    "ancestral",
    "ddim",
    "dpm_solver_2m",
    "dpm_solver_2m_sde",
    "euler_maruyama",
    "heun",
    "predictor_corrector",
    "probability_flow",
    "reverse_diffusion",
    "unipc",
    "unipc_3",
]
SOLVERS: dict[str, Callable[..., Iterator[State]]] = {
    "ancestral": ancestral,
    "ddim": ddim,
    "dpm_solver_2m": dpm_solver_2m,
    "dpm_solver_2m_sde": partial(dpm_solver_2m, eta=1.0),
    "euler_maruyama": euler_maruyama,
    "heun": _drawing_nothing(heun),
    "predictor_corrector": predictor_corrector,
    "probability_flow": _drawing_nothing(_flow),
    "reverse_diffusion": reverse_diffusion,
    "unipc": _drawing_nothing(unipc),
    "unipc_3": _drawing_nothing(partial(unipc, order=3)),
}
"""One network call for each step; two with ``heun`` (one in the last) and ``predictor_corrector``;
with ``probability_flow`` as many as its tolerance needs, whatever the steps."""
STOCHASTIC = (
    "ancestral",
    "dpm_solver_2m_sde",
    "euler_maruyama",
    "predictor_corrector",
    "reverse_diffusion",
)
"""The solvers that add noise, so that one ``x_t`` has many ends."""


@dataclass(frozen=True)
class ReverseChain:
    """How the reverse chain is walked.

    Args:
        solver: a key of :data:`SOLVERS`. The default is stochastic: fresh noise forgives a
            network's errors, which a deterministic walk carries along.
        steps: of the grid, each yielded as one state; :data:`SOLVERS` tells their network calls.
        variance: of the reverse step, for ``ancestral`` (see :mod:`certes.diffusion.reverse`).

    Raises:
        InputError: for an unknown name, no steps, or a variance that the solver does not have.
    """

    solver: SolverName = "dpm_solver_2m_sde"
    steps: int = 20
    variance: Variance = "small"

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise InputError(f"solver: {self.solver!r}; give one of {', '.join(SOLVERS)}")
        check_variance(self.variance)
        if self.variance != "small" and self.solver != "ancestral":
            raise InputError(
                f"variance: {self.variance!r} with solver {self.solver!r}, whose noise is part of "
                "its method; only 'ancestral' has a choice"
            )
        if self.steps < 1:
            raise InputError(f"steps: {self.steps}; give at least 1")

    @property
    def stochastic(self) -> bool:
        """Whether it adds noise on its way."""
        return self.solver in STOCHASTIC

    def grid(self, level: float) -> Grid:
        """The noise levels of a walk that starts at ``level``, image units; the last is 0.

        Raises:
            InputError: if the level is not positive.
        """
        if not level > 0:
            raise InputError(f"level: {level}; a chain starts at a noise above 0")
        return log_sigma_grid(level, min(SIGMA_MIN, level / 2), self.steps)

    def __call__(
        self, denoiser: Denoiser, x: Float[Tensor, "b c h w"], grid: Grid, noise: NoiseSource
    ) -> Iterator[State]:
        """Walk pictures down a grid of noise levels, one state for each step.

        Args:
            denoiser: estimates the clean pictures.
            x: pictures ``x_0 + grid[0] e``, image units.
            grid: descending noise levels, image units.
            noise: one stream for each picture (left alone by a deterministic solver).
        """
        extra = {"variance": self.variance} if self.solver == "ancestral" else {}
        return SOLVERS[self.solver](Process(EDM()), denoiser, grid, x, noise, **extra)


def draw_samples(
    denoiser: Denoiser,
    shape: Sequence[int],
    noise: NoiseSource,
    chain: ReverseChain,
    center: float = 0.5,
) -> Iterator[State]:
    """Draw pictures from nothing but noise; the last state holds them, image units.

    Args:
        denoiser: what knows the pictures.
        shape: the shape (c, h, w) of one picture.
        noise: one stream for each picture.
        chain: how it is walked.
        center: the brightness about which pictures lie (it hardly matters: see
            :data:`SIGMA_MAX`).
    """
    grid = chain.grid(SIGMA_MAX)
    x = center + SIGMA_MAX * noise.normal(shape)
    return chain(denoiser, x, grid, noise)
