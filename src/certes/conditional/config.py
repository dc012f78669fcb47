"""What a conditional training run depends on, its pictures aside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from certes.conditional.estimators import Estimator, estimator_from_config
from certes.conditional.tasks import ConditionalTask, task_from_config
from certes.errors import InputError
from certes.networks.conditional import Block
from certes.training.config import RunConfig, check_choices

Fit = Literal["crop", "resize", "celeba"]


@dataclass(frozen=True, kw_only=True)
class ConditionalConfig(RunConfig):
    """One training run of a conditional model; what is not here is :class:`RunConfig`'s.

    Args:
        task: keys of a task, with its ``kind`` (:mod:`certes.conditional.tasks`).
        estimator: keys of an estimator (:mod:`certes.conditional.estimators`).
        x, y: keys of the picture's block and of the condition's
            (:class:`~certes.networks.conditional.Block`).
        fit: how pictures become patches: ``crop`` (at random places), ``resize`` (the whole
            picture, as CelebA-HQ) or ``celeba`` (its middle 140 pixels, resized).

    Raises:
        InputError: for a network whose channels are not those of the blocks.
    """

    task: dict[str, Any]
    estimator: dict[str, Any]
    x: dict[str, Any]
    y: dict[str, Any] = field(default_factory=lambda: {"channels": 1})
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, {"fit": get_args(Fit)})
        net, estimator, task = self.unet(), self.made_estimator(), self.made_task()
        x, y = self.blocks()
        if y.channels != task.channels(x.channels):
            raise InputError(
                f"y: {y.channels} channels; task {task.kind!r} makes conditions of "
                f"{task.channels(x.channels)} from pictures of {x.channels}"
            )
        wanted = (x.channels + y.channels, x.channels + y.channels * estimator.predicts_y, 2)
        given = (net.in_channels, net.out_channels, net.noise_levels)
        if given != wanted:
            raise InputError(
                f"network: in_channels, out_channels, noise_levels = {given}; these blocks and "
                f"this estimator need {wanted}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``fit`` where it is not the rule."""
        values = super().to_dict()
        return {k: v for k, v in values.items() if k != "fit" or v != "crop"}

    def made_estimator(self) -> Estimator:
        """The estimator."""
        return estimator_from_config(self.estimator)

    def made_task(self) -> ConditionalTask:
        """The task."""
        return task_from_config(self.task)

    def blocks(self) -> tuple[Block, Block]:
        """The picture's block and the condition's.

        Raises:
            InputError: for keys that a block does not have.
        """
        try:
            return Block(**self.x), Block(**self.y)
        except TypeError as error:
            raise InputError(f"x, y: not the keys of a block ({error})") from error
