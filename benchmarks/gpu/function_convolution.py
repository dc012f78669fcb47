"""Sparse convolutions on one GPU: Triton's look-ups against dense lattices and lists of pairs.

    python benchmarks/gpu/function_convolution.py --out runs/function_convolution.json

For every size and share of the coordinates: milliseconds by CUDA events, forward and with backward,
of one normalised depthwise convolution in bfloat16 (sums in single precision); what each way
prepares once for all layers of a network, apart; peak memory; and the largest relative error of
Triton's answers and gradients against dense convolutions in single precision. A call goes on where
the last one stopped; rows that are in the file are not measured again. Without a GPU, or without
Triton, what is there is timed by the clock: a rehearsal.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from certes.data.files import write_json
from certes.function_space.coordinates import Lattice, Points, subset
from certes.function_space.neighbours import Listed, Neighbours, Scattered
from certes.function_space.sparse_convolution import convolved

SHARES = (1.0, 0.5, 0.25, 0.125, 0.06)
REACH = 3
# Pairs of more points than this take more memory than the rest of a network.
MOST_LISTED = 2**18
TOLERANCE = 1e-3

Way = Callable[[Points, int], Neighbours]


def ways(points: Points) -> dict[str, Way]:
    """By name; the first is what the others are compared with."""
    found: dict[str, Way] = {"dense": Scattered}
    if points.positions.shape[1] * points.density < MOST_LISTED:
        found["listed"] = Listed
    if torch.cuda.is_available() and find_spec("triton"):
        module = import_module("certes.function_space.triton_convolution")
        found["triton"] = module.LookedUp
    return found


def milliseconds(task: Callable[[], object], repeats: int) -> float:
    """Median of several runs, after two first ones."""
    for _ in range(2):
        task()
    times = [_once(task) for _ in range(repeats)]
    return sorted(times)[len(times) // 2]


def _once(task: Callable[[], object]) -> float:
    if not torch.cuda.is_available():
        start = perf_counter()
        task()
        return 1e3 * (perf_counter() - start)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    task()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last)


def work(values: Tensor, kernel: Tensor, neighbours: Neighbours, train: bool) -> tuple[Tensor, ...]:
    if not train:
        with torch.no_grad():
            return (convolved(values, neighbours, kernel),)
    values, kernel = values.detach().requires_grad_(), kernel.detach().requires_grad_()
    answer = convolved(values, neighbours, kernel)
    return answer, *torch.autograd.grad(answer.square().mean(), [values, kernel])


def row(side: int, share: float, channels: int, repeats: int) -> dict[str, Any]:
    """One line of the table."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    g = torch.Generator(device).manual_seed(0)
    points = subset(Lattice(side, side), 1, share, g)
    values = torch.randn(1, points.positions.shape[1], channels, generator=g, device=device)
    kernel = torch.randn(channels, 2 * REACH + 1, 2 * REACH + 1, generator=g, device=device)
    half = values.bfloat16()
    # Dense convolutions and lists get what the network gives them: single precision.
    exact = work(half.float(), kernel, Scattered(points, REACH), True)
    line: dict[str, Any] = {"side": side, "share": share, "channels": channels}
    for name, way in ways(points).items():
        given = half if name == "triton" else half.float()
        neighbours = way(points, REACH)
        _reset()
        forward, training = (
            milliseconds(lambda n=neighbours, v=given, t=train: work(v, kernel, n, t), repeats)
            for train in (False, True)
        )
        peak = _peak()
        answers = work(given, kernel, neighbours, True)
        line[name] = {
            "prepare": milliseconds(lambda w=way: _prepared(w, points), repeats),
            "forward": forward,
            "training": training,
            "peak_mib": peak,
            "error": max(_error(a, b) for a, b in zip(answers, exact, strict=True)),
        }
    return line


def _error(a: Tensor, b: Tensor) -> float:
    """Relative, of the root mean square; both rounded to the precision of the answer."""
    a, b = a.detach().float(), b.detach().to(a.dtype).float()
    return float((a - b).norm() / b.norm())


def _prepared(way: Way, points: Points) -> None:
    """Tables are made when they are first asked for."""
    one = torch.ones(1, 1, 1, device=points.positions.device)
    side = 2 * REACH + 1
    way(points, REACH).sums(one.expand(*points.positions.shape[:2], 1), one.expand(1, side, side))


def _reset() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak() -> float | None:
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None


def print_row(line: dict[str, Any]) -> None:
    parts = [
        f"{name}: {way['forward']:8.3f} {way['training']:8.3f} ms (+{way['prepare']:.2f} once), "
        f"error {way['error']:.1e}"
        for name, way in line.items()
        if isinstance(way, dict)
    ]
    print(f"{line['side']:5} {line['share']:6.1%}  {'  |  '.join(parts)}", flush=True)


def verdicts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the table says; nothing without Triton."""
    timed = [line for line in rows if "triton" in line]
    if not timed:
        return []
    worst = max(line["triton"]["error"] for line in timed)
    quicker = {
        kind: [
            f"{line['side']}@{line['share']:.0%}"
            for line in timed
            if line["triton"][kind] <= min(line[w][kind] for w in ("dense", "listed") if w in line)
        ]
        for kind in ("forward", "training")
    }
    return [
        {
            "claim": "relative error (rms) of Triton's answers and gradients, bfloat16 values",
            "measured": worst,
            "target": f"at most {TOLERANCE:g}",
            "holds": worst <= TOLERANCE,
        },
        *(
            {
                "claim": f"where Triton is the quickest way, {kind}",
                "measured": ", ".join(where) or "nowhere",
                "target": "sets certes.function_space.neighbours.SPARSE_CUDA",
                "holds": bool(where),
            }
            for kind, where in quicker.items()
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/function_convolution.json"))
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    kept = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    rows: list[dict[str, Any]] = kept.get("rows", []) if kept.get("device") == device else []
    done = {(line["side"], line["share"], line["channels"]) for line in rows}
    for side in arguments.sides:
        for share in SHARES:
            if (side, share, arguments.channels) not in done:
                rows.append(row(side, share, arguments.channels, arguments.repeats))
                claims = verdicts(rows)
                write_json(arguments.out, {"device": device, "rows": rows, "claims": claims})
    for line in rows:
        print_row(line)
    for claim in verdicts(rows):
        print(f"{claim['claim']}: {claim['measured']} (target: {claim['target']})")


if __name__ == "__main__":
    main()
