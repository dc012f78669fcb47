"""What every worker is told."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from certes import __version__
from certes.apps.options import Asked, SamplingOptions
from certes.apps.plans import Plan


@dataclass(frozen=True)
class Job:
    """How pictures are restored, where to, and compared with what.

    Args:
        asked: the task.
        sampling: the model and its settings.
        card: the user's calibration card.
        truth: the folder of true pictures.
        out: where results go, as :class:`~certes.apps.batch.places.Place` takes it.
    """

    asked: Asked
    sampling: SamplingOptions
    card: Path | None
    truth: Path | None
    out: str

    def mark(self, plan: Plan[Any]) -> str:
        """Of all that results depend on: equal marks, equal results.

        Args:
            plan: made of this job; the model and the card are those that it found at their paths.
        """
        kernel = self.asked.kernel
        told: dict[str, Any] = {
            "version": __version__,
            "model_hash": plan.restorer.model.hash,
            "card": None if plan.card is None else plan.card.card(),
            "files": [_digest(self.asked.mask), _digest(None if kernel is None else Path(kernel))],
            **asdict(self.asked),
            **asdict(self.sampling),
        }
        words = json.dumps(told, sort_keys=True, default=str)
        return hashlib.blake2b(words.encode(), digest_size=8).hexdigest()


def _digest(path: Path | None) -> str | None:
    if path is None or not path.is_file():
        return None
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
