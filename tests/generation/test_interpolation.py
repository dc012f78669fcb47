"""Interpolation: only lambda differs between the pictures of a row."""

from __future__ import annotations

import pytest
import torch

from certes.diffusion.solvers.sampling import ReverseChain
from certes.errors import InputError
from certes.generation.interpolation import interpolate

from .laws import MEAN, SHAPE, Recorder, correlated, fits

LAMBDAS = [0.0, 0.25, 0.5, 1.0]
SHARES = torch.tensor(LAMBDAS, dtype=torch.float64).reshape(-1, 1, 1, 1, 1)
PROBLEM = correlated()
FIRST, SECOND = PROBLEM.sample(3, 1), PROBLEM.sample(3, 2)
SOLVERS = pytest.mark.parametrize(
    "solver", ["ancestral", "ddim", "dpm_solver_2m", "dpm_solver_2m_sde", "unipc"]
)
MIXINGS = pytest.mark.parametrize("mixing", ["linear", "variance-preserving"])


@SOLVERS
def test_all_noise_is_shared(solver) -> None:
    """Gaussian chains are affine: with one noise for all lambdas, linear mixing stays linear."""
    chain = ReverseChain(solver, steps=8)
    drawn = interpolate(
        PROBLEM.denoiser(), FIRST, SECOND, LAMBDAS, 0.5, "linear", seed=1, chain=chain
    )
    assert drawn.shape == (4, 3, *SHAPE)
    torch.testing.assert_close(drawn, torch.lerp(drawn[0], drawn[-1], SHARES), rtol=0, atol=1e-12)


def test_linearity_notices_noise_that_is_not_shared() -> None:
    """Negative control: every lambda with a seed of its own."""
    rows = [
        interpolate(PROBLEM.denoiser(), FIRST, SECOND, [share], 0.5, "linear", seed=i)[0]
        for i, share in enumerate(LAMBDAS)
    ]
    drawn = torch.stack(rows)
    assert (drawn - torch.lerp(drawn[0], drawn[-1], SHARES)).abs().max() > 0.01


@MIXINGS
@SOLVERS
def test_the_ends_are_reconstructions(mixing, solver) -> None:
    """They know nothing of the other picture, and have little left to make up at low noise."""
    denoiser, chain = PROBLEM.denoiser(), ReverseChain(solver)
    ends = interpolate(denoiser, FIRST, SECOND, [0, 1], 0.5, mixing, chain=chain)
    others = interpolate(denoiser, FIRST, 1 - SECOND, [0], 0.5, mixing, chain=chain)
    torch.testing.assert_close(ends[0], others[0], rtol=0, atol=1e-12)
    others = interpolate(denoiser, 1 - FIRST, SECOND, [1], 0.5, mixing, chain=chain)
    torch.testing.assert_close(ends[1], others[0], rtol=0, atol=1e-12)
    close = interpolate(denoiser, FIRST, SECOND, [0, 1], 1e-3, mixing, chain=chain)
    torch.testing.assert_close(close, torch.stack([FIRST, SECOND]), rtol=0, atol=8e-3)


def test_no_noise_is_the_blend_of_pixels() -> None:
    denoiser = Recorder(PROBLEM.denoiser())
    drawn = interpolate(denoiser, FIRST, SECOND, LAMBDAS, 0)
    blends = (1 - SHARES) * FIRST + SHARES * SECOND
    torch.testing.assert_close(drawn, blends, rtol=0, atol=1e-15)
    assert denoiser.asked == []


