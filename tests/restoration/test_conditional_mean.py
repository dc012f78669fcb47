"""The linear-Gaussian conditional mean, against dense algebra."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.residuals import SpectralCovariance
from certes.restoration import conditional_mean as module
from certes.restoration.conditional_mean import conditional_mean
from certes.restoration.operators import Blur, DecomposedOperator, Inpaint, SuperResolution

SHAPE = (1, 4, 6)
N = 24
TIGHT = {"rtol": 0.0, "atol": 1e-9}


@pytest.fixture
def exact_solves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOLERANCE", 1e-13)
    monkeypatch.setattr(module, "MAX_ITERATIONS", 300)


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def covariance(batch: int) -> SpectralCovariance:
    """Correlated, of another variance in every pixel and every picture."""
    frequency = torch.arange(4).reshape(-1, 1) ** 2 + torch.arange(6) ** 2
    spectrum = torch.exp(-0.3 * frequency.double()) * torch.logspace(-2, 0, batch).reshape(-1, 1, 1)
    return SpectralCovariance(0.04 * spectrum[:, None], 0.2 + random(batch, *SHAPE, seed=9))


def matrix_of(P: Covariance, row: int, batch: int) -> Tensor:
    units = torch.eye(N, dtype=torch.float64).reshape(N, 1, *SHAPE).expand(-1, batch, -1, -1, -1)
    return torch.stack([P.apply(unit)[row].flatten() for unit in units], dim=1)


def dense(
    mean: Tensor, P: Tensor, H: DecomposedOperator, looks: Tensor, variances: Tensor
) -> Tensor:
    """The textbook formula for one picture."""
    seen = variances.isfinite()
    V = H.V(torch.eye(N, dtype=torch.float64)).flatten(1).T[:, seen]
    system = V.T @ P @ V + variances[seen].diag()
    innovation = looks[seen] - V.T @ mean.flatten()
    return mean + (P @ V @ torch.linalg.solve(system, innovation)).reshape(SHAPE)


def operators() -> list[DecomposedOperator]:
    kernel = torch.tensor([1.0, 2.0, 1.0]).double() / 4
    mask = random(4, 6, seed=4) < 0.5
    return [Inpaint(SHAPE, mask), SuperResolution(SHAPE, 2), Blur(SHAPE, kernel, "reflect")]


def looks_of(H: DecomposedOperator, batch: int) -> tuple[Tensor, Tensor]:
    """Looks at what ``H`` sees, of very different precision, some of them exact."""
    variances = 10 ** (6 * random(batch, N, seed=5) - 5)
    variances[:, ::4] = 0.0
    return random(batch, N, seed=6), torch.where(H.spectrum > 1e-9, variances, torch.inf)


@pytest.mark.usefixtures("exact_solves")
@pytest.mark.parametrize("H", operators(), ids=lambda H: H.name)
def test_equals_the_dense_solution(H: DecomposedOperator) -> None:
    mean, P, (looks, variances) = random(3, *SHAPE), covariance(3), looks_of(H, 3)
    moved = conditional_mean(mean, P, H, looks, variances)
    for row in range(3):
        expected = dense(mean[row], matrix_of(P, row, 3), H, looks[row], variances[row])
        torch.testing.assert_close(moved[row], expected, rtol=1e-6, atol=1e-7)


def test_equals_the_dense_solution_to_the_accuracy_that_a_step_needs() -> None:
    """With the shipped goal; looks as a sampler has them, of one noise level."""
    for H in operators():
        mean, P = random(3, *SHAPE), covariance(3)
        variances = torch.where(H.spectrum > 1e-9, 0.003, torch.inf).expand(3, -1)
        looks = H.Vt(mean + P.apply(random(3, *SHAPE, seed=8)))
        moved = conditional_mean(mean, P, H, looks, variances)
        for row in range(3):
            expected = dense(mean[row], matrix_of(P, row, 3), H, looks[row], variances[row])
            error = (moved[row] - expected).norm() / (expected - mean[row]).norm()
            assert error < 0.05


@pytest.mark.usefixtures("exact_solves")
def test_exact_looks_are_met_and_reach_what_is_not_seen() -> None:
    H = operators()[0]
    mean, P, looks = random(1, *SHAPE), covariance(1), random(1, N, seed=6)
    seen = H.spectrum > 0
    moved = conditional_mean(mean, P, H, looks, torch.where(seen, 0.0, torch.inf)[None])
    torch.testing.assert_close(H.Vt(moved)[:, seen], looks[:, seen], rtol=0, atol=1e-6)
    assert float((H.Vt(moved - mean)[:, ~seen]).abs().min()) > 1e-4


def test_nothing_seen_changes_nothing() -> None:
    H = operators()[0]
    mean, P, (looks, variances) = random(2, *SHAPE), covariance(2), looks_of(operators()[0], 2)
    blind = torch.full((2, N), torch.inf)
    assert torch.equal(conditional_mean(mean, P, H, looks, blind), mean)
    one = torch.cat([blind[:1], variances[1:]])
    moved = conditional_mean(mean, P, H, looks, one)
    assert torch.equal(moved[0], mean[0])
    assert float((moved[1] - mean[1]).abs().max()) > 1e-3


def test_without_correlation_only_what_is_seen_moves() -> None:
    H = operators()[0]
    white = SpectralCovariance(torch.full((1, *SHAPE), 0.04), torch.ones(1, 1, 1, 1).double())
    mean, (looks, variances) = random(1, *SHAPE), looks_of(H, 1)
    shift = (conditional_mean(mean, white, H, looks, variances) - mean).flatten(1)
    seen = H.spectrum > 0
    assert float(shift[:, ~seen].abs().max()) < 1e-12
    weight = 0.04 / (0.04 + variances[:, seen])
    expected = weight * (looks - mean.flatten(1))[:, seen]
    # No correlation, no coupling: the scaled system is the identity, and one iteration solves it.
    torch.testing.assert_close(shift[:, seen], expected)
