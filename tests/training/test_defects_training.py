"""Defects of published training, each beside what is done here."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from certes.data.patches import PatchDataset
from certes.training.config import TrainingConfig
from certes.training.loop import Run
from certes.training.unconditional import Unconditional


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_defect_an_average_that_is_kept_and_not_used(
    config: TrainingConfig, data: PatchDataset, tmp_path: Path
) -> None:
    """What a run hands on are its averaged weights, whatever hooks ran in which order."""
    run = Run(Unconditional(config), data, tmp_path, resume=False)
    handed_on = dict(run.train().net.state_dict())
    assert equal(handed_on, run.average.weights)
    # The latest weights, which a callback that never swaps them would hand on, are others.
    assert not equal(dict(run.denoiser.net.state_dict()), run.average.weights)
    assert not equal(handed_on, dict(run.denoiser.net.state_dict()))
