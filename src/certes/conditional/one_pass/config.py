"""What a run that learns bounds depends on, its pictures aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from certes.conditional.tasks import ConditionalTask, task_from_config
from certes.errors import InputError
from certes.networks.heads import HEADS
from certes.training.config import RunConfig

METHODS = ("n-conffusion", "g-conffusion", "adm-uq", "dm-sba")


@dataclass(frozen=True, kw_only=True)
class OnePassConfig(RunConfig):
    """One run; what is not here is :class:`RunConfig`'s.

    Args:
        method: which of the methods it is; calibration cards tell them apart by it.
        task: keys of a task, with its ``kind`` (:mod:`certes.conditional.tasks`).
        front: how the network is shown conditions (:mod:`certes.networks.one_pass`).
        start: hash of the model that it starts from, or what else it starts from.
        head: what the network answers (:mod:`certes.networks.heads`).
        alpha: share of pixels that the bounds aim to miss, half of it on either side.

    Raises:
        InputError: for an alpha that is no share, or a head or method that there is not.
    """

    method: str
    task: dict[str, Any]
    front: dict[str, Any]
    start: str
    head: str = "quantiles"
    alpha: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha: {self.alpha}; give a share of pixels in (0, 1)")
        for name, known in (("head", tuple(HEADS)), ("method", METHODS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name}: {getattr(self, name)!r}; give one of {', '.join(known)}")

    def made_task(self) -> ConditionalTask:
        """The task."""
        return task_from_config(self.task)
