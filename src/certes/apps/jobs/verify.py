"""Check a card on held-out pictures, or the calibration procedure on synthetic ones."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from certes.apps.asking import is_conditional, refuse_conditions
from certes.apps.cards import check_card
from certes.apps.console import progress
from certes.apps.experiment import Experiment, gathered
from certes.apps.measuring import ByOperator, plan_experiment
from certes.apps.novelty import check_held_out_pictures
from certes.apps.options import Asked, HeldOutOptions, PolicyName, SamplerName, SamplingOptions
from certes.apps.restorer import load_restorer
from certes.apps.tasks import task_of_label
from certes.conditional.one_pass.config import METHODS
from certes.conditional.restore import GIVEN
from certes.errors import CalibrationError
from certes.intervals.bounds import Provenance
from certes.intervals.cards import Calibration
from certes.intervals.experiments import Row
from certes.intervals.verification import synthetic_experiments, verify_card


def verify_rules(trials: int, seed: int) -> dict[str, Any]:
    """Run every synthetic experiment; ``holds`` says whether all verdicts are as they must be."""
    experiments = synthetic_experiments()
    rows: list[Row] = []
    with progress("calibrating afresh", len(experiments)) as advance:
        for experiment in experiments:
            rows += experiment.run(trials, alpha=0.1, delta=0.1, seed=seed)
            advance(1)
    entries = [
        {**asdict(row), "verdict": row.verdict, "as_expected": row.as_expected} for row in rows
    ]
    return {"trials": trials, "holds": all(row.as_expected for row in rows), "rows": entries}


def verify_held_out(path: Path, data: Path, options: HeldOutOptions) -> dict[str, Any]:
    """Repeat on the pictures in `data` what the card was made for, and compare the risk.

    Raises: CertesError for a card that does not say what it was made for, or not with this model,
        or for pictures that the model or the card knows.
    """
    card = Calibration.load(path)
    made = card.provenance
    if made is None:
        raise CalibrationError(f"{path}: the card does not say what made its bounds")
    experiment = _experiment(path, made, options)
    check_card(card, experiment.restorer.provenance(experiment.measuring.nominal))
    pictures = experiment.measuring.read(data, options.crop)
    check_held_out_pictures(experiment, pictures, options.model, card)
    bounds, truth = gathered(list(experiment.run(pictures)))
    result = verify_card(card, bounds, truth, options.seed)
    return {
        **asdict(result),
        "card": str(path),
        "operator": made.operator,
        "noise": experiment.measuring.nominal.level,
        "verdict": result.verdict,
        "holds": result.verdict == "holds",
    }


def _experiment(path: Path, made: Provenance, options: HeldOutOptions) -> Experiment[Any]:
    """What the card was made for, once more."""
    conditional = is_conditional(options.model)
    if conditional != made.operator.startswith(f"{GIVEN} "):
        raise CalibrationError(
            f"{path}: made for {made.operator}, which is nothing that {options.model} does: give "
            "the --model that the card was made with"
        )
    sampling = _sampling(path, made, options)
    if conditional:
        return plan_experiment(Asked(None, conditions=options.conditions), sampling)
    refuse_conditions(options.conditions, options.model)
    task = task_of_label(made.operator, options.seed)
    measuring = ByOperator(task, made.noise or 0.0, options.seed)
    return Experiment(measuring, load_restorer(sampling))


def _sampling(path: Path, made: Provenance, options: HeldOutOptions) -> SamplingOptions:
    if made.sampler in METHODS:  # one network call: nothing was sampled
        aimed = 0.1 if made.alpha is None else made.alpha
        return SamplingOptions(options.model, 1, 1, aimed, options.seed, None, options.device)
    if made.samples is None or made.steps is None or made.alpha is None:
        raise CalibrationError(f"{path}: not a card of the samplers that this command can repeat")
    sampler, _, policy = (made.sampler or SamplerName.PINNED).partition("/")
    return SamplingOptions(
        options.model,
        made.samples,
        made.steps,
        made.alpha,
        options.seed,
        sampler,
        options.device,
        policy=PolicyName(policy) if policy else None,
    )
