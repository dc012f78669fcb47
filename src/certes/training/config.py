"""What a training run depends on, its pictures aside."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from certes.data.patches import SYMMETRIES
from certes.errors import InputError
from certes.networks.config import UNetConfig
from certes.networks.denoiser import Head

ObjectiveName = Literal["simple", "bound"]
FixedVariance = Literal["small", "large"]
WeightsName = Literal["uniform", "picture", "level", "min-snr"]
TimesName = Literal["uniform", "stratified", "importance"]
RateDecay = Literal["cosine", "constant"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "precision": ("bf16", "no"),
    "times": get_args(TimesName),
    "rate_decay": get_args(RateDecay),
    "symmetries": SYMMETRIES,
}
_DENOISER_CHOICES: dict[str, tuple[str, ...]] = {
    "objective": get_args(ObjectiveName),
    "variance": get_args(FixedVariance),
    "weights": get_args(WeightsName),
}


@dataclass(frozen=True)
class RunConfig:
    """What every training run depends on, whatever it trains.

    Args:
        network: keys of the network's ``config.json``.
        times: ``uniform``, ``stratified`` or ``importance`` (:mod:`certes.training.times`).
        patch: side of the training patches, pixels.
        busy: share of the patches that are chosen for their content (see ``PatchDataset``).
        symmetries: ``none``, ``flips`` (left and right) or ``square`` (its eight orientations).
        batch: patches a step, over all processes.
        steps: optimiser steps.
        learning_rate: Adam's, after ``warmup`` steps of linear growth.
        rate_decay: of the learning rate from there to the last step: ``cosine`` (to zero) or
            ``constant``.
        clip: largest gradient norm.
        ema: decay of the weight average.
        ema_share: length of the weight average as a share of the run, in place of ``ema``.
        ema_ramp: whether the average is shorter at first, so that the first weights are forgotten.
        precision: ``bf16`` or ``no`` (float32); process mathematics is float32 either way.
        compile: whether the network is compiled (worth it on a GPU).
        seed: of weights, batches and noise.
        checkpoint_every, sample_every: steps between checkpoints, and between sample grids.

    Raises:
        InputError: for a choice that there is not, a patch size that the network cannot have, or a
            number out of range.
    """

    network: dict[str, Any]
    times: TimesName = "stratified"
    patch: int = 64
    busy: float = 0.5
    symmetries: str = "square"
    batch: int = 32
    steps: int = 4500
    learning_rate: float = 1e-3
    warmup: int = 300
    rate_decay: RateDecay = "cosine"
    clip: float = 1.0
    ema: float = 0.999
    ema_share: float | None = None
    ema_ramp: bool = True
    precision: str = "bf16"
    compile: bool = False
    seed: int = 0
    checkpoint_every: int = 250
    sample_every: int = 1000

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)
        for name in ("batch", "steps", "checkpoint_every", "sample_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: {getattr(self, name)}; give at least 1")
        if self.ema_share is not None and not 0 < self.ema_share <= 1:
            raise InputError(f"ema_share: {self.ema_share}; give a share of the run, in (0, 1]")
        multiple = self.multiple
        if self.patch < 1 or self.patch % multiple:
            raise InputError(
                f"patch: {self.patch} pixels; this network needs a multiple of {multiple}"
            )

    def unet(self) -> UNetConfig:
        """The network's shape."""
        return UNetConfig.from_dict(self.network)

    @property
    def multiple(self) -> int:
        """What the side of patches must be a multiple of."""
        return self.unet().multiple

    @property
    def channels(self) -> int:
        """Of the training patches, where they are pictures."""
        return self.unet().in_channels

    @property
    def average_decay(self) -> float:
        """The weight average's decay: ``ema``, or the one whose length is ``ema_share``."""
        if self.ema_share is None:
            return self.ema
        return 1 - 1 / max(self.ema_share * self.steps, 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return json.loads(json.dumps(asdict(self)))


@dataclass(frozen=True)
class TrainingConfig(RunConfig):
    """One training run of a denoiser of pictures; what is not here is :class:`RunConfig`'s.

    Args:
        schedule: keys of a noise schedule, with its ``kind``.
        prediction: what the network predicts (``noise``, ``x0``, ``v``, ``score``, ``mean``).
        head: what a second half of its outputs says of variances (``residual``, ``range``; ``None``
            is ``residual`` where there is one).
        center, scale: image value seen as 0, and image units for one network unit.
        objective: ``simple`` or ``bound`` (:mod:`certes.training.objectives`).
        variance: of the bound's reverse steps where no head learns it: ``small`` or ``large``.
        weights: of the pictures in the simple objective: ``uniform``, ``picture``, ``level``,
            ``min-snr`` (:mod:`certes.training.weights`).
    """

    schedule: dict[str, Any] = field(default_factory=lambda: {"kind": "cosine"})
    prediction: str = "v"
    head: Head | None = None
    center: float = 0.5
    scale: float = 0.5
    objective: ObjectiveName = "simple"
    variance: FixedVariance = "large"
    weights: WeightsName = "picture"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, _DENOISER_CHOICES)


def check_choices(config: RunConfig, choices: dict[str, tuple[str, ...]]) -> None:
    """An ``InputError`` for a field that has none of the values that it may have."""
    for name, known in choices.items():
        if getattr(config, name) not in known:
            raise InputError(f"{name}: {getattr(config, name)!r}; give one of {', '.join(known)}")
