r"""UniPC (Zhao et al. 2023, arXiv:2302.04867), data prediction, :math:`B_2(h) = e^h - 1`.

With :math:`\lambda` half the log-SNR and :math:`h = \lambda_s - \lambda_t`, the exact solution is

.. math:: x_s = \frac{\sigma_s}{\sigma_t} x_t + \sigma_s \int_{\lambda_t}^{\lambda_s}
          e^\lambda\, \hat{x}_0(\lambda)\, d\lambda ,

and the estimate is replaced by the polynomial through its latest values. The predictor of order
:math:`p` uses :math:`p` values before the step; the corrector adds the value at its end, which the
next step needs anyway, and so costs no network call. UniPC-p is of order p + 1; the first steps,
which must do with fewer values, are of lower order, but lie where the estimate hardly moves.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.process import Process
from certes.diffusion.schedules import Multispeed
from certes.diffusion.solvers.state import State, steps_of
from certes.errors import InputError

Picture = Float[Tensor, "b c h w"]


@dataclass(frozen=True)
class _Node:
    """An estimate, in process coordinates, and half the log-SNR at which it was made."""

    half_log_snr: float
    z0: Picture


def unipc(
    process: Process,
    denoiser: Denoiser,
    times: Float[Tensor, " steps_and_end"],
    x: Picture,
    order: int = 2,
) -> Iterator[State]:
    """Walk ``x`` down the grid, one network call for each step; deterministic.

    Args:
        process: the schedule and its basis.
        denoiser: estimates the clean pictures.
        times: descending times; the last may be free of noise.
        x: pictures at ``times[0]``, process coordinates.
        order: p of UniPC-p, 1 to 3: how many estimates the predictor uses.

    Raises:
        InputError: if ``order`` is not 1, 2 or 3, or the process has several speeds.
    """
    if order not in (1, 2, 3):
        raise InputError(f"order: {order}; give 1, 2 or 3")
    if isinstance(process.schedule, Multispeed):
        raise InputError(
            "process: 'multispeed', but UniPC walks in one log-SNR for all coordinates; "
            "take dpm_solver_2m or another solver"
        )
    nodes: deque[_Node] = deque(maxlen=order)
    start = x
    for i, (t, s) in enumerate(steps_of(times)):
        estimate = process.denoise(denoiser, x, t).mean
        node = _Node(_half_log_snr(process, t), process.encode(estimate))
        if nodes:
            x = _step(process, start, times[i - 1], t, [*nodes, node])
        nodes.append(node)
        start = x
        x = _step(process, start, t, s, nodes)
        yield State(float(s), x, estimate)


def _half_log_snr(process: Process, t: Float[Tensor, ""]) -> float:
    return float(process.schedule.log_snr(t)) / 2


def _step(
    process: Process,
    x: Picture,
    t: Float[Tensor, ""],
    s: Float[Tensor, ""],
    nodes: Sequence[_Node],
) -> Picture:
    """From ``t`` to ``s`` with the polynomial through the nodes, which may lie after ``t``."""
    schedule = process.schedule
    sigma_ratio, alpha_s = float(schedule.sigma(s) / schedule.sigma(t)), float(schedule.alpha(s))
    start, stop = _half_log_snr(process, t), _half_log_snr(process, s)
    if math.isinf(stop):  # no polynomial reaches the clean end: its limit is the latest estimate
        return sigma_ratio * x + alpha_s * nodes[-1].z0
    h = stop - start
    weights = _weights([(node.half_log_snr - start) / h for node in nodes], h)
    pulled = sum((w * node.z0 for w, node in zip(weights, nodes, strict=True)), torch.zeros_like(x))
    return sigma_ratio * x + alpha_s * pulled


def _weights(positions: Sequence[float], h: float) -> list[float]:
    r"""The weights :math:`w_j` with :math:`\sum_j w_j u_j^k = h \int_0^1 e^{(u - 1) h} u^k du`.

    Args:
        positions: the nodes :math:`u_j`, in steps: 0 where the step starts, 1 where it ends.
        h: the step in half log-SNR.
    """
    moments = [-math.expm1(-h)]
    for k in range(1, len(positions)):
        moments.append(1 - k * moments[-1] / h)
    if len(positions) == 2:
        moments[1] = moments[0] / 2  # the paper's B_2(h) / 2, right to the order that two allow
    powers = np.vander(positions, increasing=True).T
    return np.linalg.solve(powers, np.array(moments)).tolist()
