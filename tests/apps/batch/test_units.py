"""Places, inputs, the manifest and a worker, without Ray."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from pyarrow import parquet

from certes.apps.batch.attempts import MOST
from certes.apps.batch.inputs import pictures_at
from certes.apps.batch.job import Job
from certes.apps.batch.manifest import DONE, FAILED, NAME, WORK, Manifest, Row
from certes.apps.batch.places import Place, fetched
from certes.apps.batch.worker import Worker, together
from certes.apps.options import Asked, SamplingOptions, TaskName
from certes.apps.plans import plan_restoration
from certes.errors import InputError
from certes.intervals.bounds import Bounds
from certes.intervals.calibration import calibrate

from ..helpers import names


def rows(*said: str, status: str = DONE, settings: str = "s") -> list[Row]:
    return [Row(name, f"{name}.png", "1", settings, status, seconds=0.5) for name in said]


@pytest.fixture(params=["disk", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A folder on the disk, and one in an object store (in memory, as far from a disk)."""
    if request.param == "disk":
        return Place(str(tmp_path / "out"))
    return Place(f"memory://{tmp_path}/out")


def test_a_place_keeps_files(place: Place) -> None:
    assert place.read("a/b") is None
    assert place.names("a") == []
    place.write("a/b", b"one")
    place.write("a/b", b"two")
    place.mark("a/c", b"")
    assert (place.read("a/b"), place.names("a")) == (b"two", ["b", "c"])
    place.save(lambda folder: (folder / "result").write_text("whole") and None)
    assert place.read("result") == b"whole"
    place.remove("a")
    assert place.names("a") == []
    place.remove("a")  # nothing there: nothing to do


def test_pictures_of_a_folder_a_glob_a_file_and_a_store(folder: Path) -> None:
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    every = pictures_at(str(folder))
    assert [entry.name for entry in every] == [f"cell-{i}" for i in range(4)]
    assert pictures_at(f"{folder}/*-[12].png") == every[1:3]
    assert pictures_at(str(folder / "cell-3.png")) == every[3:]
    assert pictures_at(f"file://{folder}") == every
    memory: Any = fsspec.filesystem("memory")
    memory.pipe_file(f"{folder}/cell-9.png", (folder / "cell-1.png").read_bytes())
    (stored,) = pictures_at(f"memory://{folder}")
    assert (stored.name, stored.uri) == ("cell-9", f"memory://{folder}/cell-9.png")
    with fetched(stored.uri) as path:
        assert path.read_bytes() == (folder / "cell-1.png").read_bytes()
    assert not path.exists()


