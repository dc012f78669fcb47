"""DPS: the published step in its own units, on any grid, each picture for itself, no graph kept."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.grids import log_sigma_grid
from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import MixtureProblem
from certes.diffusion.schedules import linear_betas
from certes.errors import InputError
from certes.restoration import restore
from certes.restoration.measurement import Measurement
from certes.restoration.operators import Blur, Denoise
from certes.restoration.operators.base import Operator
from certes.restoration.samplers import default_sampler, dps
from certes.restoration.samplers.dps import guidance, sample_dps
from certes.restoration.samplers.levels import whole_descent

from ..laws import field, last
from .posed import drawn, judged, moments, posed, tasks

SHAPE = (1, 4, 6)
KERNEL = torch.tensor([1.0, 2.0, 1.0]).double() / 4


class Saturating(Operator):
    """A blurred picture on film: not linear."""

    name = "film"

    def __init__(self) -> None:
        super().__init__(SHAPE, SHAPE)
        self.blur = Blur(SHAPE, KERNEL, "reflect")

    def _apply(self, x: Tensor) -> Tensor:
        return torch.tanh(2 * self.blur(x))


def levels_of(*indices: int) -> Tensor:
    """Entries of the linear table as levels in image units, then 0."""
    table = linear_betas()
    levels = table.noise_level(table.time_of_index(torch.tensor(indices))) / 2
    return torch.cat([levels, levels.new_zeros(1)])


@pytest.fixture(scope="module")
def mixture() -> MixtureProblem:
    means = torch.stack([torch.full(SHAPE, 0.35), torch.full(SHAPE, 0.65)]).double()
    parts = [field(SHAPE, tau, length).covariance for tau, length in ((0.06, 2.0), (0.1, 1.0))]
    return MixtureProblem(torch.tensor([0.5, 0.5]), means, torch.stack(parts))


def misread(y: Tensor) -> Measurement:
    """A measurement that fits no picture: its misfit is far from zero."""
    return Measurement(Saturating(), y, torch.full((len(y),), 0.05).double())


@pytest.mark.parametrize("index", [700, 300, 40])
def test_a_step_on_the_table_is_the_published_one(index: int, mixture: MixtureProblem) -> None:
    """DDPM in [-1, 1] with alphas and betas, then zeta times the gradient of the norm."""
    y, zeta, e = torch.full((1, *SHAPE), 9.0).double(), 0.3, NoiseSource([3])
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    bars = torch.cumprod(1 - betas, dim=0)
    bar, before, beta = bars[index], bars[index - 1], betas[index]
    sigma = ((1 - bar) / bar).sqrt() / 2

    start = 0.5 + sigma * e.normal(SHAPE, torch.float64)
    z = (bar.sqrt() * (2 * start - 1)).requires_grad_()
    x0 = mixture.denoiser()((z / bar.sqrt() + 1) / 2, sigma[None]).mean
    # In [-1, 1] measurements are twice as far apart as well.
    norm = (2 * (y - Saturating()(x0))).norm()
    (gradient,) = torch.autograd.grad(norm, z)
    z0, z = 2 * x0.detach() - 1, z.detach()
    mean = before.sqrt() * beta * z0 + (1 - beta).sqrt() * (1 - before) * z
    std = (beta * (1 - before) / (1 - bar)).sqrt()
    ahead = mean / (1 - bar) + std * e.normal(SHAPE, torch.float64) - zeta * gradient
    expected = (ahead / before.sqrt() + 1) / 2

    grid = levels_of(index, index - 1)
    state = next(sample_dps(misread(y), mixture.denoiser(), grid, NoiseSource([3]), zeta=zeta))
    torch.testing.assert_close(state.x, expected, rtol=1e-9, atol=1e-9)
    unguided = next(sample_dps(misread(y), mixture.denoiser(), grid, NoiseSource([3]), zeta=0.0))
    assert (state.x - unguided.x).abs().max() > 1e-4  # the guidance is part of what was compared


def test_the_last_step_of_the_table_is_guided_too(mixture: MixtureProblem) -> None:
    """From the first entry to the clean end: one step of the table."""
    y, e = torch.full((1, *SHAPE), 9.0).double(), NoiseSource([3])
    bar = torch.tensor(1 - 1e-4, dtype=torch.float64)
    sigma = ((1 - bar) / bar).sqrt() / 2
    start = (0.5 + sigma * e.normal(SHAPE, torch.float64)).requires_grad_()
    x0 = mixture.denoiser()(start, sigma[None]).mean
    (gradient,) = torch.autograd.grad((y - Saturating()(x0)).norm(), start)
    end = last(sample_dps(misread(y), mixture.denoiser(), levels_of(0), NoiseSource([3])))
    torch.testing.assert_close(end.x, x0.detach() - 0.3 / bar.sqrt() / 2 * gradient)


def test_steps_that_are_left_out_are_made_up_for() -> None:
    """The guidance of a coarse grid's step is the sum of those of the table's steps within."""
    fine = levels_of(*range(300, 199, -1))
    total = sum(guidance(fine[i], fine[i + 1]) for i in range(100))
    assert guidance(fine[0], fine[100]) == pytest.approx(total, rel=0.1)
    assert guidance(fine[0], fine[1]) == pytest.approx(total / 100, rel=0.5)


class Silence:
    """A source of noise that is none."""

    def __init__(self, count: int) -> None:
        self.count = count

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(self.count, *shape, dtype=dtype)


def quiet_end(mixture: MixtureProblem, steps: int) -> Tensor:
    """The end of a path without noise; a weak pull, so that no step is cut short."""
    known, grid = misread(torch.full((1, *SHAPE), 9.0).double()), log_sigma_grid(2.0, 0.002, steps)
    states = sample_dps(known, mixture.denoiser(), grid, Silence(1), zeta=0.03)  # type: ignore[arg-type]
    return last(states).x


def test_the_number_of_steps_changes_accuracy_alone(
    mixture: MixtureProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse, fine = (quiet_end(mixture, steps) for steps in (50, 200))
    moved = (fine - 0.65).norm()
    assert moved > 0.05
    assert (coarse - fine).norm() < 0.05 * moved
    # Negative control: every step guided as one of the table, as published, four times as much.
    one = "guidance"
    monkeypatch.setattr(dps, one, lambda t, s: float(((1 + 4 * t**2) * (1 + 4 * s**2)).sqrt() / 2))
    coarse, fine = (quiet_end(mixture, steps) for steps in (50, 200))
    assert (coarse - fine).norm() > 0.2 * (fine - 0.65).norm()


def test_no_step_goes_beyond_where_a_linear_misfit_would_vanish() -> None:
    problem, H = field(SHAPE, 0.15, 1.5), Denoise(SHAPE)
    known = Measurement(H, problem.sample(1, 7), torch.zeros(1).double())
    t, s = torch.tensor([0.3, 0.2]).double()
    plain, pulled = (
        next(sample_dps(known, problem.denoiser(), torch.stack([t, s, 0 * s]), Silence(1), zeta))  # type: ignore[arg-type]
        for zeta in (0.0, 1e9)
    )
    step = (pulled.x - plain.x).requires_grad_(False)
    residual = known.y - plain.estimate
    x = torch.full((1, *SHAPE), 0.5).double().requires_grad_()
    misfit = (known.y - H(problem.denoiser()(x, t[None]).mean)).norm()
    (gradient,) = torch.autograd.grad(misfit, x)
    torch.testing.assert_close((gradient * step).sum(), -residual.norm())


def test_pictures_do_not_change_each_other(mixture: MixtureProblem) -> None:
    """The published norm, over the batch, would."""
    y = Saturating()(mixture.sample(2, 1)) + torch.tensor([0.0, 3.0]).reshape(2, 1, 1, 1)
    grid = log_sigma_grid(5.0, 0.01, 12)
    both = last(sample_dps(misread(y), mixture.denoiser(), grid, NoiseSource([0, 1]))).x
    for row in range(2):
        known = misread(y[[row]])
        alone = last(sample_dps(known, mixture.denoiser(), grid, NoiseSource([row]))).x
        torch.testing.assert_close(both[[row]], alone, rtol=1e-9, atol=1e-9)


def test_a_curved_measurement_is_explained(mixture: MixtureProblem) -> None:
    """Through the call that users make: it is the default where nothing is linear."""
    H, truth = Saturating(), mixture.sample(6, 3).float()
    y = H(truth) + 0.02 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    assert default_sampler(H) == "dps"
    posterior = restore(y, H, mixture.denoiser(), noise=0.02, samples=8)
    assert posterior.provenance is not None
    assert posterior.provenance.sampler == "dps"
    residual = (H(posterior.samples.flatten(0, 1)) - y.repeat(8, 1, 1, 1)).square().mean().sqrt()
    assert residual < 0.03
    error, prior = ((x - truth).norm() for x in (posterior.mean, mixture.sample(6, 9).float()))
    assert error < 0.3 * prior


@pytest.mark.parametrize("task", tasks())
def test_what_its_samples_are_worth(task: str) -> None:
    """On Gaussian fields: within a deviation of the mean, too sure of it everywhere."""
    case = posed(task)
    samples = drawn("dps", case, 20, 200)
    verdict = judged(moments(samples), case)
    assert verdict.spread < 0.85
    assert verdict.error < 1.1
    assert not verdict.calibrated
    known = case.measurement
    residual = known.operator(samples.reshape(-1, *known.operator.in_shape)) - known.y
    assert residual.square().mean().sqrt() < 1.3 * float(known.noise)


class Watching(Denoiser):
    """Remembers, weakly, what another denoiser answered."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.answers = denoiser, list[weakref.ref[Tensor]]()

    def __call__(self, x: Tensor, sigma: Tensor) -> Denoised:
        denoised = self.denoiser(x, sigma)
        assert denoised.mean.requires_grad
        self.answers.append(weakref.ref(denoised.mean))
        return denoised

    def covariance(self, denoised: Denoised, sigma: Tensor) -> Covariance:
        return self.denoiser.covariance(denoised, sigma)


