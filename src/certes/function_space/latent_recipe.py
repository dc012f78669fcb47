"""How codes are learned: the training loop of pictures, handed codes as pictures of one pixel.

It is the second stage of a model of functions, when the first has been trained.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from certes.data.mosaic import mosaic
from certes.data.patches import EVERY
from certes.data.pictures import Picture, write_picture
from certes.diffusion.schedules import Schedule, schedule_from_config
from certes.errors import InputError
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.latent import LatentNetwork, LatentPrior, LatentShape
from certes.function_space.recipe import CoordinateMatching
from certes.function_space.sampling import sample_functions
from certes.function_space.training_config import FunctionConfig
from certes.training.batches import Batches
from certes.training.config import RunConfig
from certes.training.loop import Run
from certes.training.noising import NoisyBatch
from certes.training.recipe import Recipe
from certes.training.times import Drawn

Codes = Float[Tensor, "b z 1 1"]

_torch = cast(Any, torch)
_CHUNK = 64
_LEAST = 1e-6
_COLUMNS, _SHOWN = 4, 8

CODED_PATCHES, CODE_STEPS = 1024, 3000
"""From how many patches the codes of a model of functions are learned, each in eight orientations,
and in how many steps at most."""


@dataclass(frozen=True, kw_only=True)
class LatentConfig(RunConfig):
    """One training run on codes; what is not here is :class:`RunConfig`'s.

    Args:
        network: keys of a :class:`~certes.function_space.latent.LatentShape`.
        schedule: keys of a noise schedule, with its ``kind``.
    """

    schedule: dict[str, Any] = field(default_factory=lambda: {"kind": "cosine"})
    patch: int = 1
    batch: int = 128
    steps: int = 3000
    warmup: int = 100
    precision: str = "no"
    checkpoint_every: int = 500

    def shape(self) -> LatentShape:
        """The network's shape."""
        return LatentShape(**self.network)

    @property
    def multiple(self) -> int:
        """Any, of one pixel."""
        return 1

    @property
    def channels(self) -> int:
        """Numbers in a code."""
        return self.shape().latent


def second_stage(config: FunctionConfig) -> LatentConfig | None:
    """The run on codes that follows a run; ``None`` where functions have no codes."""
    latent, steps = config.operator().latent, min(config.steps, CODE_STEPS)
    if not latent:
        return None
    return LatentConfig(network={"latent": latent}, steps=steps, sample_every=steps)


class CodeBatches:
    """Standardised codes of training pictures.

    Args:
        codes: as the encoder gives them.

    Raises:
        InputError: for fewer than two, which have no spread.
    """

    def __init__(self, codes: Float[Tensor, "n z"]) -> None:
        if len(codes) < 2:
            raise InputError(f"codes: {len(codes)}; give at least two")
        self.mean, self.deviation = codes.mean(0), codes.std(0).clamp(min=_LEAST)
        self._codes = (codes - self.mean) / self.deviation

    def batch(self, step: int, batch_size: int, seed: int, share: slice = EVERY) -> Codes:
        """The codes of one step: a pure function of (seed, step); only those of the share."""
        drawn = np.random.default_rng([seed, step]).integers(len(self._codes), size=batch_size)
        return self._codes[torch.as_tensor(drawn[share])][..., None, None]


def codes_of(
    denoiser: FunctionDenoiser, data: Batches, count: int, seed: int = 0
) -> Float[Tensor, "n z"]:
    """Codes of training patches, each in its eight orientations.

    Args:
        denoiser: has an encoder.
        data: the patches.
        count: of patches that are drawn.
        seed: of the draw.

    Raises:
        ModelError: if the model has no encoder.
    """
    found: list[Tensor] = []
    for step, first in enumerate(range(0, count, _CHUNK)):
        patches = data.batch(step, min(_CHUNK, count - first), seed).to(denoiser.device)
        found += [denoiser.encode(turned).cpu() for turned in orientations(patches)]
    return torch.cat(found)


def orientations(x: Float[Tensor, "b c s s"]) -> list[Float[Tensor, "b c s s"]]:
    """The eight orientations of square pictures."""
    turned = [x.rot90(k, (2, 3)) for k in range(4)]
    return [*turned, *(picture.flip(3) for picture in turned)]


class LatentRecipe(Recipe[LatentPrior]):
    """Models of codes.

    Args:
        config: what is trained.
        codes: what it is trained on, for their mean and deviation.
        functions: whose codes they are: functions are drawn, to be looked at.
    """

    def __init__(
        self, config: LatentConfig, codes: CodeBatches, functions: FunctionDenoiser
    ) -> None:
        self._config, self._codes, self._functions = config, codes, functions
        self._schedule = schedule_from_config(config.schedule)

    @property
    def config(self) -> LatentConfig:
        return self._config

    @property
    def channels(self) -> int:
        """Numbers in a code."""
        return self._config.channels

    @property
    def schedule(self) -> Schedule:
        return self._schedule

    def build(self) -> LatentPrior:
        with _torch.random.fork_rng(devices=[]):
            _torch.manual_seed(self._config.seed)
            net = LatentNetwork(self._config.shape())
        return LatentPrior(net, self._schedule, self._codes.mean, self._codes.deviation)

    def objective(self, denoiser: LatentPrior, device: torch.device) -> CoordinateMatching:
        return CoordinateMatching(self.channels)

    def noisy(
        self,
        denoiser: LatentPrior,
        patches: Codes,
        drawn: Drawn,
        generator: torch.Generator,
        step: int,
    ) -> NoisyBatch:
        noise = torch.randn(patches.shape, generator=generator, device=generator.device)
        t = drawn.t
        alpha, sigma = self._schedule.alpha(t), self._schedule.sigma(t)
        x_t = _column(alpha, patches) * patches + _column(sigma, patches) * noise
        target = denoiser.parametrisation.target(x_t, patches, self._schedule, t)
        return NoisyBatch(patches, x_t, target, (1000 * t).to(patches), t, drawn.weight)

    def show(
        self, denoiser: LatentPrior, patches: Codes, out: Path, step: int
    ) -> UInt8[Tensor, "height width c"]:
        side = self._functions.net.config.domain
        codes = denoiser.sample(_SHOWN)
        pictures = sample_functions(self._functions, (side, side), count=_SHOWN, code=codes)
        grid = mosaic(pictures.clamp(0, 1), _COLUMNS)
        write_picture(out / f"samples-{step}.png", grid, Picture("samples", grid, None, "uint8"))
        return (grid * 255).round().byte().movedim(0, -1)


def _column(values: Float[Tensor, " b"], like: Tensor) -> Float[Tensor, "b 1 1 1"]:
    return values.to(like)[:, None, None, None]


def learn_codes(
    config: LatentConfig, functions: FunctionDenoiser, data: Batches, out: Path, resume: bool
) -> LatentPrior:
    """The second stage of a model of functions: a model of the codes of training patches.

    Every process reads the codes, which takes seconds, and all learn them together.

    Args:
        config: what is trained.
        functions: the trained network; its weights are rounded to those that are stored.
        data: the training patches.
        out: folder of the run on codes.
        resume: go on from the folder's checkpoint.

    Raises:
        ModelError: if the folder holds another run.
    """
    functions.net.to(torch.bfloat16).float()
    codes = CodeBatches(codes_of(functions, data, CODED_PATCHES))
    return Run(LatentRecipe(config, codes, functions), codes, out, resume).train()
