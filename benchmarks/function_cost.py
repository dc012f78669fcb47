"""What models of functions cost on a CPU: time and memory by the share of coordinates.

    python benchmarks/function_cost.py

One thread, and an allocator that keeps its blocks (see ``ALLOCATOR``). The operator network of the
preset sees pictures of one domain of 64 units at ever finer pitch (the paper's case: the fixed grid
stays as it is), or of one pitch and ever larger domains.
Peak memory is what the operating system counts of a process that does nothing else. The sparse
convolution is timed beside the two that were published: dense masked convolution of NCHW tensors
(``torch_dense``), and 49 times gather, multiply and scatter (the torchsparse fork's depthwise
kernel); what each prepares once for all layers is not counted.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import process_time
from typing import Any

import torch
import torch.nn.functional as F
from _report import Report
from torch import Tensor

from certes.function_space.coordinates import Lattice, Points, subset
from certes.function_space.neighbours import Scattered, neighbours_of
from certes.function_space.network import OperatorNetwork
from certes.function_space.presets import PRESETS
from certes.function_space.sparse_convolution import convolved

PRESET = "nuclei-functions"
SHARES = (1.0, 0.25, 0.125, 0.06)
SIDES = (64, 128, 256, 512, 1024)
DOMAIN = 64
CHANNELS, REACH = 32, 3
CONVOLUTION_SIDES = (64, 128, 256, 512)
CONVOLUTION_SHARES = (1.0, 0.5, 0.25, 0.125, 0.06, 0.03)
# Of glibc: keep blocks of any size at hand. By default each of over 32 MiB comes from the system
# anew, which fills it with zeros: from 512x512 on that takes longer than the arithmetic.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**29),
}
# Of a timing: until so many seconds have gone, or so often.
SECONDS, MOST = 0.5, 200


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def best(*tasks: Callable[[], object]) -> list[float]:
    """Processor seconds of each task's quickest run, after a first one; they take turns."""
    times: list[list[float]] = [[] for _ in tasks]
    for task in tasks:
        task()
    while sum(map(sum, times)) < SECONDS * len(tasks) and len(times[0]) < MOST:
        for task, mine in zip(tasks, times, strict=True):
            start = process_time()
            task()
            mine.append(process_time() - start)
    return [min(mine) for mine in times]


@dataclass(frozen=True)
class Cost:
    """Of one pass of one function: seconds, and MiB beyond those before."""

    seconds: float
    memory: float


class Work:
    """Forward, or a training step, of the preset's operator network."""

    def __init__(self) -> None:
        config = PRESETS[PRESET].operator()
        self.net = OperatorNetwork(config).to(memory_format=torch.channels_last)  # pyright: ignore
        self.code = torch.zeros(1, config.latent)

    def __call__(self, values: Tensor, points: Points, train: bool) -> None:
        self.net.zero_grad()
        with torch.set_grad_enabled(train):
            answer = self.net(values, points, torch.tensor([500.0]), self.code)
            if train:
                answer.square().mean().backward()


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _child(work: Work, lattice: Lattice, share: float, train: bool, pipe: Any) -> None:
    points = subset(lattice, 1, share, seeded())
    values = torch.randn(1, points.positions.shape[1], 1, generator=seeded(1))
    before = peak()
    work(values, points, train)
    memory = peak() - before
    (seconds,) = best(lambda: work(values, points, train))
    pipe.send(Cost(seconds, memory))


