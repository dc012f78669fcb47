"""What a user says of the pictures, for models that must be told and models that know it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from certes.apps.options import Asked, SamplingOptions, TaskName, TaskOptions
from certes.conditional.model import KIND, ConditionalModel
from certes.conditional.one_pass.model import OnePassModel
from certes.errors import InputError
from certes.networks import one_pass
from certes.networks.model import kind_of

GivenModel = ConditionalModel | OnePassModel
"""Models that are given conditions, and know what of."""

_SETTLED = ("noise", "factor", "kernel", "mask", "missing", "ratio", "quality", "conditions")


def is_conditional(source: str) -> bool:
    """Whether a model, named as for `certes.load`, is given conditions: it draws, or says bounds.

    Raises: ModelError if there is no such model.
    """
    return kind_of(source) in (KIND, one_pass.KIND)


def task_options(asked: Asked, source: str) -> TaskOptions:
    """The task that a model of pictures is asked to undo.

    Raises: InputError when none was said, or one for conditional models only.
    """
    known = ", ".join(TaskName)
    if asked.task is None:
        raise InputError(
            f"task: none given, and {source} is not a conditional model, which would know its own: "
            f"give --task, one of {known}"
        )
    if asked.task.value not in list(TaskName):
        raise InputError(
            f"task: {asked.task} takes a conditional model, which {source} is not: give the "
            f"--model FOLDER of one (certes train makes them), or one of {known}"
        )
    refuse_conditions(asked.conditions, source)
    return TaskOptions(
        TaskName(asked.task.value),
        asked.factor,
        asked.kernel,
        asked.mask,
        asked.missing,
        asked.ratio,
        asked.quality,
    )


def refuse_conditions(conditions: Path | None, source: str) -> None:
    """For a model of pictures, which none are given.

    Raises: InputError where there are some.
    """
    if conditions is not None:
        raise InputError(
            f"conditions: means nothing for {source}, which is not a conditional model; leave it "
            "out"
        )


def check_settled(
    asked: Asked, sampling: SamplingOptions, model: GivenModel, takes: Collection[str] = ()
) -> None:
    """What a conditional model knows already must not be said otherwise, or again.

    Args:
        asked: what was said.
        sampling: how answers are to be drawn.
        model: what knows its task.
        takes: the options that it still needs.

    Raises: InputError for another task, or an option that training has settled.
    """
    kind = model.task.kind
    if asked.task is not None and asked.task.value != kind:
        raise InputError(
            f"task: {asked.task}, but {model.name} is a conditional model for {kind}: leave it "
            "out, or give another --model"
        )
    said = {name: getattr(asked, name) for name in _SETTLED if name not in takes}
    for name, value in {**said, "colours": sampling.colours}.items():
        if value is not None:
            raise InputError(
                f"{name}: given, but {model.name} is a conditional model for {kind}, whose "
                "training has settled such things; leave it out"
            )
