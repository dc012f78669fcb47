"""Defects of published samplers and operators, each beside what is done here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource
from certes.restoration.measurement import Measurement, measure
from certes.restoration.operators import Blur, Inpaint, uniform_kernel
from certes.restoration.restore import restore
from certes.restoration.samplers import ddrm, dps
from certes.restoration.samplers.levels import whole_descent

from .laws import field, last, law
from .samplers.posed import affine_answers, judged, posed

SHAPE = (1, 6, 6)


def guided_misfit(seeds: int = 8) -> float:
    """Of answers to half of the pixels, root mean square over what is known."""
    problem = field(SHAPE, 0.15, 1.5)
    mask = torch.arange(36).reshape(6, 6) % 2 == 0
    H = Inpaint(SHAPE, mask)
    y = H(problem.sample(1, 7)).expand(seeds, -1, -1, -1)
    known = Measurement(H, y, torch.full((seeds,), 0.01).double())
    grid, noise = whole_descent(known, 60), NoiseSource(range(seeds))
    end = last(dps.sample_dps(known, problem.denoiser(), grid, noise)).x
    return float((H(end) - y)[:, 0, mask].square().mean().sqrt())


def test_defect_guidance_at_the_first_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """The original's classifier is differentiated at x_T in every step; DPS here, at x_t."""
    looked_back, prior = dps._looked_back, 0.15
    first: list[tuple[Tensor, float]] = []

    def at_the_first(
        measurement: Measurement, denoiser: Denoiser, x: Tensor, sigma: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        first.append((x, sigma))
        estimate, misfit, _ = looked_back(measurement, denoiser, x, sigma)
        return estimate, misfit, looked_back(measurement, denoiser, *first[0])[2]

    assert guided_misfit() < 0.3 * prior
    monkeypatch.setattr(dps, "_looked_back", at_the_first)
    assert guided_misfit() > 0.8 * prior


def alone_as_together() -> bool:
    """Whether guidance by one measurement is the same beside one that is missed by far more."""
    problem, H = field(SHAPE, 0.15, 1.5), Inpaint(SHAPE, torch.eye(6) == 0)
    y = H(problem.sample(2, 7)) + torch.tensor([0.0, 3.0]).reshape(2, 1, 1, 1)
    known = Measurement(H, y, torch.full((2,), 0.05).double())
    grid = whole_descent(known, 12)
    both = last(dps.sample_dps(known, problem.denoiser(), grid, NoiseSource([0, 1]))).x
    first = Measurement(H, y[:1], known.noise[:1])
    alone = last(dps.sample_dps(first, problem.denoiser(), grid, NoiseSource([0]))).x
    return torch.allclose(both[:1], alone, rtol=1e-9, atol=1e-9)


def test_defect_one_norm_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The norm of all misfits together divides the gradient of each by what is not its own."""
    looked_back = dps._looked_back

    def together(
        measurement: Measurement, denoiser: Denoiser, x: Tensor, sigma: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        estimate, misfit, gradient = looked_back(measurement, denoiser, x, sigma)
        return estimate, misfit, gradient * misfit[:, None, None, None] / misfit.norm()

    assert alone_as_together()
    monkeypatch.setattr(dps, "_looked_back", together)
    assert not alone_as_together()


def blind_spot() -> tuple[Blur, Tensor]:
    """A blur that kills some coefficients, and a measurement that holds something there."""
    H = Blur((1, 6, 4), uniform_kernel(2), "circular")
    coefficients = torch.zeros(1, H.m, dtype=torch.float64)
    coefficients[0, H.singular_values < 1e-9] = 0.1
    assert int((coefficients != 0).sum()) == 9
    return H, H.U(coefficients)


def answer_shift() -> float:
    """How far what a blur cannot have left moves the answers, over the prior's deviation."""
    (H, left), noise = blind_spot(), torch.full((1,), 0.02).double()
    problem = field(H.in_shape, 0.15, 1.5)
    y = H(problem.sample(1, 7))
    grid = ddrm.official_levels(20)
    means = [
        law(ddrm.sample_ddrm, measure(H, look, noise), problem.denoiser(), grid)[0]
        for look in (y, y + left)
    ]
    return float((means[1] - means[0]).square().mean().sqrt() / 0.15)


def test_defect_noise_is_read_where_nothing_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Singular values set to zero are less than any noise: the original's second case, which
    then takes (U^T y) / sigma_y for noise that the picture had."""
    sound = ddrm._step

    def published(measurement, x0, direction, s, fresh, eta, eta_b) -> Tensor:
        path = sound(measurement, x0, direction, s, fresh, eta, eta_b)
        left = measurement.operator.Ut(blind_spot()[1])
        seen = x0 + (1 - eta**2) ** 0.5 * s * left / 0.02 + eta * s * fresh
        return torch.where(torch.isinf(measurement.levels), seen, path)

    assert answer_shift() < 1e-9
    calls: list[int] = []

    def only_the_second(*arguments) -> Tensor:
        # The first of the two measurements holds nothing there: 21 draws, 20 steps.
        calls.append(len(calls))
        return (sound if len(calls) <= 20 else published)(*arguments)

    monkeypatch.setattr(ddrm, "_step", only_the_second)
    assert answer_shift() > 0.1


def test_defect_noise_in_other_units() -> None:
    """Noise that is .05 of [-1, 1] is half of .05 of [0, 1]: who is told the wrong one of the two
    has intervals that are too narrow."""
    case = posed("denoise")
    assert judged(affine_answers("pinned", case, 40), case).calibrated
    known = case.measurement
    halved = Measurement(known.operator, known.y, known.noise / 2)
    wrong = judged(affine_answers("pinned", replace(case, measurement=halved), 40), case)
    assert wrong.spread == pytest.approx(0.60, abs=0.02)
    assert wrong.coverage == pytest.approx(0.64, abs=0.02)


@pytest.mark.parametrize("sampler", ["pinned", "ddrm", "ddnm", "diffpir", "conditional"])
def test_defect_a_measurement_that_is_changed(sampler: str) -> None:
    """A reimplementation of DDRM divides y by s + 1e-6 where it lies, in every run again."""
    H, problem = Inpaint(SHAPE, torch.eye(6) == 0), field(SHAPE, 0.15, 1.5)
    y = H(problem.sample(2, 7).float())

    def restored(y: Tensor) -> None:
        restore(y, H, problem.denoiser(), noise=0.02, samples=2, steps=3, sampler=sampler)

    def in_place(y: Tensor) -> None:
        restored(y.div_(1 + 1e-6))

    def kept(run: Callable[[Tensor], None]) -> bool:
        given = y.clone()
        run(given)
        return torch.equal(given, y)

    def seen(y: Tensor) -> None:
        measure(H, y, torch.full((2,), 0.02))

    assert kept(restored)
    assert kept(seen)
    assert not kept(in_place)