def cost(work: Work, lattice: Lattice, share: float, train: bool) -> Cost:
    """Measured in a process of its own."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_child, args=(work, lattice, share, train, there))
    process.start()
    answer = here.recv()
    process.join()
    return answer


def table(work: Work, kind: str, lattices: list[Lattice]) -> dict[tuple[int, float, bool], Cost]:
    """Measure and print everything."""
    costs: dict[tuple[int, float, bool], Cost] = {}
    print(f"\n{kind}; seconds, and MiB, forward | of a training step")
    for lattice in lattices:
        for share in SHARES:
            row: list[str] = []
            for train in (False, True):
                one = cost(work, lattice, share, train)
                costs[lattice.height, share, train] = one
                whole = costs[lattice.height, 1.0, train]
                row.append(
                    f"{one.seconds:8.3f} s ({one.seconds / whole.seconds:4.2f}) "
                    f"{one.memory:7.0f} ({one.memory / whole.memory:4.2f})"
                )
            print(f"{lattice.height:5} {share:6.1%}  {'  |  '.join(row)}", flush=True)
    return costs


def line(points: list[tuple[float, float]]) -> tuple[float, float, float]:
    """``seconds = a + b L`` with the least relative errors; the largest of them."""
    count, seconds = (
        torch.tensor(column, dtype=torch.float64) for column in zip(*points, strict=True)
    )
    design = torch.stack([torch.ones_like(count), count], dim=1) / seconds[:, None]
    solution = torch.linalg.lstsq(design, torch.ones_like(seconds)[:, None]).solution[:, 0]
    error = float((design @ solution - 1).abs().max())
    return float(solution[0]), float(solution[1]), error


def network_claims(report: Report) -> None:
    work = Work()
    work(torch.randn(1, 128, 1), subset(Lattice(16, 16), 1, 0.5, seeded()), True)
    finer = [Lattice(side, side, DOMAIN / side) for side in SIDES]
    fixed = table(work, f"A domain of {DOMAIN} units, pitch {DOMAIN} / side", finer)
    for side in SIDES[2:]:
        ratio = fixed[side, 0.25, True].memory / fixed[side, 1.0, True].memory
        report.claim(
            f"peak memory of a training step at {side}x{side} of a fixed domain, 25 % of the "
            "coordinates against all",
            round(ratio, 3), "at most .5", ratio <= 0.5,
        )  # fmt: skip
        ratio = fixed[side, 0.25, True].seconds / fixed[side, 1.0, True].seconds
        report.claim(
            f"time of a training step at {side}x{side} of a fixed domain, 25 % of the coordinates "
            "against all",
            round(ratio, 3), "at most .5", ratio <= 0.5,
        )  # fmt: skip
    for share in SHARES:
        points = [(share * side**2, fixed[side, share, True].seconds) for side in SIDES]
        a, b, error = line(points)
        report.claim(
            f"time of a training step at {share:.0%}, {SIDES[0]} to {SIDES[-1]} px of a fixed "
            f"domain, is {1e3 * a:.0f} ms + {1e6 * b:.2f} us for each coordinate: largest "
            "relative error of the line",
            round(error, 3), "at most .25", error <= 0.25,
        )  # fmt: skip
    larger = [Lattice(side, side) for side in SIDES[:-1]]
    grown = table(work, "Pitch 1, domains of the picture's size (the grid grows too)", larger)
    ratio = grown[512, 0.25, True].memory / grown[512, 1.0, True].memory
    report.claim(
        "peak memory of a training step at 512x512 of pitch 1 (the grid grows with the domain, "
        "whatever the share), 25 % of the coordinates against all",
        round(ratio, 3), "at most .5", ratio <= 0.5,
    )  # fmt: skip


def masked_dense(points: Points) -> Callable[[Tensor, Tensor], Tensor]:
    """The published ``torch_dense``: everything on the whole lattice, NCHW."""
    neighbours = Scattered(points, REACH)
    b, (height, width) = len(points.positions), points.lattice.shape
    index = neighbours.index
    share = (2 * REACH + 1) ** 2 / _count(neighbours)

    def convolution(values: Tensor, kernel: Tensor) -> Tensor:
        c = values.shape[2]
        flat = values.new_zeros(b * height * width, c).index_copy(0, index, values.flatten(0, 1))
        dense = flat.view(b, height, width, c).permute(0, 3, 1, 2).contiguous()
        dense = F.conv2d(dense, kernel[:, None], padding=REACH, groups=c)
        answer = dense.permute(0, 2, 3, 1).reshape(-1, c).index_select(0, index)
        return answer.view(values.shape) * share

    return convolution


def gathered(points: Points) -> Callable[[Tensor, Tensor], Tensor]:
    """The published sparse kernel: for each of 49 offsets gather, multiply, scatter."""
    neighbours = Scattered(points, REACH)
    share = (2 * REACH + 1) ** 2 / _count(neighbours)
    table = torch.full((len(points.positions), *points.lattice.shape), -1)
    table.view(-1)[neighbours.index] = torch.arange(len(neighbours.index))
    table = F.pad(table, (REACH,) * 4, value=-1)
    (high, wide), side = points.lattice.shape, 2 * REACH + 1
    pairs: list[tuple[Tensor, Tensor]] = []
    for i in range(side):
        for j in range(side):
            found = table[:, i : i + high, j : j + wide].flatten()[neighbours.index]
            target = (found >= 0).nonzero()[:, 0]
            pairs.append((target, found[target]))

    def convolution(values: Tensor, kernel: Tensor) -> Tensor:
        flat, taps = values.flatten(0, 1), kernel.flatten(1).T
        total = torch.zeros_like(flat)
        for (target, source), tap in zip(pairs, taps, strict=True):
            total = total.index_add(0, target, flat.index_select(0, source) * tap)
        return total.view(values.shape) * share

    return convolution


def _count(neighbours: Scattered) -> Tensor:
    points = neighbours.points
    one = torch.ones(*points.positions.shape[:2], 1)
    sums = neighbours.sums(one, torch.ones(1, 2 * REACH + 1, 2 * REACH + 1))
    return sums.plain


def convolution_claims(report: Report) -> None:
    print("\nOne convolution of 32 channels, ms: ours, dense NCHW, 49 gathers; forward | training")
    worst = {False: 0.0, True: 0.0}
    for side in CONVOLUTION_SIDES:
        for share in CONVOLUTION_SHARES:
            points = subset(Lattice(side, side), 1, share, seeded())
            neighbours = neighbours_of(points, REACH)
            ways = {
                "ours": lambda v, k, n=neighbours: convolved(v, n, k),
                "dense": masked_dense(points),
                "gathers": gathered(points),
            }
            times: dict[bool, dict[str, float]] = {}
            for train in worst:
                tasks = [_task(way, points, train) for way in ways.values()]
                times[train] = dict(zip(ways, best(*tasks), strict=True))
            for train, each in times.items():
                ratio = each["ours"] / min(each["dense"], each["gathers"])
                worst[train] = max(worst[train], ratio)
            row = "  |  ".join(
                " ".join(f"{1e3 * s:8.2f}" for s in each.values()) for each in times.values()
            )
            print(f"{side:5} {share:6.1%} {row}", flush=True)
    for train, ratio in worst.items():
        report.claim(
            f"time of a sparse convolution, {'forward and backward' if train else 'forward'}, over "
            "that of the better of the two published ways: largest ratio, 64 to 512 px, 3 to 100 %",
            round(ratio, 3), "at most 1", ratio <= 1,
        )  # fmt: skip


def _task(
    way: Callable[[Tensor, Tensor], Tensor], points: Points, train: bool
) -> Callable[[], object]:
    values = torch.randn(1, points.positions.shape[1], CHANNELS, generator=seeded(2))
    kernel = torch.randn(CHANNELS, 2 * REACH + 1, 2 * REACH + 1, generator=seeded(3))
    values.requires_grad_(train)
    kernel.requires_grad_(train)

    def work() -> None:
        answer = way(values, kernel)
        if train:
            torch.autograd.grad(answer.sum(), [values, kernel])

    return work


def variance_claims(report: Report) -> None:
    """Errors of sparse sums against the sums over all, ours and the paper's."""
    side, batch = 128, 4
    lattice, g = Lattice(side, side), seeded(4)
    waves = torch.arange(side) * torch.pi / side
    place = torch.arange(side) + 0.5
    spectrum = (0.05 + waves[:, None] ** 2 + waves**2) ** -1.25
    spectrum[0, 0] = 0  # a constant would flatter: it is convolved exactly
    cosines = (place[:, None] * waves).cos()
    smooth = cosines @ (torch.randn(batch, 1, side, side, generator=g) * spectrum) @ cosines.T
    soft = (-(torch.arange(-REACH, REACH + 1).float() ** 2) / 4).exp()
    kernels = {
        "an averaging kernel": torch.outer(soft, soft)[None],
        "a random kernel": torch.randn(1, 2 * REACH + 1, 2 * REACH + 1, generator=g),
    }
    for name, kernel in kernels.items():
        whole = subset(lattice, batch, 1.0, g)
        full = convolved(whole.values(smooth), neighbours_of(whole, REACH), kernel)
        for share in (0.5, 0.25, 0.125):
            points = subset(lattice, batch, share, g)
            neighbours, values = neighbours_of(points, REACH), points.values(smooth)
            wanted = points.values(whole.picture(full))
            sums = neighbours.sums(values, kernel)
            theirs = sums.weighted * sums.full / sums.count
            ours = convolved(values, neighbours, kernel)
            errors = [float((x - wanted).norm() / wanted.norm()) for x in (ours, theirs)]
            report.claim(
                f"smooth functions, {name}, {share:.1%} of the coordinates: relative error "
                f"{errors[0]:.3f}, of the paper's mean over neighbours {errors[1]:.3f}: ratio",
                round(errors[0] / errors[1], 3), "at most .6", errors[0] <= 0.6 * errors[1],
            )  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    report = Report("function_cost")
    # First, while this process, whose copies are measured, is small.
    network_claims(report)
    convolution_claims(report)
    variance_claims(report)
    report.save()


if __name__ == "__main__":
    if not ALLOCATOR.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    main()
