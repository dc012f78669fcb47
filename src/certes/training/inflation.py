r"""How much wider a network's errors are than the spread of its samples.

Reverse diffusion started at :math:`x = x_0 + \sigma e` draws from :math:`p(x_0 | x)`, exactly so
for an exact denoiser, whatever the prior. Then the mean of K draws misses the truth by
:math:`\sqrt{1 + 1/K}` times their standard deviation. What a trained network misses beyond that is
its own mistake, which all its samples share; the ratio is the spread-error ratio of ensemble
forecasting, and multiplicative inflation (Anderson and Anderson 1999) makes it one.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.grids import log_sigma_grid
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.process import Process
from certes.diffusion.schedules import EDM
from certes.diffusion.solvers.dpm_solver import dpm_solver_2m
from certes.diffusion.solvers.sampling import SIGMA_MIN

# Image units: a noise that hides what matters.
LEVEL = 0.1


def measure_inflation(
    denoiser: Denoiser,
    patches: Float[Tensor, "b c s s"],
    samples: int = 8,
    steps: int = 20,
    seed: int = 0,
) -> float:
    """The error of denoising ``patches`` over the spread of its samples, at least 1.

    Args:
        denoiser: the trained network.
        patches: training patches, image units; 32 give about 3 % accuracy.
        samples: draws for each patch.
        steps: network calls for each draw.
        seed: of the noise.
    """
    count, device = len(patches), denoiser.device or patches.device
    seeds = stream_seeds(seed, [f"inflation {i}" for i in range(count * (samples + 1))])
    e = NoiseSource(seeds[:count]).normal(patches.shape[1:])
    x = (patches + LEVEL * e).repeat(samples, 1, 1, 1).to(device)
    levels = log_sigma_grid(LEVEL, SIGMA_MIN, steps)
    noise = NoiseSource(seeds[count:], device)
    *_, last = dpm_solver_2m(Process(EDM()), denoiser, levels, x, noise, eta=1.0)
    draws = last.x.reshape(samples, *patches.shape).cpu()
    error = (draws.mean(dim=0) - patches).square().mean()
    spread = draws.var(dim=0).mean()
    return max(1.0, float((error / spread / (1 + 1 / samples)).sqrt()))
