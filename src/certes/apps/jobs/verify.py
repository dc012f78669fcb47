"""Check a card on held-out pictures, or the calibration procedure on synthetic ones."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from certes.apps.cards import check_card
from certes.apps.console import progress
from certes.apps.experiment import Experiment, gathered, read_truths
from certes.apps.options import HeldOutOptions, SamplerName, SamplingOptions
from certes.apps.restorer import load_restorer
from certes.apps.tasks import task_of_label
from certes.errors import CalibrationError
from certes.intervals.bounds import Provenance
from certes.intervals.cards import Calibration
from certes.intervals.verification import Row, synthetic_experiments, verify_card


def verify_rules(trials: int, seed: int) -> dict[str, Any]:
    """Run every synthetic experiment; ``holds`` says whether all verdicts are as they must be."""
    experiments = synthetic_experiments()
    rows: list[Row] = []
    with progress("calibrating afresh", len(experiments)) as advance:
        for i, experiment in enumerate(experiments):
            rows.append(experiment.run(trials, alpha=0.1, delta=0.1, seed=seed + i))
            advance(1)
    entries = [
        {**asdict(row), "verdict": row.verdict, "as_expected": row.as_expected} for row in rows
    ]
    return {"trials": trials, "holds": all(row.as_expected for row in rows), "rows": entries}


def verify_held_out(path: Path, data: Path, options: HeldOutOptions) -> dict[str, Any]:
    """Repeat on the pictures in `data` what the card was made for, and compare the risk.

    Raises: CertesError for a card that does not say what it was made for, or not with this model.
    """
    card = Calibration.load(path)
    made = card.provenance
    if made is None:
        raise CalibrationError(f"{path}: the card does not say what made its bounds")
    sampling = _sampling(path, made, options)
    restorer = load_restorer(sampling)
    task, noise = task_of_label(made.operator, options.seed), made.noise or 0.0
    check_card(card, restorer.provenance(task.operator(task.nominal, 0), noise))
    experiment = Experiment(task, noise, restorer, options.seed)
    bounds, truth = gathered(list(experiment.run(read_truths(data, options.crop))))
    result = verify_card(card, bounds, truth, options.seed)
    return {
        **asdict(result),
        "card": str(path),
        "operator": made.operator,
        "noise": noise,
        "verdict": result.verdict,
        "holds": result.verdict == "holds",
    }


def _sampling(path: Path, made: Provenance, options: HeldOutOptions) -> SamplingOptions:
    if made.samples is None or made.steps is None or made.alpha is None:
        raise CalibrationError(f"{path}: not a card of the samplers that this command can repeat")
    return SamplingOptions(
        options.model,
        made.samples,
        made.steps,
        made.alpha,
        options.seed,
        SamplerName(made.sampler or SamplerName.PINNED),
        options.device,
    )
