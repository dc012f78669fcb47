"""The sampler for operators known by themselves and their adjoint alone: calibrated at 20 steps."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems.linear import as_matrix, condition
from certes.restoration import conditional_mean, restore
from certes.restoration.covariances import Isotropic, WithCovariance
from certes.restoration.measurement import Measurement
from certes.restoration.operators.base import LinearOperator
from certes.restoration.samplers import SAMPLERS, conditional, default_sampler, levels
from certes.restoration.samplers.conditional import DirectView, sample_conditional
from certes.restoration.samplers.levels import SIGMA_MAX, whole_descent

from ..laws import last, law
from .posed import Posed, Verdict, judged, noise_free, posed, tasks

every_task = pytest.mark.parametrize("task", tasks())


class MatrixFree(LinearOperator):
    """What is left of an operator without its decomposition."""

    name = "matrix-free"

    def __init__(self, inner: LinearOperator) -> None:
        super().__init__(inner.in_shape, inner.out_shape)
        self.inner = inner

    def _apply(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(y)


def matrix_free(case: Posed) -> Posed:
    inner = case.measurement.operator
    assert isinstance(inner, LinearOperator)
    return replace(case, measurement=replace(case.measurement, operator=MatrixFree(inner)))


@pytest.fixture
def exact_solves(monkeypatch: pytest.MonkeyPatch) -> None:
    """With these the sampler of a Gaussian problem is affine, and its law can be computed."""
    monkeypatch.setattr(conditional_mean, "TOLERANCE", 1e-12)
    monkeypatch.setattr(conditional, "ITERATIONS", 200)


def answers(case: Posed, steps: int, wrapped: type[Denoiser] = WithCovariance) -> tuple:
    denoiser = wrapped(case.problem.denoiser())  # type: ignore[call-arg]
    grid = whole_descent(case.measurement, steps)
    return law(sample_conditional, case.measurement, denoiser, grid)


@every_task
def test_twenty_steps_are_calibrated(task: str) -> None:
    case = matrix_free(posed(task))
    verdict = judged(answers(case, 20), case)
    assert 0.88 < verdict.coverage < 0.92
    assert abs(verdict.spread - 1) < 0.05
    assert verdict.error < 0.05


@pytest.mark.usefixtures("exact_solves")
def test_so_they_are_with_exact_solves() -> None:
    """What is loose in the solves as shipped is not what makes them so."""
    case = matrix_free(posed("inpaint", side=4))
    assert judged(answers(case, 20), case).calibrated


@every_task
def test_one_variance_for_all_directions_is_not_calibrated(task: str) -> None:
    """Negative control: PiGDM's covariance on a correlated field."""
    case = matrix_free(posed(task))
    verdict = judged(answers(case, 20, Isotropic), case)
    assert not verdict.calibrated
    assert verdict.error > 0.3


@pytest.mark.parametrize("task", ["inpaint", "super-resolve"])
@pytest.mark.usefixtures("exact_solves")
def test_the_law_converges_to_the_posterior_at_second_order(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ends of the grid whose own share of the error does not show."""
    monkeypatch.setattr(levels, "SIGMA_MAX", 40.0)
    monkeypatch.setattr(levels, "_SHARE", 1 / 200)
    case = matrix_free(posed(task, side=4))
    errors: list[float] = []
    for steps in (40, 80):
        mean, covariance = answers(case, steps)
        errors.append(float((covariance - case.covariance).norm() / case.covariance.norm()))
    shift = (mean - case.mean).abs().max() / case.covariance.diagonal().max().sqrt()
    assert shift < 5e-3
    assert errors[1] < 0.02
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.5)


@every_task
def test_noise_free_measurements_are_met(task: str) -> None:
    """To an eighth of a grey level, in either precision."""
    case = matrix_free(noise_free(task))
    for dtype in (torch.float32, torch.float64):
        known = case.measurement
        known = replace(known, y=known.y.to(dtype), noise=known.noise.to(dtype))
        grid, denoiser = whole_descent(known, 20), case.problem.denoiser()
        end = last(sample_conditional(known, denoiser, grid, NoiseSource([0])))
        assert end.x.dtype == dtype
        assert (known.operator(end.x) - known.y).abs().max() < 5e-4


def test_every_value_may_have_its_own_noise() -> None:
    """Not only where values are coefficients: a blur, noisier to the right."""
    case = matrix_free(posed("deblur"))
    known, problem = case.measurement, case.problem
    noise = torch.linspace(0.03, 0.3, 8).double().expand(1, 1, 8, 8)
    matrix = as_matrix(known.operator, problem.shape, problem.mean) / noise.reshape(-1, 1)
    whitened = (known.y / noise).flatten(1)
    exact = condition(problem.mean.flatten(), problem.covariance, matrix, whitened, 1.0)
    mapped = Posed(problem, replace(known, noise=noise), exact.mean[0], exact.covariance)
    assert judged(answers(mapped, 20), mapped).calibrated
    # Negative control: one level for all.
    assert not judged(answers(replace(mapped, measurement=known), 20), mapped).calibrated


def test_the_direct_view_is_the_operator_and_its_adjoint() -> None:
    inner = tasks()["deblur"]
    view, generator = DirectView(MatrixFree(inner)), torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 3, 64, generator=generator, dtype=torch.float64)
    image = view.rows_t(x.reshape(3, 1, 8, 8))
    torch.testing.assert_close(image, inner(x.reshape(3, 1, 8, 8)).flatten(1))
    torch.testing.assert_close((image * y).sum(1), (x * view.rows(y).flatten(1)).sum(1))


def test_it_is_the_default_of_what_has_no_decomposition() -> None:
    case = matrix_free(posed("super-resolve"))
    known = case.measurement
    assert default_sampler(known.operator) == "conditional"
    posterior = restore(known.y, known.operator, case.problem.denoiser(), noise=0.05, samples=200)
    moments = posterior.samples.double().flatten(1)
    verdict = judged((moments.mean(0), moments.T.cov()), case)
    assert isinstance(verdict, Verdict)
    assert 0.86 < verdict.coverage < 0.93
    assert verdict.error < 0.15


def test_the_grid_reaches_from_pure_noise_to_below_the_measurement() -> None:
    case = posed("denoise")
    grid = SAMPLERS["conditional"].grid(case.measurement, 6)
    assert len(grid) == 7
    assert float(grid[0]) == pytest.approx(SIGMA_MAX)
    assert 0 < float(grid[-2]) < 0.05
    exact = Measurement(case.measurement.operator, case.measurement.y, torch.zeros(1))
    assert float(whole_descent(exact, 6)[-2]) > 0
