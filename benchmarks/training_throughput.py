"""Training speed: images a second of our loop and of the diffusers unconditional training loop.

    python benchmarks/training_throughput.py [--batch 16] [--steps 4] [--rounds 4]

Both train the network of the preset `ddpm-cifar10` (35,746,307 parameters, dropout .1) on the same
folder of 32x32 PNGs, with the same batch, bfloat16 autocast, gradient clipping, an average of the
weights and the same number of threads, in turns: each loop lives in a process of its own that
sleeps while the other one works. One step of each comes first, uncounted.

The other loop is what the example `train_unconditional.py` of diffusers does, from its own parts:
UNet2DModel, DDPMScheduler.add_noise, EMAModel, accelerate, AdamW and a cosine rate, and a
DataLoader with no workers (its default) over PNGs. torchvision does not install beside every build
of torch, so its transforms (bilinear resize, centre crop, flip, to tensor, normalise) are the same
ones in PIL and numpy. On a GPU our network is compiled, as our presets are and the example is not.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from _report import Report
from PIL import Image
from torch import Tensor

from certes.data.patches import PatchDataset, load_folder
from certes.training.loop import Run
from certes.training.presets import PRESETS
from certes.training.unconditional import Unconditional

PICTURES = 512
PRESET = PRESETS["ddpm-cifar10"]
FOREVER = 10**6
TARGET = 1.3


def make_pictures(folder: Path) -> None:
    """Smooth colours with noise, as PNGs: no data set is needed to measure speed."""
    rng = np.random.default_rng(0)
    for i in range(PICTURES):
        coarse = Image.fromarray(rng.integers(256, size=(4, 4, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((32, 32), Image.Resampling.BICUBIC), dtype=np.float64)
        noisy = smooth + rng.normal(0, 4, smooth.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{i:03d}.png")


def our_steps(folder: Path, batch: int, device: str) -> Iterator[float]:
    config = replace(
        PRESET,
        batch=batch, steps=FOREVER, precision="bf16", compile=device == "cuda",
        checkpoint_every=FOREVER, sample_every=FOREVER,
    )  # fmt: skip
    data = PatchDataset(load_folder(folder), config.patch, config.busy, symmetries="flips")
    with tempfile.TemporaryDirectory() as out:
        run = Run(Unconditional(config), data, Path(out), resume=False)
        run.accelerator.init_trackers("logs")
        for loss in run.steps():
            yield float(loss)  # the other loop reads its loss at every step, too


class Folder(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Pictures decoded when asked for, with the example's transforms."""

    def __init__(self, folder: Path, side: int) -> None:
        self.paths, self.side = sorted(folder.glob("*.png")), side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = Image.open(self.paths[index]).convert("RGB")
        image = image.resize((self.side, self.side), Image.Resampling.BILINEAR)
        image = image.crop((0, 0, self.side, self.side))
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        return {"input": (pixels - 0.5) / 0.5}


def diffusers_steps(folder: Path, batch: int, device: str) -> Iterator[float]:
    """The example's loop, its parts called in its order, with its default settings."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    with tempfile.TemporaryDirectory() as logs:
        accelerator = Accelerator(
            mixed_precision="bf16", log_with="tensorboard", project_dir=logs, cpu=device == "cpu"
        )
        model: Any = UNet2DModel(**PRESET.network)
        ema = EMAModel(
            model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75,
            model_cls=UNet2DModel, model_config=model.config,
        )  # fmt: skip
        ema.to(accelerator.device)
        noise_scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        rate = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=FOREVER)
        loader = torch.utils.data.DataLoader(Folder(folder, PRESET.patch), batch, shuffle=True)
        model, optimizer, loader, rate = accelerator.prepare(model, optimizer, loader, rate)
        accelerator.init_trackers("train_unconditional")
        step = 0
        while True:
            model.train()
            for parts in loader:
                clean = parts["input"].to(torch.bfloat16)
                noise = torch.randn(clean.shape, dtype=torch.bfloat16, device=clean.device)
                times = torch.randint(0, 1000, (len(clean),), device=clean.device).long()
                noisy = noise_scheduler.add_noise(clean, noise, times)
                with accelerator.accumulate(model):
                    predicted = model(noisy, times).sample
                    loss = torch.nn.functional.mse_loss(predicted.float(), noise.float())
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    rate.step()
                    optimizer.zero_grad()
                if accelerator.sync_gradients:
                    ema.step(model.parameters())
                    step += 1
                value = loss.detach().item()
                accelerator.log({"loss": value, "lr": rate.get_last_lr()[0]}, step=step)
                yield value


LOOPS = {"certes": our_steps, "diffusers": diffusers_steps}


def work(name: str, folder: Path, batch: int, device: str) -> None:
    """Make as many steps as each line of the input says and answer with the seconds they took."""
    steps = LOOPS[name](folder, batch, device)
    for line in sys.stdin:
        began = perf_counter()
        for _ in islice(steps, int(line)):
            pass
        print(f"seconds {perf_counter() - began}", flush=True)


class Worker:
    """A loop in a process of its own."""

    def __init__(self, name: str, folder: Path, batch: int, device: str) -> None:
        command = [sys.executable, __file__, "--work", name, str(folder), str(batch), device]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, steps: int) -> float:
        """How long so many more steps take."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(steps, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("seconds "):
                return float(line.split()[1])
        raise SystemExit("a loop ended early; its error is above")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def measure(batch: int, steps: int, rounds: int, device: str) -> dict[str, list[float]]:
    """Images a second of every round."""
    speeds: dict[str, list[float]] = {name: [] for name in LOOPS}
    with tempfile.TemporaryDirectory() as folder:
        make_pictures(Path(folder))
        workers = {name: Worker(name, Path(folder), batch, device) for name in LOOPS}
        try:
            for worker in workers.values():
                worker.seconds(1)
            for _ in range(rounds):
                for name, worker in workers.items():
                    speeds[name].append(batch * steps / worker.seconds(steps))
                    print(f"{name:>10s}: {speeds[name][-1]:8.2f} images/s", flush=True)
        finally:
            for worker in workers.values():
                worker.end()
    return speeds


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        name, folder, batch, device = sys.argv[2:]
        work(name, Path(folder), int(batch), device)
        return
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=128 if gpu else 16)
    parser.add_argument("--steps", type=int, default=50 if gpu else 4, help="of each turn")
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    device = "cuda" if gpu else "cpu"
    speeds = measure(arguments.batch, arguments.steps, arguments.rounds, device)
    ours, theirs = (statistics.median(speeds[name]) for name in ("certes", "diffusers"))
    # Of neighbouring turns, so that a machine that is busy for a while is so for both.
    ratio = statistics.median(
        a / b for a, b in zip(speeds["certes"], speeds["diffusers"], strict=True)
    )
    where = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} thread(s)"
    report = Report("training_throughput_gpu" if gpu else "training_throughput")
    report.claim(
        f"training throughput over the diffusers loop, batch {arguments.batch}, bf16, {where} "
        f"({ours:.1f} against {theirs:.1f} images/s)",
        round(ratio, 2), f"at least {TARGET}", ratio >= TARGET,
    )  # fmt: skip
    report.save()


if __name__ == "__main__":
    main()
