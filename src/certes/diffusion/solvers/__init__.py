"""Solvers: from noise to pictures along a grid of times, one file for each family.

DDPM (Ho et al. 2020), DDIM (Song et al. 2021), DPM-Solver++ (Lu et al. 2022), UniPC (Zhao et al.
2023). A solver is a generator of :class:`State`: it sees the process, a denoiser, the grid, the
pictures and a source of noise, keeps no state between calls, and makes ``len(times) - 1`` network
calls. What conditions on a measurement belongs in ``certes.restoration``.
"""

from certes.diffusion.solvers.ancestral import ancestral
from certes.diffusion.solvers.ddim import ddim
from certes.diffusion.solvers.dpm_solver import dpm_solver_2m
from certes.diffusion.solvers.state import State
from certes.diffusion.solvers.unipc import unipc

__all__ = ["State", "ancestral", "ddim", "dpm_solver_2m", "unipc"]
