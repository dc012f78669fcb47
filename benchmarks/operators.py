"""What the linear operators cost: construction, memory, and the two maps of a sampler's step.

    python benchmarks/operators.py

Every operator at 3x256x256 in float32, and the dense V that each of them avoids. Published code
for the same paper was timed once, on two cores as here: its inpainting operator takes 125 s to
build, and its V and V^T together 6 to 24 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

import torch
from _report import Report
from torch import Tensor

from certes import operators as ops
from certes.operators import DecomposedOperator

SHAPE = (3, 256, 256)
REPEATS = 20
SECONDS, MILLISECONDS, FLOATS = 1.0, 25.0, 8.0
OFFICIAL = {"Inpaint, random half": ", published code 125 s"}

Make = Callable[[], DecomposedOperator]


def operators() -> dict[str, Make]:
    """One of each kind; kernels and masks are made beforehand, as a user has them."""
    half, gauss = ops.random_mask(256, 256, 0.5, seed=0), ops.gaussian_kernel(2.0)
    motion = torch.eye(9) / 9
    lines = ops.cartesian_mask(256, 256, 0.25, 0.04, seed=0)
    return {
        "Denoise": lambda: ops.Denoise(SHAPE),
        "Inpaint, random half": lambda: ops.Inpaint(SHAPE, half),
        "SuperResolution x4, box": lambda: ops.SuperResolution(SHAPE, 4),
        "SuperResolution x16, bicubic": lambda: ops.SuperResolution(SHAPE, 16, "bicubic"),
        "SuperResolution x4, 17 taps": lambda: ops.SuperResolution(SHAPE, 4, gauss),
        "Blur, Gaussian, reflect": lambda: ops.Blur(SHAPE, gauss, "reflect"),
        "Blur, Gaussian, zero": lambda: ops.Blur(SHAPE, gauss, "zero"),
        "Blur, oblique motion, circular": lambda: ops.Blur(SHAPE, motion, "circular"),
        "Downsample x4, oblique motion": lambda: ops.Downsample(SHAPE, motion, 4),
        "Colorize": lambda: ops.Colorize(SHAPE),
        "CompressedSensing 1/4, Hadamard": lambda: ops.CompressedSensing(SHAPE, 0.25),
        "CompressedSensing 1/4, cosines": lambda: ops.CompressedSensing(SHAPE, 0.25, "dct"),
        "SubsampledFourier, lines": lambda: ops.SubsampledFourier(SHAPE, lines),
        "PerChannel, three blurs": lambda: ops.PerChannel(
            [ops.Blur((1, *SHAPE[1:]), ops.gaussian_kernel(s)) for s in (1.0, 2.0, 3.0)]
        ),
    }


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs, the first of which only warms up."""
    work()
    times: list[float] = []
    for _ in range(REPEATS):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return min(times)


def tensors_in(thing: object, seen: set[int]) -> Iterator[Tensor]:
    """Every tensor that an object holds, through its attributes and containers."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from tensors_in(value, seen)
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from tensors_in(value, seen)
    elif hasattr(thing, "__dict__"):
        yield from tensors_in(vars(thing), seen)


def floats(H: DecomposedOperator) -> float:
    """Memory that an operator holds, in float32 numbers per value of a picture."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors_in(H, set())}
    return sum(storage.nbytes() for storage in storages.values()) / 4 / H.n


def measure(report: Report, name: str, make: Make) -> None:
    """Three claims about one operator."""
    start = perf_counter()
    H = make()
    built = perf_counter() - start
    x = torch.rand(1, *SHAPE)
    step = 1e3 * fastest(lambda: H.V(H.Vt(x)))
    H(x)
    held = floats(H)
    report.claim(
        f"{name}: construction, s{OFFICIAL.get(name, '')}",
        round(built, 3), f"under {SECONDS}", built < SECONDS,
    )  # fmt: skip
    report.claim(
        f"{name}: V and V^T of one picture, ms, published code 6 to 24",
        round(step, 2), f"under {MILLISECONDS}", step < MILLISECONDS,
    )  # fmt: skip
    report.claim(
        f"{name}: float32 numbers held per value of a picture, a dense V {H.n}",
        round(held, 2), f"at most {FLOATS}", held <= FLOATS,
    )  # fmt: skip


def main() -> None:
    torch.manual_seed(0)
    report = Report("operators")
    for name, make in operators().items():
        measure(report, name, make)
    report.save()


if __name__ == "__main__":
    main()
