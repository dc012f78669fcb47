"""Train the larger `nuclei` prior on one GPU, in as many calls as it takes, and record its speed.

    python benchmarks/gpu/train_nuclei.py --data nuclei/train/images --out run --steps 20000

Each call goes on from the last one's checkpoint until its minutes are up, then measures the
network and exports what there is as a model folder (`OUT/model`, bfloat16). The learning rate
decays to zero at `--steps`, which therefore must stay the same from call to call; a first call of
few minutes, in a folder of its own, says how many fit. `OUT/speed.json` has an entry for each call.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from certes.data.files import write_json
from certes.data.patches import PatchDataset, load_folder
from certes.training.loop import LOG_EVERY, Run
from certes.training.presets import PRESETS
from certes.training.publish import publish

# Steps before the clock of the speed starts: compilation, and the choice of convolutions.
WARM_UP = 20
# Transfers take files up to 16 MiB.
PIECE = 15 * 2**20


@dataclass(frozen=True)
class Call:
    """What one call did, and how fast once it was warm."""

    device: str
    first_step: int
    last_step: int
    seconds: float
    images_per_second: float | None
    loss: float | None


def main() -> None:
    arguments = parse()
    config = replace(PRESETS[arguments.preset], steps=arguments.steps)
    data = PatchDataset(load_folder(arguments.data), config.patch, config.busy)
    run = Run(config, data, arguments.out, resume=True)
    parameters = sum(value.numel() for value in run.denoiser.net.parameters())
    print(f"{config.steps} steps of {config.batch} patches, {parameters / 1e6:.1f} M parameters")
    calls = record(arguments.out / "speed.json", train(run, arguments.minutes))
    model = arguments.out / "model"
    publish(run.averaged(), data, model, card(arguments.preset, run.step, len(data)))
    print_table(calls, config.batch, arguments.minutes)
    if arguments.pieces:
        pack(arguments.out, arguments.pieces)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of training pictures")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint, logs, model")
    parser.add_argument("--minutes", type=float, default=9.0, help="of training in this call")
    parser.add_argument("--preset", choices=PRESETS, default="nuclei-large")
    parser.add_argument("--steps", type=int, default=PRESETS["nuclei-large"].steps, help="in all")
    parser.add_argument("--pieces", type=Path, help="also copy the results here, in small files")
    return parser.parse_args()


def train(run: Run, minutes: float) -> Call:
    """Make steps until the time is up; the checkpoint is that of the last one."""
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
    warm_seconds = time.monotonic() - warm_time
    images = (run.step - warm_step) * run.config.batch
    speed = images / warm_seconds if warm_step > first and images else None
    return Call(device(), first, run.step, time.monotonic() - began, speed, loss)


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


def card(preset: str, step: int, pictures: int) -> dict[str, object]:
    return {
        "name": preset,
        "training": {
            "preset": preset,
            "steps": step,
            "data": f"BBBC038 (2018 Data Science Bowl), stage 1, train: {pictures} pictures",
            "licence": "CC0 1.0",
        },
    }


def print_table(calls: list[Call], batch: int, minutes: float) -> None:
    print(f"{'device':24s} {'steps':>15s} {'seconds':>8s} {'images/s':>9s} {'loss':>8s}")
    for call in calls:
        steps = f"{call.first_step}-{call.last_step}"
        speed, loss = call.images_per_second or float("nan"), call.loss or float("nan")
        print(f"{call.device:24s} {steps:>15s} {call.seconds:8.1f} {speed:9.1f} {loss:8.4f}")
    speed = calls[-1].images_per_second
    if speed:
        print(f"{int(60 * minutes * speed / batch)} steps would fit in {minutes:g} minutes")


def pack(out: Path, pieces: Path) -> None:
    """Copy the model, the speeds and the last samples; large files as NAME.00, NAME.01, ..."""
    pieces.mkdir(parents=True, exist_ok=True)
    samples = sorted(out.glob("samples-*.png"), key=lambda path: path.stat().st_mtime)[-1:]
    for path in [*sorted((out / "model").iterdir()), out / "speed.json", *samples]:
        content = path.read_bytes()
        if len(content) <= PIECE:
            shutil.copy(path, pieces / path.name)
            continue
        for index, start in enumerate(range(0, len(content), PIECE)):
            (pieces / f"{path.name}.{index:02d}").write_bytes(content[start : start + PIECE])
        print(f"join with: cat {path.name}.* > {path.name}")


if __name__ == "__main__":
    main()
