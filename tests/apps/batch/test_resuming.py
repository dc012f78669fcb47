"""Resuming where something that results depend on has changed, and names that look like globs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from certes.apps.batch.inputs import pictures_at
from certes.apps.batch.job import Job
from certes.apps.batch.manifest import NAME, Manifest
from certes.apps.batch.places import Place
from certes.apps.batch.worker import Worker
from certes.apps.jobs.batch import Scale, restore_many
from certes.apps.options import Asked, AskedTaskName, SamplingOptions
from certes.errors import InputError

from ..helpers import tiny_model

HERE = Scale(1, 4, None)


@pytest.fixture
def job(model: Path, tmp_path: Path) -> Job:
    mine = shutil.copytree(model, tmp_path / "model")
    asked = Asked(AskedTaskName.DENOISE, noise="0.1")
    sampling = SamplingOptions(str(mine), 2, 2, 0.1, 0, None, "cpu")
    return Job(asked, sampling, None, None, str(tmp_path / "out"))


def finished(job: Job, folder: Path) -> None:
    """Restore a folder without Ray."""
    manifest = Manifest(Place(job.out))
    manifest.add(Worker(job, "run")(pictures_at(str(folder))))
    manifest.close(manifest.rows)


def test_a_model_that_was_trained_on_is_another(
    job: Job, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(job, folder)
    assert restore_many(str(folder), job, HERE)["done_before"] == 4
    seed = torch.manual_seed
    monkeypatch.setattr("torch.manual_seed", lambda _: seed(7))
    tiny_model(Path(job.sampling.model), 1, "tiny")
    with pytest.raises(InputError, match="other settings"):
        restore_many(str(folder), job, HERE)


def test_rows_of_other_pictures_are_kept(job: Job, folder: Path) -> None:
    finished(job, folder)
    summary = restore_many(f"{folder}/cell-[01].png", job, HERE)
    assert summary["pictures"] == 2
    assert sorted(Manifest(Place(job.out)).rows) == [f"cell-{i}" for i in range(4)]
    assert (Path(job.out) / NAME).is_file()


def test_rows_of_pictures_that_are_gone_and_had_failed_are_not(job: Job, folder: Path) -> None:
    (folder / "poison.png").write_bytes(b"no picture")
    finished(job, folder)
    (folder / "poison.png").unlink()
    assert restore_many(str(folder), job, HERE)["failed"] == []
    assert sorted(Manifest(Place(job.out)).rows) == [f"cell-{i}" for i in range(4)]


def test_a_folder_may_be_named_like_a_glob(folder: Path) -> None:
    odd = folder.rename(folder.parent / "plate[1]")
    assert [entry.name for entry in pictures_at(str(odd))] == [f"cell-{i}" for i in range(4)]


def test_without_a_truth_nothing_is_restored_twice(
    job: Job, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = shutil.copytree(folder, tmp_path / "true")
    (true / "cell-1.png").unlink()
    worker = Worker(replace(job, truth=true), "run")
    whole, seen = type(worker.plan.restorer).__call__, list[int]()

    def counting(self: Any, y: torch.Tensor, *rest: Any) -> Any:
        seen.append(len(y))
        return whole(self, y, *rest)

    monkeypatch.setattr(type(worker.plan.restorer), "__call__", counting)
    assert [row.status for row in worker(pictures_at(str(folder)))].count("done") == 3
    assert sum(seen) == 3
