# ruff: noqa: E402
r"""Do certes and deepinv understand each other? Physics, denoisers and reconstructions both ways.

    python benchmarks/interoperation.py

- Operators of certes as physics of deepinv: its own test of adjoints, its own DDRM on them.
- Physics of deepinv in :func:`certes.restore`, on correlated Gaussian fields (16x16, exact
  denoiser, noise .05, 20 network calls): PSNR of the posterior mean beside that of the physics' own
  ``A_dagger`` and of the exact posterior mean, and the coverage of 90 % intervals.
- The bundled model on the bundled pictures (middle 64x64), through deepinv's own ``test``.
"""

from __future__ import annotations

from _peers import enter

enter()

from dataclasses import dataclass
from typing import Any

import deepinv as dinv
import torch
from _report import Report
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import certes
from certes import operators as ops
from certes.data.bundled import bundled_pictures
from certes.diffusion.problems import GaussianProblem
from certes.restoration.deepinv import (
    CertesReconstructor,
    as_denoiser,
    as_physics,
    from_deepinv,
)

SIDE, NOISE, STEPS, SAMPLES, PICTURES = 16, 0.05, 20, 64, 16
SHAPE = (1, SIDE, SIDE)
TAU, LENGTH = 0.15, 2.0
ROUNDING = 1e-5
CLOSE = 0.25  # dB below the exact posterior mean
WINDOW = (0.87, 0.93)


