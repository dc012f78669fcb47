"""How fast a call trained, and how much of the machine that is."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from certes.data.files import write_json
from certes.networks import UNet
from certes.training.config import RunConfig
from certes.training.loop import LOG_EVERY, Run

# Steps before the clock of the speed starts: compilation, and the choice of convolutions.
WARM_UP = 20


@dataclass(frozen=True)
class Call:
    """What one call did, and how fast once it was warm.

    Args:
        device: on what.
        first_step, last_step: from where to where.
        seconds: of training, compilation included.
        images_per_second: once warm.
        loss: the last simple loss.
        tflops: arithmetic of the network at that speed, 10^12 operations a second.
        peak_tflops: of a large bfloat16 matrix product on the same machine.
    """

    device: str
    first_step: int
    last_step: int
    seconds: float
    images_per_second: float | None
    loss: float | None
    tflops: float | None = None
    peak_tflops: float | None = None


def train(run: Run[Any], minutes: float, flops: int | None = None) -> Call:
    """Make steps until the time is up; the checkpoint is that of the last one.

    Args:
        run: what is trained.
        minutes: how long.
        flops: operations for one picture, forward and backward; default: those of a U-Net.
    """
    peak = peak_tflops(run.device)
    began, first, loss = time.monotonic(), run.step, None
    warm_step, warm_time = first, began
    run.accelerator.init_trackers("logs")
    for latest in run.steps():
        if run.step % LOG_EVERY and run.step - first != WARM_UP:
            continue
        loss = float(latest)  # waits for the device
        if run.step - first == WARM_UP:
            warm_step, warm_time = run.step, time.monotonic()
        if time.monotonic() - began > 60 * minutes:
            run.save()
            break
    run.accelerator.end_training()
    now = time.monotonic()
    images = (run.step - warm_step) * run.config.batch
    speed = images / (now - warm_time) if warm_step > first and images else None
    tflops = speed and speed * (flops or training_flops(run.config)) / 1e12
    return Call(device(), first, run.step, now - began, speed, loss, tflops, peak)


def training_flops(config: RunConfig) -> int:
    """Operations for one picture, forward and backward (twice the forward), a multiply-add two."""
    with torch.device("meta"):
        net, time_ = UNet(config.unet()), torch.zeros(1, config.unet().noise_levels)
        picture = torch.zeros(1, net.config.in_channels, config.patch, config.patch)
        with FlopCounterMode(display=False) as counter:
            net(picture, time_)
    return 3 * counter.get_total_flops()


def peak_tflops(place: torch.device) -> float:
    """The best of several large bfloat16 matrix products, 10^12 operations a second."""
    side, best = (8192, float("inf")) if place.type == "cuda" else (1024, float("inf"))
    a = torch.randn(side, side, device=place, dtype=torch.bfloat16)
    for _ in range(10):
        began = time.perf_counter()
        product = a @ a
        float(product[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best / 1e12


def device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} thread(s)"


def record(path: Path, call: Call) -> list[Call]:
    """Add this call to those of before."""
    before = json.loads(path.read_text()) if path.exists() else []
    content = [*before, vars(call)]
    write_json(path, content)
    return [Call(**entry) for entry in content]


def print_table(calls: list[Call], batch: int, minutes: float) -> None:
    print(
        f"{'device':24s} {'steps':>15s} {'seconds':>8s} {'images/s':>9s} {'loss':>8s} "
        f"{'TFLOP/s':>8s} {'of peak':>8s}"
    )
    for call in calls:
        steps, nan = f"{call.first_step}-{call.last_step}", float("nan")
        speed, loss, tflops = call.images_per_second or nan, call.loss or nan, call.tflops or nan
        share = tflops / (call.peak_tflops or nan)
        print(
            f"{call.device:24s} {steps:>15s} {call.seconds:8.1f} {speed:9.1f} {loss:8.4f} "
            f"{tflops:8.2f} {share:8.1%}"
        )
    speed = calls[-1].images_per_second
    if speed:
        print(f"{int(60 * minutes * speed / batch)} steps would fit in {minutes:g} minutes")