@MIXINGS
def test_the_mean_is_that_of_the_flow_from_the_blend(mixing) -> None:
    r"""Decoding by the ODE shrinks by sqrt(Lambda / (Lambda + sigma^2)) along eigenvectors."""
    count, level = 3000, 0.3
    first, second = (x[:1].expand(count, *SHAPE) for x in (FIRST, SECOND))
    chain = ReverseChain("unipc", steps=60)
    drawn = interpolate(PROBLEM.denoiser(), first, second, LAMBDAS, level, mixing, chain=chain)
    shrink = (PROBLEM.eigenvalues / (PROBLEM.eigenvalues + level**2)).sqrt()
    for share, of_share in zip(LAMBDAS, drawn, strict=True):
        blend = torch.lerp(FIRST[:1], SECOND[:1], share)
        mean = PROBLEM.from_spectrum(PROBLEM.spectrum_of(blend) * shrink)
        kept = (1 - share) ** 2 + share**2 if mixing == "linear" else 1.0
        spread = PROBLEM.eigenvectors * (kept * level**2 * shrink**2) @ PROBLEM.eigenvectors.T
        assert fits(of_share, mean, spread)
        assert not fits(of_share, FIRST[0] if share > 0.5 else SECOND[0], spread)


def latents(mixing, shares: list[float], level: float = 2.0) -> torch.Tensor:
    """The noise in what the denoiser is first asked about, (shares, pairs, 6)."""
    denoiser, count = Recorder(PROBLEM.denoiser()), 4000
    x = MEAN.expand(count, *SHAPE)
    interpolate(denoiser, x, x, shares, level, mixing, chain=ReverseChain("ddim", 1))
    assert denoiser.levels == pytest.approx([level])
    return (denoiser.asked[0] - MEAN).reshape(len(shares), count, 6) / level


def test_the_noise_keeps_its_variance() -> None:
    eye = torch.eye(6, dtype=torch.float64)
    zero = torch.zeros(6, dtype=torch.float64)
    preserving = latents("variance-preserving", LAMBDAS)
    assert all(fits(noise, zero, eye) for noise in preserving)
    halved = latents("linear", [0.5])[0]
    assert fits(halved, zero, eye / 2)
    assert not fits(halved, zero, eye)


def test_the_two_pictures_have_noises_of_their_own() -> None:
    ends = latents("linear", [0, 1])
    correlation = (ends[0] * ends[1]).mean(dim=0)
    assert (correlation.abs() < 5 / 4000**0.5).all()


def test_levels_share_their_noise_too() -> None:
    a, b = latents("linear", LAMBDAS, 0.5), latents("linear", LAMBDAS, 3.0)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@MIXINGS
@pytest.mark.parametrize("solver", ["dpm_solver_2m", "dpm_solver_2m_sde"])
def test_a_picture_does_not_change_with_its_mates(mixing, solver) -> None:
    denoiser, chain = PROBLEM.denoiser(), ReverseChain(solver)
    many = interpolate(denoiser, FIRST, SECOND, LAMBDAS, 0.5, mixing, chain=chain)
    one = interpolate(denoiser, FIRST[:1], SECOND[:1], [0.5], 0.5, mixing, chain=chain)
    torch.testing.assert_close(one[0], many[2, :1], rtol=0, atol=1e-12)
    other = interpolate(denoiser, FIRST, SECOND, LAMBDAS, 0.5, mixing, seed=1, chain=chain)
    assert (other - many).abs().mean() > 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"second": SECOND[..., :2]}, r"first, second: shapes \(3, 1, 2, 3\), \(3, 1, 2, 2\)"),
        ({"first": FIRST[0], "second": SECOND[0]}, r"shape \(B, C, H, W\)"),
        ({"lambdas": []}, "lambdas: "),
        ({"lambdas": [0.5, 1.1]}, "lambdas: "),
        ({"level": -0.1}, "level: -0.1"),
        ({"level": float("nan")}, "level: nan"),
        ({"mixing": "slerp"}, "mixing: 'slerp'; give one of linear, variance-preserving"),
    ],
)
def test_refused(changes, message: str) -> None:
    usual = {"first": FIRST, "second": SECOND, "lambdas": [0.5], "level": 0.5}
    with pytest.raises(InputError, match=message):
        interpolate(PROBLEM.denoiser(), **usual | changes)
