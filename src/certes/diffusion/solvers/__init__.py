"""Solvers: from noise to pictures along a grid of times, one file for each family.

DDPM (Ho et al. 2020), DDIM (Song et al. 2021a), DPM-Solver++ (Lu et al. 2022), UniPC (Zhao et al.
2023), the samplers of score-based SDEs (Song et al. 2021b) and Heun's method (Karras et al. 2022).
A solver is a generator of :class:`State`: it sees the process, a denoiser, the grid, the pictures
and a source of noise, and keeps no state between calls. Its steps are those of the grid, never of
the table that a network was trained on. It makes ``len(times) - 1`` network calls unless it says
otherwise. What conditions on a measurement belongs in ``certes.restoration``.
"""

from certes.diffusion.solvers.ancestral import ancestral
from certes.diffusion.solvers.ddim import ddim
from certes.diffusion.solvers.dpm_solver import dpm_solver_2m
from certes.diffusion.solvers.euler_maruyama import euler_maruyama
from certes.diffusion.solvers.heun import heun
from certes.diffusion.solvers.langevin import correct
from certes.diffusion.solvers.predictor_corrector import predictor_corrector
from certes.diffusion.solvers.probability_flow import FlowState, probability_flow
from certes.diffusion.solvers.reverse_diffusion import reverse_diffusion
from certes.diffusion.solvers.state import State
from certes.diffusion.solvers.unipc import unipc

__all__ = [
    "FlowState",
    "State",
    "ancestral",
    "correct",
    "ddim",
    "dpm_solver_2m",
    "euler_maruyama",
    "heun",
    "predictor_corrector",
    "probability_flow",
    "reverse_diffusion",
    "unipc",
]
