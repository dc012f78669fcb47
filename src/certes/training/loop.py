"""The training loop. Every step is a pure function of (configuration, data, step number).

Batches, noise levels and noise come from generators seeded by the step, so a run that was killed
and resumed is the run that was never killed. Noise is drawn on the training device, which is to say
that devices of different kinds train different, equally good networks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, cast

import torch
from accelerate import Accelerator  # pyright: ignore[reportMissingTypeStubs]
from jaxtyping import Float
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from certes.data.files import sweep
from certes.diffusion.noise import stream_seeds
from certes.errors import InputError, ModelError
from certes.training.adam import Adam
from certes.training.averaging import WeightAverage
from certes.training.batches import Batches, prefetched
from certes.training.checkpoints import load_checkpoint, save_checkpoint
from certes.training.config import RunConfig
from certes.training.noising import NoisyBatch
from certes.training.objectives import Losses
from certes.training.processes import is_main, join, mean_of_all
from certes.training.recipe import Denoises, Recipe
from certes.training.times import TimeSampler

CHECKPOINT = "checkpoint.safetensors"
_SHOWN = 16  # patches that a recipe may use for its pictures
LOG_EVERY = 10  # steps; to read a loss is to wait for the device

_torch = cast(Any, torch)  # some of its functions are typed in part only


def learning_rate(config: RunConfig, step: int) -> float:
    """Linear warm-up, then constant or a cosine to zero at the last step."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    if config.rate_decay == "constant":
        return config.learning_rate
    share = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.learning_rate * (1 + math.cos(math.pi * share)) / 2


