"""Restore many pictures on many workers; go on where a killed run stopped."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from certes.apps.batch.cluster import cluster, devices
from certes.apps.batch.engine import restored
from certes.apps.batch.inputs import Entry, pictures_at
from certes.apps.batch.job import Job
from certes.apps.batch.manifest import DONE, NAME, Manifest, Row
from certes.apps.batch.places import Place
from certes.apps.console import complain, progress
from certes.apps.plans import plan_restoration
from certes.errors import InputError


@dataclass(frozen=True)
class Scale:
    """How many.

    Args:
        workers: processes; by default one for each GPU, or else for each CPU.
        batch: pictures that a worker is handed at once.
        address: of a Ray that runs; by default one is started here.
    """

    workers: int | None
    batch: int
    address: str | None


def restore_many(source: str, job: Job, scale: Scale) -> dict[str, Any]:
    """Restore all that a manifest does not know as done; returns a summary.

    Raises: CertesError for settings that no picture could be restored with, or a place that holds
        results of other settings.
    """
    # Says now what every worker would say.
    plan = plan_restoration(job.asked, job.sampling, job.card)
    entries = pictures_at(source)
    place = Place(job.out)
    manifest = Manifest(place)
    left = _left(entries, manifest, job.mark(plan))
    if left:
        _restore(left, job, scale, manifest)
    names = [entry.name for entry in entries]
    manifest.close([*names, *_elsewhere(manifest, names)])
    rows = [manifest.rows[name] for name in names]
    failed = [row for row in rows if row.status != DONE]
    return {
        "pictures": len(rows),
        "restored_now": len(left) - len([row for row in failed if row.name in _names(left)]),
        "done_before": len(rows) - len(left),
        "failed": [{"name": row.name, "error": row.error} for row in failed],
        "mean_width": _mean(rows, "mean_width"),
        "coverage": _mean(rows, "coverage"),
        "psnr": _mean(rows, "psnr"),
        "seconds": sum(row.seconds or 0.0 for row in rows),
        "manifest": place.path(NAME),
    }


def _left(entries: list[Entry], manifest: Manifest, mark: str) -> list[Entry]:
    """What is still to be done: never done, failed, or another file by now.

    Raises: InputError where results of other settings are.
    """
    others = [row for row in manifest.rows.values() if row.settings != mark]
    if others:
        raise InputError(
            f"{manifest.place.uri}: holds results of other settings (another task, model, version "
            "of certes ...); give the same settings again, or another place for these"
        )
    known = {row.name: (row.version, row.status) for row in manifest.rows.values()}
    return [entry for entry in entries if known.get(entry.name) != (entry.version, DONE)]


def _restore(left: list[Entry], job: Job, scale: Scale, manifest: Manifest) -> None:
    run = uuid.uuid4().hex[:12]
    with cluster(scale.address, scale.workers) as ray:
        gpus, cpus = devices(ray)
        workers = min(scale.workers or gpus or cpus, -(-len(left) // scale.batch))
        with progress("restoring", len(left)) as advance:
            for rows in restored(ray, left, job, run, workers, scale.batch):
                manifest.add(rows)
                for row in rows:
                    if row.error is not None:
                        complain(row.error)
                advance(len(rows))


def _elsewhere(manifest: Manifest, names: list[str]) -> list[str]:
    """Pictures of earlier runs, not meant by this one: their results are still there."""
    known = set(names)
    return [r.name for r in manifest.rows.values() if r.name not in known and r.status == DONE]


def _names(entries: list[Entry]) -> set[str]:
    return {entry.name for entry in entries}


def _mean(rows: list[Row], field: str) -> float | None:
    values = [getattr(row, field) for row in rows if getattr(row, field) is not None]
    return sum(values) / len(values) if values else None
