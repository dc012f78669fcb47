"""Pictures that a model or a card is judged by must be new to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from certes.apps.console import note
from certes.apps.experiment import Experiment
from certes.data.fingerprints import sketched
from certes.data.pictures import Picture
from certes.errors import CalibrationError
from certes.intervals.cards import Calibration
from certes.networks.model import folder_of
from certes.training.fitted import Fitted, check_unseen, listed


def check_calibration_pictures(
    experiment: Experiment[Any], pictures: Sequence[Picture], source: str
) -> None:
    """Refuse to calibrate a model on pictures that it knows.

    Args:
        experiment: what they are for.
        pictures: as `Measuring.read` gives them.
        source: the model, as for `certes.load`.

    Raises: CalibrationError naming the pictures.
    """
    fitted = Fitted.load(folder_of(source))
    if fitted is not None:
        check_unseen(fitted, _truths(experiment, pictures), _names(pictures))


def note_unknown_training(source: str) -> None:
    """Say so where nobody can tell what a model knows."""
    if Fitted.load(folder_of(source)) is None:
        note(
            "This model keeps no fingerprints of what it was trained on: that the calibration "
            "pictures are new to it cannot be checked."
        )


def check_held_out_pictures(
    experiment: Experiment[Any], pictures: Sequence[Picture], source: str, card: Calibration
) -> None:
    """Refuse to verify a card on pictures that the model or the card knows.

    Raises: CalibrationError naming the pictures.
    """
    for complaint in _complaints(experiment, pictures, source, card):
        raise CalibrationError(complaint)


def warn_of_known_pictures(
    experiment: Experiment[Any], pictures: Sequence[Picture], source: str, card: Calibration | None
) -> None:
    """Say which of the pictures the model or the card knows."""
    for complaint in _complaints(experiment, pictures, source, card):
        note(f"warning: {complaint}")


def _complaints(
    experiment: Experiment[Any], pictures: Sequence[Picture], source: str, card: Calibration | None
) -> Iterator[str]:
    fitted = Fitted.load(folder_of(source))
    if fitted is not None:
        complaint = fitted.complaint(_truths(experiment, pictures), _names(pictures))
        if complaint is not None:
            yield complaint
    known = [] if card is None else sketched(card.sketches, _truths(experiment, pictures))
    names = [picture.name for picture, found in zip(pictures, known, strict=False) if found]
    if names:
        yield (
            f"data: of {len(pictures)} pictures, {len(names)} served to calibrate the card "
            f"({listed(names)}): it holds for those by construction, which proves nothing; leave "
            "them out"
        )


def _truths(
    experiment: Experiment[Any], pictures: Sequence[Picture]
) -> Iterator[Float[Tensor, "c h w"]]:
    """What is restored of each picture, without what may be stacked on it."""
    for index, picture in enumerate(pictures):
        yield experiment.measuring.observe(picture, index).truth[0]


def _names(pictures: Sequence[Picture]) -> list[str]:
    return [picture.name for picture in pictures]
