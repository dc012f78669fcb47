# ruff: noqa: E402
r"""Whose samples are posterior samples? certes, deepinv and azula where the posterior is known.

    python benchmarks/posterior_exactness.py

Two problems of 16x16 pictures with exact denoisers: a correlated Gaussian field, and a mixture of
three such fields that differ by stripes which the measurement shows badly or not at all, so that
posteriors have several modes. Three tasks (inpainting with 40 % known, 8x super-resolution,
circular Gaussian blur), noise .05, 20 network calls for everyone. Judged by

- the sliced Wasserstein-2 distance to the exact posterior (root mean square over fixed random
  directions and measurements; the posterior is 20 K of its samples), over that of K exact samples:
  1 is as good as K samples get;
- the coverage of the nominal 90 % interval of every pixel, computed from the known distribution;
- the samples' standard deviation over the true one.

Every sampler has the same exact denoiser. Some differentiate it, which costs as many calls again:
certes with the Jacobian, and DPS, PiGDM and moment matching of the peers. How deepinv and azula are
run is said in ``_deepinv.py`` and ``_azula.py``.
"""

from __future__ import annotations

from _peers import enter

enter()

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter

import _azula
import _deepinv
import torch
from _report import Report
from jaxtyping import Float
from sampler_calibration import field
from torch import Tensor

import certes
from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.problems import GaussianProblem, MixturePosterior, MixtureProblem
from certes.intervals.quantiles import order_statistic
from certes.restoration.degradations import degrade
from certes.restoration.operators import DecomposedOperator
from certes.restoration.samplers import SAMPLERS

SIDE, NOISE, STEPS = 16, 0.05, 20
SHAPE = (1, SIDE, SIDE)
SAMPLES, PICTURES, DIRECTIONS = 239, 6, 128  # of 240 ranks 24 are a tenth
FINER, REPEATS = 20, 8  # exact samples of the reference for one of K; sets of K exact ones
DEFAULT, EXACT = "certes", "exact samples"
WINDOW = (0.88, 0.92)

Draw = Callable[[Tensor, DecomposedOperator, Denoiser], Float[Tensor, "k b c h w"]]


