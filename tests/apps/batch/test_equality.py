"""Results of a worker are those of certes restore, whatever shares a call with them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from certes.apps.batch.inputs import pictures_at
from certes.apps.batch.job import Job
from certes.apps.batch.manifest import DONE
from certes.apps.batch.worker import Worker, together
from certes.apps.options import Asked, AskedTaskName, SamplingOptions
from certes.apps.origins import Measured
from certes.apps.sources import Source
from certes.data.pictures import Picture
from certes.restoration.operators import Denoise

from ..helpers import FEW, Certes

RUN = "run"


def job(model: Path, out: object, truth: Path | None = None) -> Job:
    asked = Asked(AskedTaskName.DENOISE, noise="0.1")
    sampling = SamplingOptions(str(model), 2, 2, 0.1, 0, None, "cpu")
    return Job(asked, sampling, None, truth, str(out))


def results(folder: Path) -> dict[str, bytes]:
    """Every result by its name; manifests, reports and what is hidden are none."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".png", ".tif")}


@pytest.fixture
def plain(certes: Certes, model: Path, folder: Path, tmp_path: Path) -> dict[str, bytes]:
    """The results of `certes restore`, file by file."""
    for path in sorted(folder.iterdir()):
        words = ("--task", "denoise", "--noise", 0.1, "--model", model, *FEW)
        assert certes("restore", path, *words, "--out", tmp_path / "plain").code == 0
    return results(tmp_path / "plain")


def test_results_are_those_of_restore(
    model: Path, folder: Path, tmp_path: Path, plain: dict[str, bytes]
) -> None:
    """A picture that is there twice, too: it is given the same noise both times."""
    shutil.copy(folder / "cell-0.png", folder / "twin.png")
    entries = pictures_at(str(folder))
    rows = Worker(job(model, tmp_path / "out"), RUN)(entries)
    assert [(row.name, row.status) for row in rows] == [(entry.name, DONE) for entry in entries]
    found = results(tmp_path / "out")
    twin = {name: content for name, content in found.items() if name.startswith("twin.")}
    assert {name: found[name] for name in plain} == plain
    assert twin["twin.intervals.tif"] == plain["cell-0.intervals.tif"]
    assert len(found) == len(plain) + len(twin) == 15
    other = Worker(replace(job(model, tmp_path / "other"), sampling=seeded(model)), RUN)
    other(entries[:4])
    assert results(tmp_path / "other") != plain  # the comparison can fail


def seeded(model: Path) -> SamplingOptions:
    return replace(job(model, "").sampling, seed=1)


def test_an_object_store_holds_the_same(
    model: Path, folder: Path, tmp_path: Path, plain: dict[str, bytes]
) -> None:
    store = fsspec.filesystem("memory")
    root = f"/{tmp_path.name}"
    for path in folder.iterdir():
        store.pipe_file(f"{root}/in/{path.name}", path.read_bytes())
    rows = Worker(job(model, f"memory:/{root}/out"), RUN)(pictures_at(f"memory:/{root}/in"))
    assert {row.status for row in rows} == {DONE}
    found = {path.rpartition("/")[2]: store.cat_file(path) for path in store.find(f"{root}/out")}
    assert found == plain


def source(pixels: torch.Tensor) -> Source[Measured]:
    shape = tuple(pixels.shape)
    picture = Picture("p", pixels, None, "uint8")
    return Source(picture, pixels[None], Measured(Denoise((shape[0], shape[1], shape[2])), 0.1))


@given(st.lists(st.tuples(st.sampled_from([4, 6]), st.sampled_from([0.0, 0.25, 1.0])), max_size=9))
def test_groups_are_a_partition_of_like_and_different_pictures(
    pictures: list[tuple[int, float]],
) -> None:
    sources = [source(torch.full((1, side, side), value)) for side, value in pictures]
    groups = together(sources, alike=True)
    assert sorted(i for group in groups for i in group) == list(range(len(pictures)))
    for group in groups:
        assert len({pictures[i][0] for i in group}) == 1
        assert len({pictures[i] for i in group}) == len(group)
    most = max((pictures.count(one) for one in pictures), default=0)
    assert len(groups) <= most * 2  # two sizes: no more groups than equal pictures call for
    assert together(sources, alike=False) == [[i] for i in range(len(pictures))]
