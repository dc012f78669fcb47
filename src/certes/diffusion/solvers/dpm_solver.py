r"""DPM-Solver++(2M), ODE and SDE (Lu et al. 2022, arXiv:2211.01095, algorithm 2 and eq. 18).

The estimate is extrapolated linearly in log-SNR to the middle of the step,

.. math:: D = \hat{x}_0 + \frac{h}{2 h_{prev}} (\hat{x}_0 - \hat{x}_0^{prev}),

and a DDIM step is made with :math:`D`. With :math:`h = \log(\rho_t / \rho_s)` and
noise levels :math:`\rho = \sigma / \alpha` that step is

.. math:: x_s = \tfrac{\sigma_s}{\sigma_t} x_t + \alpha_s (1 - e^{-h}) D \quad (\eta = 0), \qquad
          x_s = \tfrac{\sigma_s}{\sigma_t} e^{-h} x_t + \alpha_s (1 - e^{-2h}) D
                + \sigma_s \sqrt{1 - e^{-2h}}\, e \quad (\eta = 1),

the two solvers of the paper. Second order in the mean; one network call for each step.
"""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.process import Process
from certes.diffusion.solvers.state import State, steps_of


def extrapolation(
    log_snr_before: Float[Tensor, " ..."],
    log_snr_t: Float[Tensor, " ..."],
    log_snr_s: Float[Tensor, " ..."],
) -> Float[Tensor, " ..."]:
    r"""The weight :math:`h / (2 h_{prev})` of the last change of the estimate.

    Zero for a step to the clean end, where log-SNR is infinite and the estimate is the answer.
    """
    weight = (log_snr_s - log_snr_t) / (2 * (log_snr_t - log_snr_before))
    return weight.where(log_snr_s.isfinite(), 0.0)


def dpm_solver_2m(
    process: Process,
    denoiser: Denoiser,
    times: Float[Tensor, " steps_and_end"],
    x: Float[Tensor, "b c h w"],
    noise: NoiseSource,
    eta: float = 0.0,
) -> Iterator[State]:
    """Walk ``x`` down the grid, one network call for each step; the first is a DDIM step.

    Args:
        process: the schedule and its basis.
        denoiser: estimates the clean pictures.
        times: descending times; the last may be free of noise.
        x: pictures at ``times[0]``, process coordinates.
        noise: one stream for each picture (left alone at ``eta=0``).
        eta: 0 solves the probability-flow ODE, 1 the reverse SDE.
    """
    log_snr, before = process.schedule.log_snr, None
    for t, s in steps_of(times):
        estimate = middle = process.denoise(denoiser, x, t).mean
        if before is not None:
            weight = extrapolation(log_snr(before[0]), log_snr(t), log_snr(s)).to(x)
            middle = estimate + weight * (estimate - before[1])
        before = t, estimate
        x, std = process.transition(x, middle, t, s, eta)
        if eta > 0:
            x = x + std * noise.normal(x.shape[1:], x.dtype)
        yield State(float(s), x, estimate)
