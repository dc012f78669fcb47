"""The tour: bundled pictures through all four tasks, as the shipped cards have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from certes.apps.cards import find_card
from certes.apps.experiment import Experiment, centre
from certes.apps.jobs.evaluate import Evaluation
from certes.apps.measuring import ByOperator
from certes.apps.options import SamplingOptions, TaskName, TaskOptions
from certes.apps.restorer import load_restorer
from certes.apps.tasks import make_task, noise_level
from certes.data.bundled import bundled_pictures

# Four crops of the size below are what two minutes on two cores allow: crowded and scattered
# nuclei, sharp and blurred ones, bright and dim.
_TOUR = (TaskName.DENOISE, TaskName.SUPER_RESOLVE, TaskName.INPAINT, TaskName.DEBLUR)
_SHOWN = ("0287e7ee5b007c91", "245b995878370ef4", "547ef286ee5f4e5d", "9ebcfaf2322932d4")


def run_demo(sampling: SamplingOptions, crop: int, out: Path) -> dict[str, dict[str, Any]]:
    """Restore the shown pictures for every task; returns the reports by task.

    Raises: CertesError for a model that cannot be had or senseless settings.
    """
    restorer = load_restorer(sampling)
    by_name = {picture.name: picture for picture in bundled_pictures()}
    pictures = [centre(by_name[name], crop) for name in _SHOWN]
    reports: dict[str, dict[str, Any]] = {}
    for name in _TOUR:
        task = make_task(TaskOptions(name), sampling.seed)
        measuring = ByOperator(task, noise_level(task, None), sampling.seed)
        card = find_card(None, sampling.model, restorer.provenance(measuring.nominal))
        experiment = Experiment(measuring, restorer)
        reports[name] = Evaluation(experiment, card).run(pictures, out / name)
    return reports
