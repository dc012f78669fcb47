"""DDIM encoding: there and back again, in the right order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.grids import log_sigma_grid, times_of
from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import MixtureProblem
from certes.diffusion.process import Process
from certes.diffusion.schedules import EDM, Cosine
from certes.diffusion.solvers import State, ddim
from certes.errors import InputError
from certes.function_space.encoding import ddim_encode
from certes.function_space.fields import GaussianField
from certes.function_space.mollifier import Mollifier
from certes.function_space.process import MollifiedNoise, MollifiedProcess

SHAPE, PITCH = (6, 9), 0.5
MOLLIFIER = Mollifier(0.5)
FIELD = GaussianField(lambda squared: 0.05 / (0.5 + squared))
PROCESS = MollifiedProcess(Cosine(), MOLLIFIER, PITCH, 0.5, 0.5)
DENOISER = FIELD.denoiser(MOLLIFIER, PITCH)
NOTHING = NoiseSource([])
BASIS = CosineBasis()


def last(states: Iterator[State]) -> Tensor:
    *_, state = states
    return state.x


def ascending(steps: int) -> Tensor:
    return times_of(Cosine(), log_sigma_grid(200.0, 1e-2, steps + 1)[:-1]).flip(0)


def states(times: Tensor) -> Tensor:
    """Blurred functions with the noise of the first time."""
    x0 = FIELD.sample(3, SHAPE, PITCH, seed=2)
    mean, std = PROCESS.marginal(x0, times[0])
    noise = MollifiedNoise(NoiseSource([4, 5, 6]), MOLLIFIER, PITCH)
    return mean + std * noise.normal((1, *SHAPE), torch.float64)


def round_trip_error(steps: int) -> float:
    times = ascending(steps)
    x = states(times)
    code = last(ddim_encode(PROCESS, DENOISER, times, x))
    back = last(ddim(PROCESS, DENOISER, times.flip(0), code, NOTHING))
    return float((back - x).norm() / x.norm())


def gain_of_step(t: Tensor, s: Tensor) -> Tensor:
    """a_i: what a DDIM step from t to s multiplies each coefficient by, up or down."""
    power = FIELD.power(SHAPE, PITCH) * PITCH**2 / PROCESS.scale**2
    alpha, sigma = Cosine().alpha(torch.stack([t, s])), Cosine().sigma(torch.stack([t, s]))
    m = sigma[0] / (alpha[0] ** 2 * power + sigma[0] ** 2)
    return alpha[1] * (1 - sigma[0] * m) / alpha[0] + sigma[1] * m


def test_t5_round_trip_is_the_product_of_gains() -> None:
    """T5: each coefficient comes back times a product, up and down, that is known."""
    times = ascending(10)
    x = states(times)
    up, down = torch.ones(SHAPE).double(), torch.ones(SHAPE).double()
    for t, s in pairwise(times.unbind()):
        up, down = up * gain_of_step(t, s), down * gain_of_step(s, t)
    center = float(PROCESS.schedule.alpha(times[-1])) * PROCESS.encode(torch.tensor(0.5))
    code = last(ddim_encode(PROCESS, DENOISER, times, x))
    expected = BASIS.inverse(BASIS.forward(x) * up)
    torch.testing.assert_close(code, expected + center, rtol=1e-9, atol=1e-10)
    back = last(ddim(PROCESS, DENOISER, times.flip(0), code, NOTHING))
    expected = BASIS.inverse(BASIS.forward(x) * up * down)
    torch.testing.assert_close(back, expected + center, rtol=1e-9, atol=1e-10)


def test_t5_the_round_trip_closes_as_steps_shrink() -> None:
    """T5: first order: twice the steps, half the error."""
    errors = [round_trip_error(steps) for steps in (50, 100, 200)]
    assert errors[1] / errors[0] == pytest.approx(0.5, abs=0.05)
    assert errors[2] / errors[1] == pytest.approx(0.5, abs=0.05)
    assert errors[2] < 0.04


def test_t5_codes_are_noise() -> None:
    """Every coefficient of a code varies as mollified noise does: the map is the flow's."""
    times = ascending(400)
    unit = PROCESS.schedule.alpha(times[0]) ** 2 * FIELD.power(SHAPE, PITCH) * PITCH**2
    spread = (unit / PROCESS.scale**2 + PROCESS.schedule.sigma(times[0]) ** 2).sqrt()
    start = BASIS.inverse((spread * MOLLIFIER.symbol(SHAPE, PITCH))[None, None])
    code = BASIS.forward(last(ddim_encode(PROCESS, DENOISER, times, start)))[0, 0]
    ratio = code / MOLLIFIER.symbol(SHAPE, PITCH)
    assert float((ratio - 1).abs().max()) < 0.04


def test_defect_steps_of_the_release_are_in_the_order_of_sampling() -> None:
    """The released loop makes the same steps upwards, the noisiest first.

    On a Gaussian field nobody would notice: its steps commute. On a mixture they do not.
    """
    spread = torch.stack([torch.full((2,), variance).diag() for variance in (1e-3, 1e-2)])
    means = torch.tensor([[0.2, 0.3], [0.9, 0.6]]).reshape(2, 1, 1, 2)
    mixture = MixtureProblem(torch.tensor([0.4, 0.6]), means.double(), spread.double())
    process, denoiser, x = Process(EDM()), mixture.denoiser(), mixture.sample(20, seed=0)
    levels = log_sigma_grid(20.0, 1e-3, 300)[:-1]

    def error(code: Tensor) -> float:
        back = last(ddim(process, denoiser, levels, code, NOTHING))
        return float((back - x).norm() / x.norm())

    reversed_order = x
    for s, t in pairwise(levels.unbind()):
        estimate = process.denoise(denoiser, reversed_order, t).mean
        reversed_order, _ = process.transition(reversed_order, estimate, t, s, eta=0.0)
    assert error(reversed_order) > 0.15
    assert error(last(ddim_encode(process, denoiser, levels.flip(0), x))) < 0.02


def test_it_encodes_ordinary_pictures_too() -> None:
    levels = log_sigma_grid(20.0, 1e-3, 200)[:-1].flip(0)
    plain, x = Process(EDM()), FIELD.sample(2, SHAPE)
    code = last(ddim_encode(plain, FIELD.denoiser(MOLLIFIER), levels, x))
    back = last(ddim(plain, FIELD.denoiser(MOLLIFIER), levels.flip(0), code, NOTHING))
    assert float((back - x).norm() / (x - 0.5).norm()) < 0.05


def test_states_tell_where_they_are() -> None:
    times = ascending(4)
    visited = [state.t for state in ddim_encode(PROCESS, DENOISER, times, states(times))]
    assert visited == pytest.approx(times[1:].tolist())


@pytest.mark.parametrize(
    ("times", "complaint"),
    [([0.9, 0.5, 0.1], "ascending"), ([0.1], "at least two"), ([0.1, 0.1], "ascending")],
)
def test_grids_that_do_not_ascend(times: list[float], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        next(ddim_encode(PROCESS, DENOISER, torch.tensor(times), torch.zeros(1, 1, *SHAPE)))


def test_a_clean_picture_tells_of_no_noise() -> None:
    with pytest.raises(InputError, match="no noise"):
        next(
            ddim_encode(
                Process(EDM()), DENOISER, torch.tensor([0.0, 1.0]), torch.zeros(1, 1, *SHAPE)
            )
        )