class OneLevel(Denoiser):
    """An exact denoiser whose batch shares one noise level, so that its covariance is one too.

    The same answers; the matrices of :mod:`certes.diffusion.problems` are used once for all.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        denoised = self.denoiser(x, sigma[:1])
        assert denoised.variance is not None
        return replace(denoised, variance=denoised.variance.expand_as(x))

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        return self.denoiser.covariance(denoised, sigma[:1])


def mixture(tau: float = 0.15, contrast: float = 0.3, width: float = 3.0) -> MixtureProblem:
    """The field about three means: stripes of period 4 in a window, across, along, and shifted."""
    axis = torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) / 2
    window = torch.exp(-(axis[:, None] ** 2 + axis**2) / (2 * width**2))
    stripes = torch.cos(math.pi / 2 * (axis + 0.5))
    patterns = torch.stack([window * stripes, window * stripes[:, None], -window * stripes])
    means = 0.5 + contrast * patterns[:, None]
    covariances = field(tau).covariance.expand(3, -1, -1)
    return MixtureProblem(torch.tensor([0.4, 0.3, 0.3]), means, covariances)


@dataclass(frozen=True)
class Setting:
    """A problem and a task."""

    name: str
    problem: GaussianProblem | MixtureProblem
    operator: DecomposedOperator


def settings() -> Iterator[Setting]:
    ops = certes.operators
    scattered = ops.random_mask(SIDE, SIDE, 0.6, seed=1)
    # In one piece, where the components differ: 156 of 256 pixels are missing.
    frame = ops.box_mask(SIDE, SIDE, (2, 2, 13, 12))
    coarse = ops.SuperResolution(SHAPE, 8)
    blur = ops.Blur(SHAPE, ops.gaussian_kernel(1.5), "circular")
    for name, problem, known in (("field", field(0.15), scattered), ("mixture", mixture(), frame)):
        yield Setting(f"{name}, inpaint", problem, ops.Inpaint(SHAPE, known))
        yield Setting(f"{name}, super-resolve", problem, coarse)
        yield Setting(f"{name}, deblur", problem, blur)


def posterior_of(setting: Setting, y: Tensor) -> MixturePosterior:
    """The exact posterior, a Gaussian as a mixture of one."""
    known = setting.problem.posterior(y.double(), setting.operator, NOISE)
    if isinstance(known, MixturePosterior):
        return known
    mean, covariance = known
    return MixturePosterior(mean.new_ones(len(mean), 1), mean[:, None], covariance[None])


def exact_samples(posterior: MixturePosterior, count: int, seed: int) -> Float[Tensor, "k b n"]:
    """Independent samples of every posterior."""
    drawn = [
        MixtureProblem(weights, means, posterior.covariances).sample(count, seed + 1000 * i)
        for i, (weights, means) in enumerate(zip(posterior.weights, posterior.means, strict=True))
    ]
    return torch.stack(drawn, dim=1).flatten(2)


@dataclass(frozen=True)
class Row:
    """How good a sampler is in one setting, and how long it took."""

    distance: float
    coverage: float
    spread: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.distance:.2f} / {self.coverage:.3f} / {self.spread:.2f}"


class Truth:
    """What samples are compared with: the posterior of every measurement."""

    def __init__(self, posterior: MixturePosterior) -> None:
        self.posterior = posterior
        generator = torch.Generator().manual_seed(0)
        n = posterior.covariances.shape[-1]
        directions = torch.randn(n, DIRECTIONS, generator=generator, dtype=torch.float64)
        self.directions = directions / directions.norm(dim=0)
        many = self._ordered(exact_samples(posterior, FINER * SAMPLES, seed=1))
        self.quantiles = many.unflatten(0, (SAMPLES, FINER)).mean(dim=1)
        sets = [exact_samples(posterior, SAMPLES, seed) for seed in range(2, 2 + REPEATS)]
        self.least = sum(self._wasserstein(samples) ** 2 / REPEATS for samples in sets) ** 0.5

    def judged(self, samples: Float[Tensor, "k b n"], seconds: float) -> Row:
        return Row(self.distance(samples), self.coverage(samples), self.spread(samples), seconds)

    def distance(self, samples: Float[Tensor, "k b n"]) -> float:
        """Sliced Wasserstein-2, over that of as many exact samples."""
        return self._wasserstein(samples) / self.least

    def _wasserstein(self, samples: Float[Tensor, "k b n"]) -> float:
        return float((self._ordered(samples) - self.quantiles).square().mean().sqrt())

    def _ordered(self, samples: Float[Tensor, "k b n"]) -> Float[Tensor, "k b d"]:
        return (samples @ self.directions).sort(dim=0).values

    def coverage(self, samples: Float[Tensor, "k b n"]) -> float:
        """Of the nominal 90 % interval of each pixel, averaged."""
        k = order_statistic(SAMPLES, 0.1)
        below, above = (
            self._cdf(samples.kthvalue(rank, dim=0).values) for rank in (k, SAMPLES + 1 - k)
        )
        return float((above - below).mean())

    def spread(self, samples: Float[Tensor, "k b n"]) -> float:
        """The samples' deviation over the true one, averaged over pixels."""
        variance = self.posterior.covariance().diagonal(dim1=1, dim2=2)
        return float((samples.std(dim=0) / variance.sqrt()).mean())

    def _cdf(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """The marginal distribution function of every pixel."""
        means, known = self.posterior.means.flatten(2), self.posterior
        std = known.covariances.diagonal(dim1=1, dim2=2).sqrt()
        parts = torch.special.ndtr((x[:, None] - means) / std)
        return torch.einsum("bk,bkn->bn", known.weights, parts)


def ours(sampler: str = "pinned", covariance: str = "model", faithful: bool = False) -> Draw:
    """A sampler of the public call."""

    def draw(y: Tensor, H: DecomposedOperator, denoiser: Denoiser) -> Tensor:
        posterior = certes.restore(
            y, H, denoiser, noise=NOISE, samples=SAMPLES, steps=STEPS,
            sampler=sampler, covariance=covariance, faithful=faithful,
        )  # fmt: skip
        assert posterior.kept is not None
        return posterior.kept

    return draw


def samplers() -> dict[str, Draw]:
    """Every row of the table."""
    rows: dict[str, Draw] = {DEFAULT: ours()}
    for name in ("isotropic", "jacobian"):
        rows[f"certes {name} P"] = ours(covariance=name)
    for name, method in SAMPLERS.items():
        if name != "pinned" and issubclass(DecomposedOperator, method.takes):
            rows[f"certes {name}"] = ours(name, faithful=name == "ddrm")
    for name, peer in {**_deepinv.peers(STEPS), **_azula.peers(STEPS)}.items():
        rows[name] = lambda y, H, denoiser, peer=peer: peer.draw(y, H, denoiser, NOISE, SAMPLES)
    return rows


def measure(setting: Setting, rows: dict[str, Draw]) -> Iterator[tuple[str, Row]]:
    """Every sampler in one setting."""
    x = setting.problem.sample(PICTURES, seed=7).float()
    y = degrade(x, setting.operator, NOISE, seed=3)
    truth, denoiser = Truth(posterior_of(setting, y)), OneLevel(setting.problem.denoiser())
    yield EXACT, truth.judged(exact_samples(truth.posterior, SAMPLES, seed=100), seconds=0.0)
    for name, draw in rows.items():
        start = perf_counter()
        samples = draw(y, setting.operator, denoiser).flatten(2).double()
        yield name, truth.judged(samples, perf_counter() - start)


def claim(report: Report, setting: Setting, rows: dict[str, Row]) -> None:
    """Coverage of the default sampler, and its distance against each peer's."""
    exact, default, (low, high) = rows.pop(EXACT), rows[DEFAULT], WINDOW
    for name, row in ((DEFAULT, default), (f"control: {EXACT}", exact)):
        report.claim(
            f"{setting.name}: distance / 90 % coverage / std of {name}",
            str(row),
            f"coverage {low} to {high}",
            low <= row.coverage <= high,
        )
    others = {name: row for name, row in rows.items() if name.startswith("certes ")}
    for name, row in rows.items():
        if name not in (DEFAULT, *others):
            report.claim(
                f"{setting.name}: distance of {name} ({row}) over the default's",
                round(row.distance / default.distance, 2),
                "more than 1",
                row.distance > default.distance,
            )
    beside = "; ".join(f"{name}: {row}" for name, row in others.items())
    ratio = default.distance / min(row.distance for row in others.values())
    report.claim(
        f"{setting.name}: distance of the default over the best of certes' other rows ({beside})",
        round(ratio, 2),
        "at most 1.1",
        ratio <= 1.1,
    )


def main() -> None:
    report, rows = Report("posterior_exactness"), samplers()
    for setting in settings():
        print(f"\n{setting.name}: distance / 90 % coverage / std, s", flush=True)
        measured: dict[str, Row] = {}
        for name, row in measure(setting, rows):
            measured[name] = row
            print(f"  {name:32s} {row!s:>24s} {row.seconds:6.1f}", flush=True)
        claim(report, setting, measured)
    report.save()


if __name__ == "__main__":
    main()
