"""What every sampler of the table keeps: one call a step, its rows apart, the precision given."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.noise import NoiseSource
from certes.diffusion.problems import MixtureProblem
from certes.restoration import restore
from certes.restoration.measurement import Measurement
from certes.restoration.operators import Blur, DecomposedOperator, Inpaint
from certes.restoration.samplers import SAMPLERS, default_sampler

from ..laws import field, last

SHAPE = (1, 4, 6)
MASK = torch.rand(4, 6, generator=torch.Generator().manual_seed(1)) < 0.5
KERNEL = torch.tensor([1.0, 2.0, 1.0]).double() / 4
OPERATORS = {"inpaint": Inpaint(SHAPE, MASK), "deblur": Blur(SHAPE, KERNEL, "reflect")}
NAMES = [name for name in SAMPLERS if isinstance(OPERATORS["inpaint"], SAMPLERS[name].takes)]
every_sampler = pytest.mark.parametrize("name", NAMES)
every_operator = pytest.mark.parametrize("task", OPERATORS)


@pytest.fixture(scope="module")
def mixture() -> MixtureProblem:
    """Pictures whose error covariance differs from one to the next."""
    means = torch.stack([torch.full(SHAPE, 0.35), torch.full(SHAPE, 0.65)]).double()
    parts = [field(SHAPE, tau, length).covariance for tau, length in ((0.06, 2.0), (0.1, 1.0))]
    return MixtureProblem(torch.tensor([0.5, 0.5]), means, torch.stack(parts))


class Recording(Denoiser):
    """Remembers what another denoiser is asked."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.asked = denoiser, list[Tensor]()

    def __call__(self, x: Tensor, sigma: Tensor) -> Denoised:
        self.asked.append(x)
        return self.denoiser(x, sigma)

    def covariance(self, denoised: Denoised, sigma: Tensor) -> Covariance:
        return self.denoiser.covariance(denoised, sigma)


def measured(H: DecomposedOperator, mixture: MixtureProblem, *levels: float) -> Measurement:
    noise = torch.tensor(levels, dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    e = torch.randn(len(levels), *H.out_shape, generator=generator, dtype=torch.float64)
    y = H(mixture.sample(len(levels), 5)) + noise[:, None, None, None] * e
    return Measurement(H, H.observed(y), noise)


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_network_call_for_each_step(
    name: str, dtype: torch.dtype, mixture: MixtureProblem
) -> None:
    method, known = SAMPLERS[name], measured(OPERATORS["inpaint"], mixture, 0.05, 0.05)
    known = replace(known, y=known.y.to(dtype), noise=known.noise.to(dtype))
    levels, denoiser = method.grid(method.view(known), 7), Recording(mixture.denoiser())
    view = method.view(known.repeat(3))
    states = list(method.draw(view, denoiser, levels, NoiseSource(range(6))))
    assert len(levels) == 8
    assert [x.shape for x in denoiser.asked] == [(6, *SHAPE)] * 7
    assert [state.t for state in states] == levels[1:].tolist()
    assert states[-1].t == 0
    for state in states:
        assert type(state.t) is float
        assert state.x.shape == state.estimate.shape == (6, *SHAPE)
        assert state.x.dtype == state.estimate.dtype == dtype
        assert bool(state.x.isfinite().all())
        assert not state.x.requires_grad
        assert not state.estimate.requires_grad


@every_sampler
@every_operator
def test_a_picture_does_not_depend_on_its_batch_mates(
    name: str, task: str, mixture: MixtureProblem
) -> None:
    """Nor on their noise, none included, on one grid; each with three copies."""
    known = measured(OPERATORS[task], mixture, 0.0, 0.01, 0.1, 0.3)
    method, denoiser = SAMPLERS[name], mixture.denoiser()
    levels = method.grid(method.view(known), 8)
    # Long runs of conjugate gradients enlarge rounding errors.
    accuracy = 1e-4 if name in ("conditional", "diffpir") else 1e-9

    def answers(rows: list[int]) -> Tensor:
        part = replace(known, y=known.y[rows], noise=known.noise[rows]).repeat(3)
        noise = NoiseSource([10 * copy + row for copy in range(3) for row in rows])
        return last(method.draw(method.view(part), denoiser, levels, noise)).x.unflatten(0, (3, -1))

    together = answers([0, 1, 2, 3])
    for row in range(4):
        torch.testing.assert_close(together[:, [row]], answers([row]), rtol=0, atol=accuracy)
    assert float((together[0] - together[1]).abs().max()) > 1e-3


@every_sampler
def test_single_precision_is_enough(name: str, mixture: MixtureProblem) -> None:
    """The same noise in either precision: the same answer to a tenth of a grey level."""
    method, denoiser = SAMPLERS[name], mixture.denoiser()
    known = measured(OPERATORS["deblur"], mixture, 0.05)
    levels = method.grid(method.view(known), 10)

    class Rounded(NoiseSource):
        def normal(self, shape: object, dtype: torch.dtype = torch.float32) -> Tensor:
            return super().normal(shape, torch.float64).to(dtype)  # type: ignore[arg-type]

    one, other = (
        last(method.draw(method.view(part), denoiser, levels, Rounded([0]))).x
        for part in (known, replace(known, y=known.y.float(), noise=known.noise.float()))
    )
    torch.testing.assert_close(one, other.double(), rtol=0, atol=4e-4)


@every_sampler
def test_the_users_call_takes_it(name: str, mixture: MixtureProblem) -> None:
    known = measured(OPERATORS["inpaint"], mixture, 0.05, 0.05)
    y, options = known.y.float(), {"noise": 0.05, "samples": 4, "steps": 5, "sampler": name}
    posterior = restore(y, known.operator, mixture.denoiser(), **options)
    assert posterior.samples.shape == (4, 2, *SHAPE)
    assert posterior.provenance is not None
    assert posterior.provenance.sampler == name
    for size in (1, 3):
        again = restore(y, known.operator, mixture.denoiser(), batch_size=size, **options)
        torch.testing.assert_close(again.samples, posterior.samples, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "dps"])  # it asks for no noise
def test_every_value_may_have_its_own_noise(name: str, mixture: MixtureProblem) -> None:
    """Where values are coefficients: the noisier half is believed less."""
    H, truth = OPERATORS["inpaint"], mixture.sample(1, 5).float()
    noise = torch.where(torch.arange(6) < 3, 0.001, 0.2).expand(1, *SHAPE)
    e = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(2))
    y = H.observed(H(truth) + noise * e)
    samples = restore(y, H, mixture.denoiser(), noise=noise, samples=6, sampler=name).samples
    misfit = (H(samples[:, 0]) - y).abs().mean((0, 1, 2))
    assert bool(samples.isfinite().all())
    assert misfit[:3].mean() < 0.5 * misfit[3:].mean()


def test_the_default_is_the_calibrated_one_of_the_kind() -> None:
    assert default_sampler(OPERATORS["deblur"]) == "pinned"
