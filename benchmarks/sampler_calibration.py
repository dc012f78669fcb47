r"""Is the sampler itself calibrated? Gaussian pictures, exact denoisers, 20 network calls.

    python benchmarks/sampler_calibration.py

White pictures under inpainting and 4x super-resolution, read coefficient by coefficient (singular
value 1, 1/4, and 0: not seen), and correlated fields. Every posterior is known, so the coverage of
an interval is computed, not counted. Beside the default sampler: DDRM as published, and on the
fields the same sampler with one variance for all directions (:math:`P = v I`, what a singular value
decomposition alone knows) in place of the denoiser's own error covariance.

Units: pictures in [0, 1], noise .05. The widest prior reaches beyond that range; what is judged is
what bounds are made of: samples as they fell, not cut to [0, 1] as pictures of files are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from _report import Report
from jaxtyping import Float
from torch import Tensor

import certes
from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.problems import GaussianProblem
from certes.intervals.quantiles import order_statistic
from certes.restoration.degradations import degrade
from certes.restoration.operators import DecomposedOperator

SIDE, NOISE, STEPS = 16, 0.05, 20
SAMPLES, PICTURES = 1000, 8
SHAPE = (1, SIDE, SIDE)
WINDOW, SPREAD = (0.86, 0.93), 0.1


@dataclass(frozen=True)
class Setting:
    """A problem, a measurement, and which coefficients to read off it."""

    name: str
    problem: GaussianProblem
    operator: DecomposedOperator
    readings: dict[str, Tensor]
    correlated: bool


@dataclass(frozen=True)
class Cell:
    """What a sampler's answers are worth, averaged over coefficients and pictures.

    Args:
        coverage: of the nominal 90 % interval, and its standard error over pictures.
        spread: the samples' deviation over the true one.
        error: of the samples' mean, root mean square, in true deviations; sampling error removed.
    """

    coverage: float
    uncertainty: float
    spread: float
    error: float

    @property
    def calibrated(self) -> bool:
        low, high = WINDOW
        return low <= self.coverage <= high and abs(self.spread - 1) <= SPREAD

    def __str__(self) -> str:
        return f"{self.coverage:.3f} / {self.spread:.2f} / {self.error:.2f}"


@dataclass(frozen=True)
class Row:
    """One reading: the default sampler, DDRM, and (on fields) P = v I."""

    name: str
    ours: Cell
    ddrm: Cell
    plain: Cell | None

    def __str__(self) -> str:
        shown = (self.ours, self.ddrm, self.plain or "")
        columns = "".join(f"{cell!s:>22s}" for cell in shown)
        return f"{self.name:40s} {self.ours.uncertainty:6.3f}{columns}"


class OneVariance(Denoiser):
    """An exact denoiser that knows how large its errors are, but not how they hang together."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        return self.denoiser(x, sigma)

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        diagonal = self.denoiser.covariance(denoised, sigma).diagonal()
        return Multiple(diagonal.mean(dim=(1, 2, 3), keepdim=True).to(denoised.mean))


