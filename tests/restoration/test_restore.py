"""The call that users make: shapes, reproducibility, batching, streaming, and bad input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.problems import GaussianProblem, MixtureProblem
from certes.diffusion.solvers.state import State
from certes.errors import CertesError, InputError
from certes.intervals.posterior import Posterior
from certes.intervals.quantiles import corrected_probabilities, nominal_coverage
from certes.restoration import restore
from certes.restoration.operators import Blur, DecomposedOperator, Denoise, Inpaint, SuperResolution
from certes.restoration.operators.kernels import gaussian_kernel
from certes.restoration.request import operator_label

from .laws import field

SHAPE = (2, 6, 8)
NOISE = 0.05
# One batch size or another: the same numbers up to rounding in single precision.
ROUNDING = {"rtol": 0.0, "atol": 2e-5}


@pytest.fixture(scope="module")
def problem() -> GaussianProblem:
    return field(SHAPE, 0.1, 1.5)


def operators() -> list[DecomposedOperator]:
    mask = torch.rand(6, 8, generator=torch.Generator().manual_seed(1)) < 0.4
    blur = Blur(SHAPE, gaussian_kernel(0.8), "reflect")
    return [Denoise(SHAPE), Inpaint(SHAPE, mask), SuperResolution(SHAPE, 2), blur]


def measured(
    problem: GaussianProblem, H: DecomposedOperator, count: int = 3
) -> tuple[Tensor, Tensor]:
    x = problem.sample(count, 5).float()
    e = torch.randn(count, *H.out_shape, generator=torch.Generator().manual_seed(2))
    return x, H(x) + NOISE * e


def inpainting() -> DecomposedOperator:
    return operators()[1]


@pytest.mark.parametrize("H", operators(), ids=lambda H: H.name)
@pytest.mark.parametrize(
    "options", [{}, {"sampler": "ddrm"}, {"sampler": "ddrm", "faithful": True}]
)
def test_the_contract(problem: GaussianProblem, H: DecomposedOperator, options: dict) -> None:
    x, y = measured(problem, H)
    before = y.clone()
    posterior = restore(y, H, problem.denoiser(), noise=NOISE, samples=5, steps=6, **options)
    assert isinstance(posterior, Posterior)
    assert posterior.samples.shape == (5, *x.shape)
    assert posterior.count == 5
    for value in (posterior.samples, posterior.mean, posterior.std, posterior.estimate):
        assert value.dtype == torch.float32
        assert value.shape[-4:] == x.shape
        assert 0 <= float(value.min()) <= float(value.max()) <= 1
    torch.testing.assert_close(posterior.mean, posterior.samples.mean(0))
    torch.testing.assert_close(posterior.std, posterior.samples.std(0))
    assert float(posterior.std.min()) > 0
    bounds = posterior.bounds(alpha=0.1)
    assert bool((bounds.lower <= bounds.estimate).all())
    assert bool((bounds.estimate <= bounds.upper).all())
    assert torch.equal(y, before)


def test_answers_are_posterior_means_and_spreads(problem: GaussianProblem) -> None:
    """Through the public call: the exact mean and deviation, and a truth that is covered."""
    for H in operators():
        x, y = measured(problem, H, count=6)
        mean, covariance = problem.posterior(y, H, NOISE)
        std = covariance.diagonal().sqrt().reshape(SHAPE)
        posterior = restore(y, H, problem.denoiser(), noise=NOISE, samples=64)
        error = ((posterior.mean - mean) / std).square().mean().sqrt()
        assert error < 2 / 64**0.5  # 1 / sqrt(K) is sampling, the rest the clamp to [0, 1]
        assert float((posterior.std / std).mean()) == pytest.approx(1, abs=0.06)
        # The estimate serves people who want one picture: no worse than the mean of the samples.
        loss, plain = (
            (posterior.estimate - x).square().mean(),
            (posterior.mean - x).square().mean(),
        )
        assert loss < 1.05 * plain
        covered = posterior.bounds(0.1).contains(x).double().mean()
        assert float(covered) == pytest.approx(nominal_coverage(64, 0.1), abs=0.06)


def test_the_same_seed_gives_the_same_samples_and_leaves_others_alone(
    problem: GaussianProblem,
) -> None:
    H = inpainting()
    _, y = measured(problem, H)

    def samples(seed: int) -> Tensor:
        return restore(y, H, problem.denoiser(), noise=NOISE, samples=3, steps=5, seed=seed).samples

    state = torch.get_rng_state()
    first = samples(4)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(samples(4), first)
    assert float((samples(5) - first).abs().mean()) > 0.01
    assert float((first[0] - first[1]).abs().mean()) > 0.01


@pytest.fixture(scope="module")
def mixture() -> MixtureProblem:
    """Pictures whose error covariance differs from one picture to the next."""
    means = torch.stack([torch.full(SHAPE, 0.35), torch.full(SHAPE, 0.65)]).double()
    parts = [field(SHAPE, tau, length).covariance for tau, length in ((0.06, 2.0), (0.1, 1.0))]
    return MixtureProblem(torch.tensor([0.5, 0.5]), means, torch.stack(parts))


@pytest.mark.parametrize("sampler", ["pinned", "ddrm"])
def test_a_sample_does_not_depend_on_its_batch(sampler: str, mixture: MixtureProblem) -> None:
    """Nor on the order, nor on the network's batch size."""
    H, denoiser = inpainting(), mixture.denoiser()
    y = H(mixture.sample(4, 1).float())
    options = {"noise": NOISE, "samples": 3, "steps": 5, "sampler": sampler}
    together = restore(y, H, denoiser, **options).samples
    for size in (1, 2, 3, 5, 100):
        chunked = restore(y, H, denoiser, batch_size=size, **options)
        torch.testing.assert_close(chunked.samples, together, **ROUNDING)
    alone = restore(y[2:3], H, denoiser, **options).samples
    torch.testing.assert_close(alone, together[:, 2:3], **ROUNDING)
    turned = restore(y.flip(0), H, denoiser, **options).samples
    torch.testing.assert_close(turned.flip(1), together, **ROUNDING)