def field(shape: tuple[int, int, int]) -> GaussianProblem:
    """Squared-exponential covariance, channels independent."""
    axis = torch.arange(SIDE, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    plane = torch.exp(-(torch.cdist(points, points) ** 2) / (2 * LENGTH**2))
    plane = TAU**2 * (plane + 1e-6 * torch.eye(len(plane)))
    covariance = torch.block_diag(*[plane] * shape[0])
    return GaussianProblem(torch.full(shape, 0.5, dtype=torch.float64), covariance)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maps(coils: int) -> Tensor:
    """Smooth complex sensitivities, of unit length at every pixel."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, SIDE)] * 2, indexing="ij")
    turns = [2 * torch.pi * k / coils for k in range(coils)]
    sides = torch.tensor([[torch.tensor(t).cos(), torch.tensor(t).sin()] for t in turns])
    size = torch.exp(-((y - sides[:, :1, None]) ** 2 + (x - sides[:, 1:, None]) ** 2) / 2)
    phase = torch.stack([(torch.tensor(t) + y + x) for t in turns])
    maps = torch.polar(size, phase)
    return maps / maps.abs().square().sum(0).sqrt()


def operators() -> dict[str, ops.LinearOperator]:
    """One of many kinds, with a decomposition and without."""
    mask = ops.random_mask(SIDE, SIDE, 0.5, seed=0)
    lines = ops.cartesian_mask(SIDE, SIDE, 0.5, 0.1, seed=0)
    kernels = torch.rand(2, 2, 5, 5, generator=generator())
    kernels = kernels / kernels.sum((2, 3), keepdim=True)
    return {
        "Inpaint": ops.Inpaint(SHAPE, mask),
        "SuperResolution": ops.SuperResolution(SHAPE, 2, "bicubic"),
        "Blur": ops.Blur(SHAPE, ops.gaussian_kernel(1.0)),
        "CompressedSensing": ops.CompressedSensing(SHAPE, 0.5),
        "SubsampledFourier": ops.SubsampledFourier(SHAPE, lines),
        "ValidBlur": ops.ValidBlur(SHAPE, kernels[0, 0]),
        "VaryingBlur": ops.VaryingBlur(SHAPE, kernels),
        "Tomography": ops.Tomography(SHAPE, torch.linspace(0, 180, 13)[:-1]),
        "MultiCoilMRI": ops.MultiCoilMRI(SHAPE, lines, maps(4)),
    }


def round_trips(report: Report) -> None:
    """Every operator as a physics, and taken back."""
    x = torch.rand(1, *SHAPE, generator=generator())
    for name, H in operators().items():
        physics = as_physics(H, NOISE)
        torch.manual_seed(0)
        error = float(physics.adjointness_test(x, num_samples=100))
        back = from_deepinv(physics, SHAPE) is H
        report.claim(
            f"{name} as {type(physics).__name__}: error of the adjoint by deepinv's own test",
            f"{error:.1g}", f"under {ROUNDING}", error < ROUNDING and back,
        )  # fmt: skip


def ddrm(report: Report) -> None:
    """deepinv's DDRM on the same measurement, its own physics and ours."""
    problem, mask = field(SHAPE), ops.random_mask(SIDE, SIDE, 0.5, seed=0)
    x = problem.sample(PICTURES, 1).float()
    sampler = dinv.sampling.DDRM(as_denoiser(problem.denoiser()), torch.linspace(1, 0, STEPS))
    theirs = dinv.physics.Inpainting(SHAPE, mask[None].float())
    theirs.noise_model = dinv.physics.GaussianNoise(NOISE)
    torch.manual_seed(0)
    y = theirs(x)
    answers = [sampler(y, p, seed=1) for p in (theirs, as_physics(ops.Inpaint(SHAPE, mask), NOISE))]
    difference = float((answers[0] - answers[1]).abs().max())
    report.claim(
        "deepinv's DDRM with our denoiser, inpainting, same seed: largest difference between its "
        "answers on our physics and on its own",
        f"{difference:.1g}", f"under {ROUNDING}", difference < ROUNDING,
    )  # fmt: skip


def psnr(answer: Tensor, truth: Tensor) -> float:
    """Of a whole batch, peak 1."""
    return float(-10 * (answer - truth).square().mean().log10())


@dataclass(frozen=True)
class Case:
    """A physics of deepinv and the shape of its pictures."""

    name: str
    physics: Any
    shape: tuple[int, int, int]


def cases() -> list[Case]:
    """Its own classes, as its users make them."""
    mask = ops.random_mask(SIDE, SIDE, 0.5, seed=0).float()
    lines = ops.cartesian_mask(SIDE, SIDE, 0.5, 0.1, seed=0).float()
    motion = (torch.eye(5) / 5)[None, None]
    return [
        Case("Inpainting", dinv.physics.Inpainting(SHAPE, mask[None]), SHAPE),
        Case("BlurFFT", dinv.physics.BlurFFT(SHAPE, motion), SHAPE),
        Case("Tomography", dinv.physics.Tomography(12, SIDE, normalize=True), SHAPE),
        Case("MultiCoilMRI", dinv.physics.MultiCoilMRI(lines, maps(4)), (2, SIDE, SIDE)),
    ]


def coverage(posterior: certes.Posterior, mean: Tensor, deviation: Tensor) -> float:
    """Of mean -+ 1.645 standard deviations, under the exact posterior, averaged over pixels."""
    low, high = (posterior.mean + side * 1.6449 * posterior.std for side in (-1, 1))
    inside = [torch.special.ndtr((end - mean) / deviation) for end in (low, high)]
    return float((inside[1] - inside[0]).mean())


def restorations(report: Report) -> None:
    """Physics of deepinv in certes.restore."""
    for case in cases():
        problem = field(case.shape)
        x = problem.sample(PICTURES, 1).float()
        case.physics.noise_model = dinv.physics.GaussianNoise(NOISE)
        torch.manual_seed(0)
        y = case.physics(x)
        posterior = certes.restore(
            y, case.physics, problem.denoiser(), noise=NOISE, samples=SAMPLES, steps=STEPS
        )
        judge(report, case, problem, x, y, posterior)


def judge(
    report: Report,
    case: Case,
    problem: GaussianProblem,
    x: Float[Tensor, "b c h w"],
    y: Float[Tensor, "b ..."],
    posterior: certes.Posterior,
) -> None:
    """Two claims about one physics."""
    mean, covariance = problem.posterior(y, from_deepinv(case.physics, case.shape), NOISE)
    deviation = covariance.diagonal().sqrt().reshape(case.shape)
    ours, best = psnr(posterior.mean, x), psnr(mean, x)
    theirs = psnr(case.physics.A_dagger(y), x)
    report.claim(
        f"restore with deepinv's {case.name}: PSNR, dB (its A_dagger {theirs:.2f}, the exact "
        f"posterior mean {best:.2f})",
        round(ours, 2), f"over A_dagger, within {CLOSE} of exact",
        ours > theirs and ours > best - CLOSE,
    )  # fmt: skip
    covered = coverage(posterior, mean, deviation)
    report.claim(
        f"restore with deepinv's {case.name}: coverage of 90 % intervals",
        round(covered, 3), f"{WINDOW[0]} to {WINDOW[1]}", WINDOW[0] < covered < WINDOW[1],
    )  # fmt: skip


def reconstructions(report: Report) -> None:
    """The bundled model on real pictures, everything but the model deepinv's."""
    pictures = [
        torch.as_tensor(picture.pixels)[:, 96:160, 96:160] for picture in bundled_pictures()
    ]
    x = torch.stack(pictures).float()
    physics = dinv.physics.Inpainting(
        (1, 64, 64), ops.random_mask(64, 64, 0.6, seed=0)[None].float()
    )
    physics.noise_model = dinv.physics.GaussianNoise(NOISE)
    torch.manual_seed(0)
    y = physics(x)
    loader = DataLoader(TensorDataset(x, y), batch_size=len(x))
    models = {
        "certes": CertesReconstructor("nuclei", samples=8, steps=STEPS),
        "DDRM": dinv.sampling.DDRM(as_denoiser("nuclei"), torch.linspace(1, 0, 100)),
    }
    scores = {
        name: dinv.test(
            model, loader, physics, metrics=dinv.metric.PSNR(), no_learning_method="A_dagger",
            verbose=False, show_progress_bar=False,
        )
        for name, model in models.items()
    }  # fmt: skip
    ours, theirs = (scores[name]["PSNR"] for name in models)
    plain = scores["certes"]["PSNR no learning"]
    report.claim(
        f"CertesReconstructor in deepinv's test, nuclei with 60 % of pixels missing: PSNR, dB "
        f"(A_dagger {plain:.2f}, deepinv's DDRM with the same network and 100 calls {theirs:.2f})",
        round(ours, 2), "over both", ours > max(plain, theirs),
    )  # fmt: skip


def main() -> None:
    report = Report("interoperation")
    round_trips(report)
    ddrm(report)
    restorations(report)
    reconstructions(report)
    report.save()


if __name__ == "__main__":
    main()