class Multiple(Covariance):
    """A multiple of the identity."""

    def __init__(self, variance: Float[Tensor, "b 1 1 1"]) -> None:
        self.variance = variance

    def apply(self, v: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.variance * v

    def diagonal(self) -> Float[Tensor, "b 1 1 1"]:
        return self.variance


def white(tau: float) -> GaussianProblem:
    """Every pixel for itself."""
    covariance = tau**2 * torch.eye(SIDE**2, dtype=torch.float64)
    return GaussianProblem(torch.full(SHAPE, 0.5, dtype=torch.float64), covariance)


def field(tau: float, length: float = 2.0) -> GaussianProblem:
    """Squared-exponential covariance."""
    axis = torch.arange(SIDE, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    covariance = torch.exp(-(torch.cdist(points, points) ** 2) / (2 * length**2))
    covariance = tau**2 * (covariance + 1e-6 * torch.eye(SIDE**2))
    return GaussianProblem(torch.full(SHAPE, 0.5, dtype=torch.float64), covariance)


def settings() -> Iterator[Setting]:
    ops = certes.operators
    mask = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(1)) < 0.4
    inpaint, coarse = ops.Inpaint(SHAPE, mask), ops.SuperResolution(SHAPE, 4)
    for tau in (0.025, 0.1, 0.25):
        for H, s in ((inpaint, "1"), (coarse, "1/4")):
            seen = H.spectrum > 0
            readings = {f"s = {s}": seen, f"s = 0 ({H.name})": ~seen}
            yield Setting(f"white, tau {tau}", white(tau), H, readings, correlated=False)
    for H, tau in ((inpaint, 0.15), (coarse, 0.15), (ops.Denoise(SHAPE), 0.05)):
        everything = {H.name: torch.ones(H.n, dtype=torch.bool)}
        yield Setting(f"field, tau {tau}", field(tau), H, everything, correlated=True)


def answers(
    setting: Setting, y: Tensor, denoiser: Denoiser, **options: Any
) -> Float[Tensor, "k b n"]:
    """Samples of the public call."""
    posterior = certes.restore(
        y, setting.operator, denoiser, noise=NOISE, samples=SAMPLES, steps=STEPS, **options
    )
    assert posterior.kept is not None
    return posterior.kept.flatten(2).double()


def cells(setting: Setting, y: Tensor, samples: Float[Tensor, "k b n"]) -> dict[str, Cell]:
    """Compare with the known posterior: white pictures in the singular basis, fields by pixels."""
    H = setting.operator
    mean, covariance = setting.problem.posterior(y.double(), H, NOISE)
    mean = mean.flatten(1)
    if not setting.correlated:
        basis = H.V(torch.eye(H.n, dtype=torch.float64)).flatten(1)
        samples, mean, covariance = samples @ basis.T, mean @ basis.T, basis @ covariance @ basis.T
    std = covariance.diagonal().sqrt()
    return {
        name: judged(samples[..., where], mean[:, where], std[where])
        for name, where in setting.readings.items()
    }


def judged(samples: Tensor, mean: Tensor, std: Tensor) -> Cell:
    """samples (k, b, r), mean (b, r) and std (r,) of the posterior."""
    k = order_statistic(SAMPLES, 0.1)
    edges = (samples.kthvalue(k, dim=0).values, samples.kthvalue(SAMPLES + 1 - k, dim=0).values)
    below, above = (torch.special.ndtr((edge - mean) / std) for edge in edges)
    coverage = (above - below).mean(dim=1)
    spread = samples.std(dim=0) / std
    error = ((samples.mean(dim=0) - mean) / std).square().mean() - spread.square().mean() / SAMPLES
    return Cell(
        float(coverage.mean()),
        float(coverage.std() / PICTURES**0.5),
        float(spread.mean()),
        float(error.clamp(min=0).sqrt()),
    )


def measure(setting: Setting) -> Iterator[Row]:
    """Every reading of one setting."""
    x = setting.problem.sample(PICTURES, seed=7).float()
    y, exact = degrade(x, setting.operator, NOISE, seed=3), setting.problem.denoiser()
    ours = cells(setting, y, answers(setting, y, exact))
    ddrm = cells(setting, y, answers(setting, y, exact, sampler="ddrm", faithful=True))
    plain: dict[str, Cell] = {}
    if setting.correlated:
        plain = cells(setting, y, answers(setting, y, OneVariance(exact)))
    for name in ours:
        title = f"{setting.name}, {name}"
        yield Row(title, ours[name], ddrm[name], plain.get(name))


def main() -> None:
    print(f"{SAMPLES} samples of {PICTURES} pictures; 90 % coverage / std / error of the mean")
    heads = ("certes", "DDRM", "P = v I")
    print(f"{'':40s} {'+-':>6s}" + "".join(f"{head:>22s}" for head in heads))
    rows: list[Row] = []
    for setting in settings():
        for row in measure(setting):
            rows.append(row)
            print(row, flush=True)
    report, (low, high) = Report("sampler_calibration"), WINDOW
    for row in rows:
        beside = f"DDRM: {row.ddrm}" + (f"; P = v I: {row.plain}" if row.plain else "")
        report.claim(
            f"{row.name}: 90 % coverage / std / error of the mean, in true deviations ({beside})",
            str(row.ours),
            f"coverage {low} to {high}, std within {SPREAD:.0%}",
            row.ours.calibrated,
        )
    fooled = sum(row.ddrm.calibrated for row in rows)
    report.claim(
        "control: cells in which DDRM is within that target",
        fooled,
        f"0 of {len(rows)}",
        fooled == 0,
    )
    inpainting = next(row.plain for row in rows if row.plain)
    report.claim(
        "control: P = v I instead of the error covariance, inpainting of the field",
        str(inpainting),
        "outside that target",
        not inpainting.calibrated,
    )
    report.save()


if __name__ == "__main__":
    main()