def test_more_samples_begin_with_the_same_ones(problem: GaussianProblem) -> None:
    H = inpainting()
    _, y = measured(problem, H)
    few, many = (
        restore(y, H, problem.denoiser(), noise=NOISE, samples=count, steps=5).samples
        for count in (2, 4)
    )
    torch.testing.assert_close(many[:2], few, **ROUNDING)


def test_every_picture_may_have_its_own_noise(problem: GaussianProblem) -> None:
    """Neighbours of equal noise share a batch; each picture comes out as it would alone."""
    H, levels = Denoise(SHAPE), torch.tensor([0.02, 0.02, 0.2, 0.0, 0.02])
    x, e = problem.sample(5, 5).float(), torch.randn(5, *SHAPE)
    y = x + levels.reshape(-1, 1, 1, 1) * e
    options = {"samples": 8, "steps": 8}
    sizes: list[int] = []
    together = restore(
        y,
        H,
        problem.denoiser(),
        noise=levels,
        callback=lambda state: sizes.append(len(state.x)),
        **options,
    )
    for i, level in enumerate(levels.tolist()):
        alone = restore(y[i : i + 1], H, problem.denoiser(), noise=level, **options)
        torch.testing.assert_close(together.samples[:, i : i + 1], alone.samples, **ROUNDING)
    assert sizes == [16] * 8 + [8] * 24
    spread = together.std.mean(dim=(1, 2, 3))
    assert spread[3] < spread[0] < spread[2]


def test_a_measurement_given_twice_gets_other_samples(problem: GaussianProblem) -> None:
    H = inpainting()
    _, y = measured(problem, H, count=2)
    options = {"noise": NOISE, "samples": 3, "steps": 5}
    once = restore(y, H, problem.denoiser(), **options).samples
    twice = restore(y.repeat(2, 1, 1, 1), H, problem.denoiser(), **options).samples
    torch.testing.assert_close(twice[:, :2], once, **ROUNDING)
    assert float((twice[:, 2:] - twice[:, :2]).abs().mean()) > 0.01