@pytest.mark.parametrize("grad", [True, False])
def test_no_graph_outlives_its_step(grad: bool, mixture: MixtureProblem) -> None:
    watching, known = Watching(mixture.denoiser()), misread(torch.ones(1, *SHAPE).double())
    with torch.set_grad_enabled(grad):
        states = sample_dps(known, watching, whole_descent(known, 6), NoiseSource([0]))
        kept = [state.x for state in states]
    assert not any(x.requires_grad for x in kept)
    assert len(watching.answers) == 6
    assert [answer() for answer in watching.answers] == [None] * 6


class Detached(Saturating):
    """What knows nothing of gradients."""

    def _apply(self, x: Tensor) -> Tensor:
        return super()._apply(x.detach())


class Stepped(Saturating):
    """What has a gradient, and it is zero."""

    def _apply(self, x: Tensor) -> Tensor:
        return super()._apply(x).mul(8).round() / 8


def test_what_cannot_be_differentiated_is_named(mixture: MixtureProblem) -> None:
    y, denoiser = torch.full((1, *SHAPE), 0.3), mixture.denoiser()
    for H in (Detached(), Stepped()):
        with pytest.raises(InputError, match="operator: no gradient") as caught:
            restore(y, H, denoiser, noise=0.1, samples=1, steps=2)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="covariance='model'"):
        restore(y, Saturating(), denoiser, noise=0.1, samples=1, steps=2, covariance="jacobian")


def test_a_perfect_fit_stays_where_it_is() -> None:
    """Where the norm has no gradient nothing is divided by it."""
    problem = field(SHAPE, 0.15, 1.5)
    grid = torch.tensor([0.2, 0.0]).double()
    middle = torch.full((1, *SHAPE), 0.5).double()
    known = Measurement(Denoise(SHAPE), middle, torch.zeros(1).double())
    (state,) = sample_dps(known, problem.denoiser(), grid, Silence(1))  # type: ignore[arg-type]
    torch.testing.assert_close(state.x, middle)
