"""The training loop. Every step is a pure function of (configuration, data, step number).

Batches, noise levels and noise come from generators seeded by the step, so a run that was killed and
resumed is the run that was never killed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from jaxtyping import Float
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from certes.data.patches import PatchDataset
from certes.diffusion.noise import stream_seeds
from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.schedules import schedule_from_config
from certes.errors import ModelError
from certes.networks.denoiser import NetworkDenoiser
from certes.networks.unet import UNet, initialise
from certes.training.averaging import WeightAverage
from certes.training.checkpoints import load_checkpoint, save_checkpoint
from certes.training.objectives import Losses, losses, noisy_batch
from certes.training.preview import save_sample_grid
from certes.training.presets import TrainingConfig

CHECKPOINT = "checkpoint.safetensors"


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, then a cosine to zero at the last step."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    share = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.learning_rate * (1 + math.cos(math.pi * share)) / 2


def build(config: TrainingConfig) -> NetworkDenoiser:
    """A freshly initialised network for a configuration, as the denoiser it is to become."""
    torch.manual_seed(config.seed)
    net = UNet(config.unet())
    initialise(net)
    return NetworkDenoiser(
        net.to(memory_format=torch.channels_last),  # pyright: ignore
        schedule_from_config(config.schedule),
        Parametrisation(config.prediction),
        config.center,
        config.scale,
    )


class Run:
    """One training run in a folder: the loop and the state it saves.

    Args:
        config: what is trained.
        data: training pictures.
        out: folder for checkpoints, logs (TensorBoard) and sample grids.
        resume: go on from the folder's checkpoint; without it an existing one is an error.
    """

    def __init__(self, config: TrainingConfig, data: PatchDataset, out: Path, resume: bool) -> None:
        self.config, self.data, self.out = config, data, out
        self.accelerator = Accelerator(
            mixed_precision=config.precision, log_with="tensorboard", project_dir=str(out)
        )
        self.denoiser = build(config)
        net = self.denoiser.net
        self.average = WeightAverage(net, config.ema)
        optimiser = torch.optim.Adam(net.parameters(), lr=config.learning_rate)
        self.step = self._start(net, optimiser, resume)
        self.net, self.optimiser = self.accelerator.prepare(
            torch.compile(net) if config.compile else net, optimiser
        )
        device = self.accelerator.device
        self.average.weights = {k: v.to(device) for k, v in self.average.weights.items()}

    def _start(self, net: UNet, optimiser: torch.optim.Adam, resume: bool) -> int:
        path = self.out / CHECKPOINT
        if path.exists() and not resume:
            raise ModelError(f"{path} exists; give --resume to go on from it, or another --out folder")
        if not path.exists():
            return 0
        return load_checkpoint(path, net, self.average, optimiser, self.config.to_dict())

    def train(self) -> NetworkDenoiser:
        """Run to the last step; returns the denoiser with the averaged weights."""
        self.accelerator.init_trackers("logs")
        with _progress(self.accelerator.is_main_process) as progress:
            task = progress.add_task("training", total=self.config.steps, completed=self.step)
            for loss in self._steps():
                progress.update(task, completed=self.step, description=f"loss {loss:.4f}")
        self.accelerator.end_training()
        return self.averaged()

    def averaged(self) -> NetworkDenoiser:
        """The denoiser with the averaged weights, float32, ready to use."""
        denoiser = build(self.config)
        denoiser.net.load_state_dict(self.average.weights)
        denoiser.net.to(self.accelerator.device).eval()
        return denoiser

    def _steps(self) -> Iterator[float]:
        while self.step < self.config.steps:
            loss = self._one_step()
            self.step += 1
            self.average.update(self.accelerator.unwrap_model(self.net), self.step)
            last = self.step == self.config.steps
            if self.step % self.config.checkpoint_every == 0 or last:
                self._save()
            if self.step % self.config.sample_every == 0 or last:
                save_sample_grid(self.averaged(), self.config.patch, self.out, self.step)
            if self.step % 10 == 0:
                values = {"loss/simple": float(loss.simple), "loss/variance": float(loss.variance)}
                self.accelerator.log(values, step=self.step)
            yield float(loss.simple)

    def _one_step(self) -> Losses:
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(config, self.step)
        x_t, target, time = self._noisy()
        with self.accelerator.autocast():
            output = self.net(x_t, time)
        loss = losses(output, target)
        self.accelerator.backward(loss.total)
        self.accelerator.clip_grad_norm_(self.net.parameters(), config.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss

    def _noisy(self) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"], Tensor]:
        """The step's own batch: every process takes its share of it."""
        config, device = self.config, self.accelerator.device
        batch = self.data.batch(self.step, config.batch, config.seed)
        (seed,) = stream_seeds(config.seed, [f"step {self.step}"])
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout
        parts = noisy_batch(self.denoiser, batch, generator)
        share = slice(self.accelerator.process_index, None, self.accelerator.num_processes)
        x_t, target, time = (part[share].to(device) for part in parts)
        return x_t.contiguous(memory_format=torch.channels_last), target, time

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            save_checkpoint(
                self.out / CHECKPOINT,
                self.accelerator.unwrap_model(self.net),
                self.average,
                self.optimiser.optimizer,
                self.step,
                self.config.to_dict(),
            )


def _progress(enabled: bool) -> Progress:
    return Progress(
        TextColumn("{task.description:>14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=not enabled,
    )
