"""How a user's files are restored: by whom, with which card; and what is written of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from jaxtyping import Float
from torch import Tensor

from certes.apps.asking import is_conditional, task_options
from certes.apps.cards import find_card
from certes.apps.conditions import ConditionReader
from certes.apps.measurements import AUTOMATIC, MeasurementReader
from certes.apps.options import Asked, SamplingOptions
from certes.apps.origins import Given, Measured
from certes.apps.outputs import all_or_nothing
from certes.apps.restorer import AnyOrigin, Restorer, load_condition_restorer, load_restorer
from certes.apps.sources import Reader, Source
from certes.data.pictures import write_picture, write_tiff_stack
from certes.evaluation.panels import restoration_panel
from certes.intervals.bounds import Bounds
from certes.intervals.cards import Calibration


@dataclass(frozen=True)
class Plan(Generic[AnyOrigin]):
    """How files are restored.

    Args:
        reader: says what happened to them.
        restorer: what restores.
        card: gives the intervals their guarantee.
        insist: whether the user named the card, so that where it does not hold is an error.
    """

    reader: Reader[AnyOrigin]
    restorer: Restorer[Any, AnyOrigin]
    card: Calibration | None
    insist: bool

    def finished(self, source: Source[AnyOrigin], raw: Bounds) -> Bounds:
        """Raw bounds of a picture as its user gets them: with the guarantee, if there is a card.

        A card that came with the model may not hold; then there is none.

        Raises: CalibrationError where the user's own card does not hold.
        """
        card = self.card
        holds = card is not None and (self.insist or card.provenance == raw.provenance)
        return source.origin.framed(card(raw) if card is not None and holds else raw)

    def save(
        self,
        source: Source[AnyOrigin],
        bounds: Bounds,
        out: Path,
        truth: Float[Tensor, "c h w"] | None = None,
    ) -> None:
        """Write the restoration, the intervals and the panel of a picture, all of them or none.

        Raises: OSError when `out` cannot be written to.
        """
        picture = source.picture
        pages = {"lower": bounds.lower, "estimate": bounds.estimate, "upper": bounds.upper}
        with all_or_nothing(out) as folder:
            restored = folder / f"{picture.name}.restored{picture.suffix}"
            write_picture(restored, bounds.estimate[0], picture)
            stack = {name: page[0] for name, page in pages.items()}
            write_tiff_stack(folder / f"{picture.name}.intervals.tif", stack)
            restoration_panel(
                folder / f"{picture.name}.panel.png",
                source.origin.seen(source.y)[0],
                bounds,
                title=f"{picture.name}: {self.reader.name}",
                truth=truth,
                nominal=1 - self.restorer.alpha,
                guarantee=bounds.guarantee,
            )


def plan_restoration(asked: Asked, sampling: SamplingOptions, card: Path | None) -> Plan[Any]:
    """Check all that can be checked before a picture is looked at.

    Raises: CertesError for settings that no picture could be restored with.
    """
    if is_conditional(sampling.model):
        return _plan(*_given(asked, sampling), sampling.model, card)
    return _plan(*_measurements(asked, sampling), sampling.model, card)


def _measurements(
    asked: Asked, sampling: SamplingOptions
) -> tuple[Reader[Measured], Restorer[Any, Measured]]:
    noise = AUTOMATIC if asked.noise is None else str(asked.noise)
    reader = MeasurementReader(task_options(asked, sampling.model), noise)
    reader.check()
    return reader, load_restorer(sampling)


def _given(asked: Asked, sampling: SamplingOptions) -> tuple[Reader[Given], Restorer[Any, Given]]:
    restorer = load_condition_restorer(sampling)
    reader = ConditionReader(restorer.model, asked.mask)
    reader.check(asked, sampling)
    return reader, restorer


def _plan(
    reader: Reader[AnyOrigin], restorer: Restorer[Any, AnyOrigin], source: str, card: Path | None
) -> Plan[AnyOrigin]:
    nominal = reader.nominal()
    wanted = None if nominal is None else restorer.provenance(nominal)
    return Plan(reader, restorer, find_card(card, source, wanted), card is not None)
