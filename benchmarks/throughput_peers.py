# ruff: noqa: E402
"""How long sixteen samples of one 256x256 picture take: certes and deepinv's DDRM, same weights.

    python benchmarks/throughput_peers.py

4x super-resolution, 20 network calls each, one batch of 16. deepinv runs with the weights in
float32, as its own networks have them (the package casts nothing), and with the very network that
certes runs, in bfloat16 where the machine computes in it; and, in float32, one sample after another
as its ``DiffusionSampler`` does. All take turns, and the fastest run of each counts. With the same
network what is left to compare happens outside of it: there certes' sampler does more (it solves
for the conditional mean) and can at best be even.
"""

from __future__ import annotations

from _peers import enter

enter()

import argparse
from collections.abc import Callable
from time import perf_counter

import _deepinv
import torch
from _report import Report
from torch import Tensor

import certes
from certes.data.bundled import bundled_pictures
from certes.networks.model import Model
from certes.restoration.degradations import degrade
from certes.restoration.operators import DecomposedOperator

SAMPLES, STEPS, SIDE, REPEATS, NOISE = 16, 20, 256, 2, 0.05


def contenders(
    y: Tensor, H: DecomposedOperator, samples: int, steps: int
) -> dict[str, Callable[[], object]]:
    """Everything that is timed: all answer `y` with as many samples."""
    own, single = certes.load("nuclei"), certes.load("nuclei", dtype=torch.float32)
    peer = _deepinv.peers(steps)["deepinv DDRM"]

    def together(model: Model) -> Tensor:
        return peer.draw(y, H, model, NOISE, samples)

    def apart(model: Model) -> list[Tensor]:
        return [peer.draw(y, H, model, NOISE, 1, seed) for seed in range(samples)]

    return {
        "certes": lambda: certes.restore(y, H, own, noise=NOISE, samples=samples, steps=steps),
        "deepinv's DDRM, float32": lambda: together(single),
        "deepinv's DDRM, float32, one after another": lambda: apart(single),
        "deepinv's DDRM, the network that certes runs": lambda: together(own),
    }


def fastest(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of the fastest run of each, taken in turns."""
    seconds = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, run in runs.items():
            start = perf_counter()
            run()
            seconds[name] = min(seconds[name], perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="time of sixteen samples, certes and deepinv")
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    side, samples, steps = arguments.side, arguments.samples, arguments.steps
    report, x = Report("throughput_peers"), bundled_pictures()[0].pixels[None, :, :side, :side]
    H = certes.operators.SuperResolution((1, side, side), 4)
    y = degrade(x, H, NOISE, seed=0)
    fastest(contenders(y, H, 1, 2), repeats=1)  # warms up
    seconds = fastest(contenders(y, H, samples, steps), REPEATS)
    own = seconds.pop("certes")
    for name, theirs in seconds.items():
        target = 2.0 if "float32" in name else 0.8
        report.claim(
            f"{samples} samples of {side}x{side}: time of {name} ({theirs:.1f} s) over certes' "
            f"({own:.1f} s)",
            round(theirs / own, 2),
            f"at least {target}",
            theirs / own >= target,
        )
    if (side, samples, steps) == (SIDE, SAMPLES, STEPS):
        report.save()


if __name__ == "__main__":
    main()