def test_a_changed_file_has_another_version(folder: Path) -> None:
    before = pictures_at(str(folder))
    (folder / "cell-2.png").write_bytes(b"another picture")
    changed = [a.name for a, b in zip(before, pictures_at(str(folder)), strict=True) if a != b]
    assert changed == ["cell-2"]


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("{}/nothing", "no such folder or picture"),
        ("{}/*.gif", "no pictures there: wanted .bmp"),
        ("nowhere://{}", "give a path, or a URI that fsspec knows"),
    ],
)
def test_what_are_no_pictures(folder: Path, uri: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        pictures_at(uri.format(folder))


def test_two_pictures_of_one_name(folder: Path) -> None:
    (folder / "cell-1.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="several pictures are named 'cell-1'"):
        pictures_at(str(folder))


def test_a_manifest_outlives_its_run(place: Place) -> None:
    first = Manifest(place)
    first.add(rows("a", "b"))
    first.add(rows("c", status=FAILED))
    second = Manifest(place)  # of a run that goes on
    assert [row.name for row in second.rows.values()] == ["a", "b", "c"]
    second.add(rows("c"))
    second.close(["c", "a", "b"])
    content = place.read(NAME)
    assert content is not None
    table = parquet.read_table(io.BytesIO(content)).to_pylist()
    assert [(row["name"], row["status"]) for row in table] == [
        ("c", DONE),
        ("a", DONE),
        ("b", DONE),
    ]
    assert place.names(WORK) == []
    assert list(Manifest(place).rows.values()) == rows("c", "a", "b")


def test_what_is_no_manifest_is_left_alone(place: Place) -> None:
    place.write(NAME, b"somebody's own")
    with pytest.raises(InputError, match=r"manifest.parquet: no manifest of certes batch"):
        Manifest(place)
    assert place.read(NAME) == b"somebody's own"


@pytest.fixture
def job(model: Path, tmp_path: Path) -> Job:
    sampling = SamplingOptions(str(model), 2, 2, 0.1, 0, None, None, None, None)
    asked = Asked(TaskName.DENOISE, None, None, None, noise="0.1")
    return Job(asked, sampling, None, None, str(tmp_path / "out"))


def test_equal_marks_mean_equal_settings(job: Job, model: Path, tmp_path: Path) -> None:
    plan = plan_restoration(job.asked, job.sampling, None)
    others = [
        replace(job, sampling=replace(job.sampling, steps=3)),
        replace(job, asked=replace(job.asked, noise="0.2")),
    ]
    marks = {job.mark(plan), *(other.mark(plan) for other in others)}
    pixel = torch.full((3, 1, 1, 1), 0.5)
    for size in (0.2, 0.3):  # cards that give different intervals
        raw = Bounds(pixel - size, pixel, pixel + size)
        card = calibrate(raw, pixel + 0.1, alpha=0.5, delta=0.5)
        marks.add(job.mark(replace(plan, card=card)))
    assert len(marks) == 5
    assert replace(job, out="elsewhere").mark(plan) == job.mark(plan)


def test_together_are_those_of_one_size_but_never_two_alike(folder: Path, job: Job) -> None:
    worker = Worker(job, "run")
    sources = [worker.plan.reader(folder / f"cell-{i}.png") for i in (0, 1, 0, 2)]
    large = replace(sources[0], y=torch.zeros(1, 1, 64, 64))
    assert together([*sources, large], alike=True) == [[0, 1, 3], [2], [4]]
    assert together(sources, alike=False) == [[0], [1], [2], [3]]


def test_results_do_not_depend_on_the_batch(folder: Path, job: Job, tmp_path: Path) -> None:
    entries = pictures_at(str(folder))
    Worker(job, "run")(entries)
    alone = replace(job, out=str(tmp_path / "alone"))
    for entry in entries:
        Worker(alone, "run")([entry])
    files = [name for name in names(tmp_path / "out") if name != WORK]
    assert len(files) == 3 * len(entries)
    for name in files:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_a_poisoned_picture_is_a_row(folder: Path, job: Job) -> None:
    (folder / "cell-1.png").write_bytes(b"no picture")
    made = Worker(job, "run")(pictures_at(str(folder)))
    assert [row.status for row in made] == [DONE, FAILED, DONE, DONE]
    assert made[1].error is not None
    assert "cell-1.png" in made[1].error
    assert "not a picture" in made[1].error


def test_one_that_spoils_a_call_is_found(
    folder: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, bad = Worker(job, "run"), "cell-2"
    restorer = type(worker.plan.restorer)
    whole = restorer.__call__
    spoilt = worker.plan.reader(folder / f"{bad}.png").y

    def spoiling(self: Any, y: torch.Tensor, *rest: Any) -> Any:
        if any(torch.equal(row[None], spoilt) for row in y):
            raise RuntimeError("broken kernel")
        return whole(self, y, *rest)

    monkeypatch.setattr(restorer, "__call__", spoiling)
    made = worker(pictures_at(str(folder)))
    assert [row.status for row in made] == [DONE, DONE, FAILED, DONE]
    assert made[2].error == "cell-2.png: RuntimeError: broken kernel"


class Death(BaseException):
    """Of a worker, as far as one process can show it: nothing after it is done."""


def test_a_picture_that_kills_is_given_up_and_others_are_not(
    folder: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = pictures_at(str(folder))
    killer = Worker(job, "run").plan.reader(folder / "cell-1.png").y
    restorer = type(Worker(job, "run").plan.restorer)
    whole, dead = restorer.__call__, 0

    def killing(self: Any, y: torch.Tensor, *rest: Any) -> Any:
        if any(torch.equal(row[None], killer) for row in y):
            raise Death
        return whole(self, y, *rest)

    monkeypatch.setattr(restorer, "__call__", killing)
    made: list[Row] = []
    while not made:
        try:
            made = Worker(job, "run")(entries)
        except Death:
            dead += 1
    assert dead == MOST
    assert [row.status for row in made] == [DONE, FAILED, DONE, DONE]
    assert made[1].error == f"{MOST} workers died of this picture"
    with pytest.raises(Death):  # another run tries again: a killed driver is nobody's fault
        Worker(job, "another")(entries[1:2])


def test_truths_are_compared(folder: Path, job: Job) -> None:
    compared = replace(job, truth=folder)
    (row,) = Worker(compared, "run")([pictures_at(str(folder))[0]])
    assert row.psnr is not None
    assert row.coverage is not None
    (missing,) = Worker(compared, "run")([replace(pictures_at(str(folder))[1], name="other")])
    assert isinstance(missing, Row)
    assert missing.status == FAILED
