"""Where the time of a restoration goes, and what drawing samples together is worth.

    python benchmarks/throughput.py

At K = 16 and 256x256 the share of wall time inside the network, task by task; and the time of K
samples in one batch against K calls of one sample each, on 64x64 and 256x256 pictures. The
alternative is what sampling libraries do: one sample after another.
"""

from __future__ import annotations

from time import perf_counter

import torch
from _report import Report
from jaxtyping import Float
from torch import Tensor

import certes
from certes.data.bundled import bundled_pictures
from certes.diffusion.denoiser import Denoised
from certes.networks.model import Model
from certes.restoration.degradations import degrade
from certes.restoration.operators import DecomposedOperator, gaussian_kernel

SAMPLES, STEPS = 16, 20


class Stopwatch(Model):
    """A model that knows how long it was at work."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.name, model.denoiser, model.card, model.hash)
        self.seconds = 0.0

    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        start = perf_counter()
        answer = super().__call__(x, sigma)
        self.seconds += perf_counter() - start
        return answer


def operators(side: int) -> dict[str, tuple[DecomposedOperator, float]]:
    """The four tasks of the demo."""
    shape, ops = (1, side, side), certes.operators
    order = torch.randperm(side * side, generator=torch.Generator().manual_seed(0))
    known = (order >= round(0.8 * side * side)).reshape(side, side)
    return {
        "denoise": (ops.Denoise(shape), 0.1),
        "super-resolve": (ops.SuperResolution(shape, 4), 0.02),
        "inpaint": (ops.Inpaint(shape, known), 0.02),
        "deblur": (ops.Blur(shape, gaussian_kernel(2.0)), 0.02),
    }


def timed(
    y: Tensor, operator: DecomposedOperator, model: Model, noise: float, **settings: int
) -> float:
    """Seconds of one restoration."""
    start = perf_counter()
    certes.restore(y, operator, model, noise=noise, **settings)
    return perf_counter() - start


def network_share(report: Report, model: Stopwatch, x: Tensor) -> None:
    """Share of wall time inside the network at 256x256."""
    for name, (operator, noise) in operators(256).items():
        y = degrade(x, operator, noise, seed=0)
        model.seconds = 0.0
        seconds = timed(y, operator, model, noise, samples=SAMPLES, steps=STEPS)
        share = model.seconds / seconds
        report.claim(
            f"{name}: share of wall time inside the network, K = 16, 256x256 ({seconds:.1f} s)",
            round(share, 3), "at least .9", share >= 0.9,
        )  # fmt: skip


def batching(report: Report, model: Model, x: Tensor, side: int, target: float) -> None:
    """One batch of K samples against K single ones; the best of several, taken in turns."""
    operator, noise = operators(side)["super-resolve"]
    y = degrade(x[..., :side, :side], operator, noise, seed=0)
    together, apart = [], []
    for _ in range(3 if side < 256 else 2):
        together.append(timed(y, operator, model, noise, samples=SAMPLES, steps=STEPS))
        one = (
            timed(y, operator, model, noise, samples=1, steps=STEPS, seed=s) for s in range(SAMPLES)
        )
        apart.append(sum(one))
    ratio = min(apart) / min(together)
    report.claim(
        f"{side}x{side}: time of 16 samples one after another over one batch of 16",
        round(ratio, 2), f"at least {target}", ratio >= target,
    )  # fmt: skip


def main() -> None:
    report, model = Report("throughput"), Stopwatch(certes.load("nuclei"))
    x = bundled_pictures()[0].pixels[None]
    timed(
        degrade(x, *operators(256)["denoise"], seed=0),
        operators(256)["denoise"][0],
        model,
        0.1,
        samples=1,
        steps=2,
    )
    network_share(report, model, x)
    batching(report, model, x, 64, 1.5)
    batching(report, model, x, 256, 1.0)
    report.save()


if __name__ == "__main__":
    main()