def test_what_stands_in_holes_does_not_matter(problem: GaussianProblem) -> None:
    H = inpainting()
    _, y = measured(problem, H)
    options = {"noise": NOISE, "samples": 2, "steps": 4}
    known = restore(H.observed(y), H, problem.denoiser(), **options).samples
    filled = torch.where(H.singular_values.reshape(SHAPE) > 0, y, torch.nan)
    assert torch.equal(restore(filled, H, problem.denoiser(), **options).samples, known)


@pytest.mark.parametrize("count", [3, 24])
def test_streamed_statistics_are_those_of_the_samples(problem: GaussianProblem, count: int) -> None:
    H = inpainting()
    _, y = measured(problem, H)
    options = {"noise": NOISE, "samples": count, "steps": 4, "batch_size": 7, "alpha": 0.2}
    kept = restore(y, H, problem.denoiser(), **options)
    streamed = restore(y, H, problem.denoiser(), keep_samples=False, **options)
    for name in ("estimate", "mean", "std"):
        torch.testing.assert_close(getattr(streamed, name), getattr(kept, name), **ROUNDING)
    ours, theirs = streamed.bounds(0.2), kept.bounds(0.2)
    torch.testing.assert_close(ours.lower, theirs.lower, **ROUNDING)
    torch.testing.assert_close(ours.upper, theirs.upper, **ROUNDING)
    assert streamed.kept is None
    assert set(streamed.quantiles) == set(corrected_probabilities(count, 0.2))
    with pytest.raises(InputError, match="keep_samples=True"):
        _ = streamed.samples


def test_the_callback_sees_every_network_call(problem: GaussianProblem) -> None:
    H = inpainting()
    _, y = measured(problem, H)
    states: list[State] = []
    options = {"noise": NOISE, "samples": 5, "steps": 4, "batch_size": 6}
    restore(y, H, problem.denoiser(), callback=states.append, **options)
    # Three pictures: two samples of each at a time, then the fifth.
    assert [len(state.x) for state in states] == [6] * 8 + [3] * 4
    assert [state.t == 0 for state in states] == [False, False, False, True] * 3


@pytest.mark.parametrize(
    ("options", "calls", "label"),
    [
        ({"steps": 7}, 7, "pinned"),
        ({"steps": 7, "sampler": "ddrm"}, 7, "ddrm"),
        ({"steps": 7, "sampler": "ddrm", "faithful": True}, 8, "ddrm-faithful"),
    ],
)
def test_the_posterior_says_what_made_it(
    problem: GaussianProblem, options: dict, calls: int, label: str
) -> None:
    H = inpainting()
    _, y = measured(problem, H)
    posterior = restore(y, H, problem.denoiser(), noise=NOISE, samples=2, **options)
    made = posterior.provenance
    assert posterior.nfe == calls
    assert made is not None
    assert (made.model, made.sampler, made.steps, made.samples) == (
        "GaussianDenoiser",
        label,
        calls,
        2,
    )
    assert made.operator == operator_label(H)
    assert made.noise == NOISE
    bounds = posterior.bounds(0.3)
    assert bounds.provenance is not None
    assert bounds.provenance.alpha == 0.3
    mixed = restore(
        y, H, problem.denoiser(), noise=torch.tensor([0.1, 0.2, 0.1]), samples=1, steps=2
    )
    assert mixed.provenance is not None
    assert mixed.provenance.noise is None


def test_the_label_of_an_operator_knows_no_picture_size() -> None:
    assert operator_label(Denoise(SHAPE)) == operator_label(Denoise((1, 9, 9))) == "denoise"
    small, large = SuperResolution(SHAPE, 2), SuperResolution((1, 16, 16), 2)
    assert operator_label(small) == operator_label(large)
    assert operator_label(small) != operator_label(SuperResolution((1, 16, 16), 4))
    masks = (torch.arange(1000).reshape(1, 1, -1) < known for known in (501, 499, 450))
    half, about_half, less = (operator_label(Inpaint((1, 1, 1000), mask)) for mask in masks)
    assert half == about_half != less