class Run(Generic[Denoises]):
    """One training run in a folder: the loop and the state it saves.

    Started by ``torchrun`` or ``accelerate launch`` on several devices, each takes its share of
    every batch. All that is random is drawn for the whole batch, and the gradient is that of the
    whole batch: the losses, the weights and the checkpoints are, up to rounding, those of one
    device, and either goes on from the checkpoint of the other. Dropout alone depends on how many
    they are. The main process writes.

    Args:
        recipe: what is trained.
        data: training pictures.
        out: folder for checkpoints, logs (TensorBoard) and sample grids.
        resume: go on from the folder's checkpoint; without it an existing one is an error.

    Raises:
        InputError: if the devices cannot share a batch evenly.
        ModelError: if the checkpoint does not fit, or not all processes see it.
    """

    def __init__(self, recipe: Recipe[Denoises], data: Batches, out: Path, resume: bool) -> None:
        self.recipe, self.data, self.out = recipe, data, out
        self.config = config = recipe.config
        join()
        # Precision is our own autocast: Accelerator keeps one for the life of the program.
        self.accelerator: Any = Accelerator(
            mixed_precision="no", log_with="tensorboard", project_dir=str(out)
        )
        check_share(config.batch, self.accelerator.num_processes)
        self.share = slice(self.accelerator.process_index, None, self.accelerator.num_processes)
        self.device: torch.device = self.accelerator.device
        self.denoiser = recipe.build()
        net = self.denoiser.net.to(self.device)
        self.objective = recipe.objective(self.denoiser, self.device)
        self.times = TimeSampler(recipe.schedule, config.times, self.device)
        self.average = WeightAverage(net, config.average_decay, config.ema_ramp)
        self.net: Any = self.accelerator.prepare(_torch.compile(net) if config.compile else net)
        # Several processes' weights lie elsewhere from then on, and the optimiser writes in place.
        self.optimiser = Adam(net.parameters(), config.learning_rate)
        self.step = self._start(resume)
        self._check_start()

    def _start(self, resume: bool) -> int:
        path = self.out / CHECKPOINT
        if not path.exists():
            return 0
        if not resume:
            raise ModelError(f"{path} exists; give --resume to go on, or another --out folder")
        if is_main():
            sweep(self.out)
        state = (self.denoiser.net, self.average, self.optimiser, self.levels())
        return load_checkpoint(path, *state, self.config.to_dict())

    def _check_start(self) -> None:
        """All processes must go on from the same step."""
        step = torch.tensor(float(self.step), device=self.device)
        if float(mean_of_all(step)) != self.step:
            raise ModelError(
                f"checkpoint {self.out / CHECKPOINT}: not every process finds it; give an --out "
                "folder that all machines share"
            )

    def levels(self) -> dict[str, Tensor]:
        """What was learned of the noise levels: part of the state."""
        owners = {"times": self.times.moments, "weights": self.objective.moments}
        return {
            f"{owner}.{name}": value
            for owner, moments in owners.items()
            if moments is not None
            for name, value in moments.state().items()
        }

    def train(self) -> Denoises:
        """Run to the last step; returns the denoiser with the averaged weights."""
        self.accelerator.init_trackers("logs")
        try:
            with _progress(is_main()) as progress:
                task = progress.add_task("training", total=self.config.steps, completed=self.step)
                for loss in self.steps():
                    progress.update(task, completed=self.step)
                    if self.step % LOG_EVERY == 0:
                        progress.update(task, description=f"loss {float(loss):.4f}")
        finally:
            for tracker in self.accelerator.trackers:
                tracker.finish()
        return self.averaged()

    def averaged(self) -> Denoises:
        """The denoiser with the averaged weights, float32, ready to use."""
        denoiser = self.recipe.build()
        denoiser.net.load_state_dict(self.average.weights)
        denoiser.net.to(self.device).eval()
        return denoiser

    def steps(self) -> Iterator[Float[Tensor, ""]]:
        """Make every step that is left; yields its simple loss, still on the device.

        The loss is that of the whole batch, the same on every process.
        """
        with closing(prefetched(self._batch, range(self.step, self.config.steps))) as batches:
            for batch in batches:
                done = self._one_step(batch)
                self.step += 1
                self.average.update(self.denoiser.net, self.step)
                self._record(done)
                yield done.simple

    def _batch(self, step: int) -> Float[Tensor, "b c s s"]:
        batch = self.data.batch(step, self.config.batch, self.config.seed, self.share)
        if batch.shape[1] != self.recipe.channels:
            raise InputError(
                f"data: pictures of {batch.shape[1]} channel(s) for a network of "
                f"{self.recipe.channels}; convert them, or choose another preset"
            )
        return batch.pin_memory() if self.device.type == "cuda" else batch

    def _one_step(self, batch: Float[Tensor, "b c s s"]) -> StepLosses:
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(config, self.step)
        noisy = self._noisy(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            x_t = noisy.x_t.contiguous(memory_format=torch.channels_last)
            output: Tensor = self.net(x_t, noisy.conditioning)
        loss = self.objective(output, noisy)
        self.accelerator.backward((loss.each * noisy.weight).mean())
        norm = self.accelerator.clip_grad_norm_(self.net.parameters(), config.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self._learn_levels(noisy.t, loss)
        parts = (loss.each.detach(), loss.simple, loss.variance)
        means = torch.stack([part.mean().float() for part in parts])
        each, simple, variance = mean_of_all(means).unbind()
        return StepLosses(each, simple, variance, norm)

    def _learn_levels(self, t: Float[Tensor, " b"], loss: Losses) -> None:
        """From the whole batch, so that every process draws and weights alike."""
        if self.levels():
            parts = (t, loss.each.detach().to(t), loss.simple.to(t))
            t, each, simple = self.accelerator.gather(torch.stack(parts, dim=1)).unbind(1)
            self.times.update(t, each)
            self.objective.learn(t, simple)

    def _noisy(self, batch: Float[Tensor, "b c s s"]) -> NoisyBatch:
        """This process's share of the step's inputs, targets and times.

        Random numbers are drawn, and pictures noised, for the whole batch; the pictures of the
        other processes are blank here, and left out again.
        """
        name, rank = f"step {self.step}", self.accelerator.process_index
        seed, other = stream_seeds(self.config.seed, [name, f"{name}, process {rank}"])
        _torch.manual_seed(other if rank else seed)  # dropout
        generator = torch.Generator(self.device).manual_seed(seed)
        drawn = self.times.draw(self.config.batch, generator)
        x0 = batch.new_zeros(self.config.batch, *batch.shape[1:], device=self.device)
        x0[self.share] = batch.to(self.device, non_blocking=True)
        noisy = self.recipe.noisy(self.denoiser, x0, drawn, generator, self.step)
        return noisy.of(self.share)

    def _record(self, done: StepLosses) -> None:
        """Logs, checkpoints and sample grids, whenever they are due."""
        config, last = self.config, self.step == self.config.steps
        save = last or self.step % config.checkpoint_every == 0
        if save or self.step % LOG_EVERY == 0:
            self._check(done)
        if self.step % LOG_EVERY == 0:
            values = {"loss/simple": done.simple, "loss/variance": done.variance}
            values = {name: float(value) for name, value in values.items()}
            self.accelerator.log(values, step=self.step)
        if save:
            self.save()
        if last or self.step % config.sample_every == 0:
            self._show()

    def _check(self, done: StepLosses) -> None:
        """Stop before useless weights replace the last good checkpoint."""
        if not bool(torch.isfinite(done.each + done.norm)):
            raise ModelError(
                f"training: the loss is not finite at step {self.step}; lower learning_rate "
                f"({self.config.learning_rate}) and start again"
            )

    def save(self) -> None:
        """Write the checkpoint, as every ``checkpoint_every`` steps."""
        if is_main():
            path, net = self.out / CHECKPOINT, self.denoiser.net
            state = (net, self.average, self.optimiser, self.levels(), self.step)
            save_checkpoint(path, *state, self.config.to_dict())

    def _show(self) -> None:
        if is_main():
            patches = self.data.batch(0, _SHOWN, self.config.seed).to(self.device)
            grid = self.recipe.show(self.averaged(), patches, self.out, self.step)
            for tracker in self.accelerator.trackers:
                images = {"samples": grid[None].numpy()}
                tracker.log_images(images, step=self.step, dataformats="NHWC")


@dataclass(frozen=True)
class StepLosses:
    """What a step cost, on average over the whole batch.

    Args:
        each: what was differentiated, but for the weights of the drawn times.
        simple: the squared error alone.
        variance: what the variance costs.
        norm: of the gradient, before it was clipped.
    """

    each: Float[Tensor, ""]
    simple: Float[Tensor, ""]
    variance: Float[Tensor, ""]
    norm: Float[Tensor, ""]


def check_share(batch: int, processes: int) -> None:
    """Every process must get as many patches of a batch as any other.

    Raises:
        InputError: if it cannot be.
    """
    if batch % processes:
        raise InputError(
            f"batch: {batch} patches cannot be shared evenly by {processes} processes; start as "
            "many as divide it, or give a multiple"
        )


def _progress(enabled: bool) -> Progress:
    return Progress(  # stdout is the result's
        TextColumn("{task.description:>14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not enabled,
    )