class Inflated(Denoiser):
    """An exact denoiser that claims its samples to be too narrow."""

    def __init__(self, denoiser: Denoiser, inflation: float) -> None:
        self.denoiser, self.inflation = denoiser, inflation

    def __call__(self, x: Tensor, sigma: Tensor) -> Denoised:
        return self.denoiser(x, sigma)

    def covariance(self, denoised: Denoised, sigma: Tensor) -> Covariance:
        return self.denoiser.covariance(denoised, sigma)


@pytest.mark.parametrize("keep", [True, False])
def test_known_inflation_widens_the_samples_but_not_those_of_ddrm(
    problem: GaussianProblem, keep: bool
) -> None:
    H = inpainting()
    _, y = measured(problem, H)
    options = {"noise": NOISE, "samples": 6, "steps": 5, "keep_samples": keep}
    wide, denoiser = Inflated(problem.denoiser(), 1.2), problem.denoiser()
    plain, inflated = (restore(y, H, model, **options) for model in (denoiser, wide))
    torch.testing.assert_close(inflated.mean, plain.mean, **ROUNDING)
    torch.testing.assert_close(inflated.estimate, plain.estimate, **ROUNDING)
    torch.testing.assert_close(inflated.std, 1.2 * plain.std, **ROUNDING)
    narrow, wider = (posterior.bounds().lower for posterior in (plain, inflated))
    expected = plain.mean + 1.2 * (narrow - plain.mean)
    torch.testing.assert_close(wider, expected.minimum(inflated.estimate), **ROUNDING)
    one, other = (restore(y, H, model, sampler="ddrm", **options) for model in (denoiser, wide))
    assert torch.equal(one.std, other.std)


def test_any_precision_is_taken(problem: GaussianProblem) -> None:
    H = Denoise(SHAPE)
    _, y = measured(problem, H)
    mean, _ = problem.posterior(y, H, NOISE)
    posterior = restore(y.double(), H, problem.denoiser(), noise=NOISE, samples=40, steps=10)
    assert posterior.samples.dtype == torch.float32
    assert (posterior.mean - mean).abs().mean() < 0.01


BAD = {
    "an unknown sampler": ({"sampler": "none"}, "sampler: 'none'; give one of pinned"),
    "a faithful pinned one": ({"faithful": True}, "faithful"),
    "no samples": ({"samples": 0}, "samples"),
    "no steps": ({"steps": 0}, "steps"),
    "an empty batch size": ({"batch_size": 0}, "batch_size"),
    "too many official steps": ({"sampler": "ddrm", "faithful": True, "steps": 1001}, "steps"),
    "negative noise": ({"noise": -0.1}, "noise: -0.1; give"),
    "noise that is no number": ({"noise": float("nan")}, "noise"),
    "noise for other pictures": ({"noise": torch.full((2,), 0.1)}, "noise"),
    "noise for every pixel": ({"noise": torch.full((3, 1, 1, 1), 0.1)}, "noise"),
    "an impossible alpha": ({"alpha": 1.5}, "alpha"),
    "holes without a mask": ({"y": torch.full((3, *SHAPE), torch.nan)}, "not finite"),
    "nothing": ({"y": torch.zeros(0, *SHAPE)}, "y: empty"),
    "one picture, no batch": ({"y": torch.zeros(SHAPE)}, "y has shape"),
    "pictures of another size": ({"y": torch.zeros(3, 2, 8, 6)}, "y has shape"),
    "integers": ({"y": torch.zeros(3, *SHAPE, dtype=torch.uint8)}, "uint8"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case: str, problem: GaussianProblem) -> None:
    changed, message = BAD[case]
    arguments = {"y": torch.zeros(3, *SHAPE), "noise": NOISE, "samples": 2, "steps": 2, **changed}
    with pytest.raises(InputError, match=message) as caught:
        restore(operator=Denoise(SHAPE), model=problem.denoiser(), **arguments)
    assert "\n" not in str(caught.value)


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(CertesError, match="no-such-model"):
        restore(torch.zeros(1, *SHAPE), Denoise(SHAPE), "no-such-model", noise=0.1)
