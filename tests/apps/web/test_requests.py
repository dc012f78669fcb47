"""What the page does, without a browser and without gradio."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from certes.apps.options import NO_GUARANTEE
from certes.apps.web import words
from certes.apps.web.answers import Region, channels_at, mean_of
from certes.apps.web.desks import Desk, Desks
from certes.apps.web.drawing import as_pixels, enlargement, histogram, width_map
from certes.apps.web.forms import Form
from certes.apps.web.handlers import Complaint, Handlers, Shown
from certes.apps.web.limits import Limits, Stopped
from certes.apps.web.runs import Result, Step, picked, run
from certes.data.pictures import read_picture
from certes.data.tiff import is_tiff
from certes.errors import InputError
from certes.intervals.quantiles import order_statistic

from ..helpers import save

LIMITS = Limits(pixels=5000, seconds=60, upload=2**20)


def form(tiny: Path, /, **more: object) -> Form:
    usual = Form("denoise", None, "", None, "0.1", str(tiny), 4, 3, 0.4, 0, True)
    return replace(usual, **more)


@pytest.fixture
def desks(tmp_path: Path) -> Desks:
    return Desks(tmp_path / "desks", LIMITS)


@pytest.fixture
def desk(desks: Desks, cells: list[Path]) -> Desk:
    mine = desks.of("a" * 64, "tab")
    picked(mine, cells[0], LIMITS)
    return mine


@pytest.fixture
def result(tiny: Path, desk: Desk) -> Result:
    *_, last = run(form(tiny), desk, LIMITS)
    assert isinstance(last, Result)
    return last


def test_every_network_call_is_told_of(tiny: Path, desk: Desk) -> None:
    *steps, last = run(form(tiny), desk, LIMITS)
    shares = [step.share for step in steps if isinstance(step, Step)]
    assert shares == sorted(shares)
    assert isinstance(last, Result)


def test_files_are_those_of_the_command_line(result: Result, desk: Desk) -> None:
    assert is_tiff(result.intervals)
    assert read_picture(result.panel).pixels.shape[0] == 3
    report = json.loads(result.summary.read_text())
    assert report == result.report
    assert report["images"][0]["psnr"] > 0
    assert all(f.is_relative_to(desk.folder) for f in (result.intervals, result.summary))


def test_a_pixel_is_the_samples_order_statistics(result: Result) -> None:
    samples = result.kept.samples
    assert samples is not None
    (answer,) = channels_at(result, 5, 9)
    at = samples[:, 0, 9, 5]
    assert answer.samples == pytest.approx(at.tolist())
    k = order_statistic(4, 0.4)
    ordered = at.sort().values
    assert answer.lower == pytest.approx(min(float(ordered[k - 1]), answer.estimate), abs=1e-6)
    assert answer.upper == pytest.approx(max(float(ordered[-k]), answer.estimate), abs=1e-6)
    # Rows and columns are not exchanged: another pixel answers otherwise.
    (other,) = channels_at(result, 9, 5)
    assert other.samples != answer.samples


def test_the_mean_of_a_region_is_that_of_every_sample(result: Result) -> None:
    samples, truth = result.kept.samples, result.kept.truth
    assert samples is not None
    assert truth is not None
    region = Region.between((12, 3), (4, 9))
    answer = mean_of(result, region, 0.4)
    means = samples[:, :, 3:10, 4:13].double().mean(dim=(1, 2, 3))
    assert region.pixels == 63
    assert answer.samples == pytest.approx(means.tolist(), abs=1e-6)
    assert answer.lower == pytest.approx(float(means.min()), abs=1e-6)
    assert answer.upper == pytest.approx(float(means.max()), abs=1e-6)
    assert answer.truth == pytest.approx(float(truth[:, 3:10, 4:13].mean()), abs=1e-6)


@pytest.mark.parametrize("at", [(-1, 0), (32, 0), (0, 32)])
def test_no_pixel_outside(result: Result, at: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="lies outside"):
        channels_at(result, *at)


def test_without_card_the_page_says_the_words_of_the_command_line(result: Result) -> None:
    assert words.html.escape(NO_GUARANTEE) in words.guarantee(result)


def test_with_card_the_guarantee_is_said() -> None:
    said = Result(None, {"guarantee": "it <holds>"}, *(Path(),) * 3)  # pyright: ignore[reportArgumentType]
    assert "it &lt;holds&gt;" in words.guarantee(said)
    assert "No guarantee" not in words.guarantee(said)


def test_time_is_limited(tiny: Path, desk: Desk) -> None:
    with pytest.raises(Stopped, match="the limit of this page"):
        list(run(form(tiny), desk, replace(LIMITS, seconds=0.0)))


def test_a_restoration_can_be_stopped(tiny: Path, desk: Desk) -> None:
    going = run(form(tiny, steps=100, samples=64), desk, LIMITS)
    assert isinstance(next(going), Step)
    desk.unwanted.set()
    with pytest.raises(Stopped):
        list(going)


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ({"samples": 65}, "samples: 65"),
        ({"samples": 0}, "samples: 0"),
        ({"steps": 1.5}, "steps: 1.5; give a whole number"),
        ({"model": "/etc/passwd"}, "this page offers"),
        ({"task": "paint"}, "task: 'paint'"),
        ({"noise": "loud"}, "noise: 'loud'"),
        ({"alpha": 2.0}, "alpha"),
        ({"alpha": None}, "alpha: none given"),
        ({"seed": None}, "seed: None"),
        ({"samples": float("nan")}, "samples: nan"),
        ({"task": "super-resolve", "factor": 1e9}, "factor: 1e+09; this page takes 1 to 64"),
        ({"task": "deblur", "kernel": "gaussian:1e9"}, "numbers up to 360"),
        ({"task": "deblur", "kernel": "/etc/passwd"}, "kernel: '/etc/passwd'"),
        ({"task": "deblur", "kernel": "gaussian:x"}, "kernel"),
        ({"task": "super-resolve", "factor": 7}, "factor"),
        ({"task": "colorize"}, "colorize"),
    ],
)
def test_senseless_wishes_get_one_line(
    tiny: Path, desks: Desks, cells: list[Path], what: dict[str, object], line: str
) -> None:
    handlers = Handlers(desks, LIMITS, (str(tiny),))
    handlers.upload("a" * 64, "tab", str(cells[0]))
    with pytest.raises(Complaint) as caught:
        list(handlers.restore("a" * 64, "tab", form(tiny, **what)))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(desks.of("a" * 64, "tab").folder) not in str(caught.value)


@pytest.mark.parametrize("task", ["super-resolve", "inpaint", "deblur", "jpeg"])
def test_tasks(tiny: Path, desk: Desk, task: str) -> None:
    more = {"noise": "auto"} if task == "jpeg" else {"noise": "0.02"}
    sampler_takes = {"factor": 2.0} if task == "super-resolve" else {}
    *_, last = run(form(tiny, task=task, **more, **sampler_takes), desk, LIMITS)
    assert isinstance(last, Result)
    assert last.report["task"] == task


def test_a_mask_says_what_is_missing(tiny: Path, desks: Desks, cells: list[Path]) -> None:
    who = ("a" * 64, "tab")
    handlers = Handlers(desks, LIMITS, (str(tiny),))
    known = torch.ones(1, 32, 32)
    known[:, 4:8, 10:20] = 0
    mask = save(cells[0].parent / "mask.png", known)
    wish = form(tiny, task="inpaint", noise="0.02", degrade=False)
    handlers.upload(*who, str(cells[0]))
    with pytest.raises(Complaint, match="--mask PNG"):
        list(handlers.restore(*who, wish))
    kept = handlers.upload_mask(*who, str(mask))
    assert kept is not None
    assert desks.may_fetch(who[0], str(kept))
    list(handlers.restore(*who, wish))
    seen = desks.of(*who).result.kept.seen
    assert torch.equal(seen[0].isnan(), known == 0)
    assert handlers.upload_mask(*who, None) is None
    with pytest.raises(Complaint, match="--mask PNG"):
        list(handlers.restore(*who, wish))


def test_size_is_judged_by_the_header_alone(tmp_path: Path, desk: Desk) -> None:
    big = tmp_path / "big.png"
    from PIL import Image

    Image.new("L", (100, 100)).save(big)
    cut = tmp_path / "cut.png"
    cut.write_bytes(big.read_bytes()[:60])  # no pixel of it can be decoded
    for path in (big, cut):
        with pytest.raises(InputError, match="100 x 100 pixels, this page takes 5000"):
            picked(desk, path, LIMITS)


def test_the_restored_picture_is_limited_too(tiny: Path, desk: Desk, cells: list[Path]) -> None:
    wish = form(tiny, task="super-resolve", factor=4.0, noise="0.02", degrade=False)
    with pytest.raises(InputError, match=r"128 x 128 pixels, this page takes 5000"):
        list(run(wish, desk, LIMITS))


def test_a_clean_mistake_of_ours_is_not_shown(
    tiny: Path, desks: Desks, monkeypatch: pytest.MonkeyPatch, cells: list[Path]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("certes.apps.web.handlers.picked", broken)
    with pytest.raises(Complaint, match="something went wrong") as caught:
        Handlers(desks, LIMITS, (str(tiny),)).upload("a" * 64, "tab", str(cells[0]))
    assert "secret" not in str(caught.value)


def test_desks_are_apart(desks: Desks) -> None:
    mine, yours = desks.of("a" * 64, "tab"), desks.of("b" * 64, "tab")
    assert mine is not yours
    assert desks.of("a" * 64, "tab") is mine
    file = mine.folder / "mine.png"
    file.write_bytes(b"x")
    assert desks.may_fetch("a" * 64, str(file))
    assert not desks.may_fetch("b" * 64, str(file))
    assert not desks.may_fetch("b" * 64, str(yours.folder / ".." / mine.folder.name / "mine.png"))
    link = yours.folder / "link"
    link.symlink_to(mine.folder)
    assert not desks.may_fetch("b" * 64, str(link / "mine.png"))


def test_who_leaves_leaves_nothing(tmp_path: Path) -> None:
    desks = Desks(tmp_path, replace(LIMITS, desks=2))
    folders = [desks.of(name * 64, "tab").folder for name in "abc"]
    assert [f.exists() for f in folders] == [False, True, True]  # who was away longest is forgotten
    desks.clear("c" * 64, "tab")
    assert [f.exists() for f in folders] == [False, True, False]


def test_results_fit_in_memory(tmp_path: Path) -> None:
    class Held:
        nbytes = 100

    desks = Desks(tmp_path, replace(LIMITS, memory=250))
    three = [desks.of(name * 64, "tab") for name in "abc"]
    for desk in three:
        desk.result = Held()
    desks.make_room()
    assert [desk.result is None for desk in three] == [True, False, False]
    with pytest.raises(InputError, match="take fewer samples"):
        replace(LIMITS, memory=1600).check_samples(101)
    replace(LIMITS, memory=1600).check_samples(100)


def test_who_left_while_it_ran_leaves_nothing(tiny: Path, desks: Desks, desk: Desk) -> None:
    going = run(form(tiny, steps=100, samples=64), desk, LIMITS)
    next(going)
    desks.clear("a" * 64, "tab")
    with pytest.raises(Stopped):
        list(going)
    assert not desk.folder.exists()


def test_who_is_away_too_long_is_forgotten(tmp_path: Path) -> None:
    desks = Desks(tmp_path, replace(LIMITS, keep=0.05))
    folder = desks.of("a" * 64, "tab").folder
    desks.tidy()
    assert folder.exists()
    time.sleep(0.1)
    desks.tidy()
    assert not folder.exists()


def test_restorations_wait_for_one_another(tiny: Path, desks: Desks, cells: list[Path]) -> None:
    names: set[str] = set()

    def hear(name: str) -> None:
        mine = desks.of(name * 64, "tab")
        picked(mine, cells[0], LIMITS)
        for _ in run(form(tiny), mine, LIMITS):
            names.update(t.name for t in threading.enumerate() if "restorer" in t.name)

    threads = [threading.Thread(target=hear, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 1


def test_a_picture_and_a_map_are_enlarged_pixel_by_pixel() -> None:
    picture = torch.tensor([[[0.0, 1.0], [0.5, torch.nan]]])
    shown, k = as_pixels(picture, 1.0), enlargement(2, 2)
    assert shown.shape == (2 * k, 2 * k, 3)
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert shown[0, -1].tolist() == [255, 255, 255]
    assert shown[-1, -1].tolist() == [0x27, 0x49, 0x6D]  # missing
    width = torch.rand(20, 30)
    marked, plain = width_map(width, Region(3, 4, 6, 8)), width_map(width)
    changed = (marked != plain).any(axis=-1)
    k = enlargement(20, 30)
    rows, columns = changed.any(axis=1).nonzero()[0], changed.any(axis=0).nonzero()[0]
    assert abs(rows.min() - 4 * k) <= 2
    assert abs(rows.max() - 9 * k) <= 2
    assert abs(columns.min() - 3 * k) <= 2
    assert abs(columns.max() - 7 * k) <= 2
    inside = changed[4 * k + 3 : 9 * k - 3, 3 * k + 3 : 7 * k - 3]
    assert not inside.any()


def test_the_histogram_counts_every_sample(result: Result) -> None:
    (answer,) = channels_at(result, 5, 9)
    svg = histogram(answer)
    heights = [float(p.split('"')[0]) for p in svg.split('height="')[1:]]
    assert svg.count('class="bin"') >= 1
    assert "4 samples" in svg
    assert max(heights) <= 110


def test_results_show_before_and_after_of_one_size(
    tiny: Path, desks: Desks, cells: list[Path]
) -> None:
    handlers = Handlers(desks, LIMITS, (str(tiny),))
    handlers.upload("a" * 64, "tab", str(cells[0]))
    wish = form(tiny, task="super-resolve", factor=2.0, noise="0.02")
    *_, shown = handlers.restore("a" * 64, "tab", wish)
    assert isinstance(shown, Shown)
    sizes = {read_picture(p).pixels.shape for p in (shown.before, shown.after, shown.width_map)}
    assert len(sizes) == 1
    mark = handlers.pixel("a" * 64, "tab", (3, 4))
    assert "Pixel x 3, y 4" in mark.answer
    with pytest.raises(Complaint, match="press Restore first"):
        handlers.pixel("b" * 64, "tab", (3, 4))


def test_two_clicks_make_a_region(tiny: Path, desks: Desks, cells: list[Path]) -> None:
    who = ("a" * 64, "tab")
    handlers = Handlers(desks, LIMITS, (str(tiny),))
    handlers.upload(*who, str(cells[0]))
    list(handlers.restore(*who, form(tiny)))
    k = enlargement(32, 32)
    first = handlers.corner(*who, handlers.at(*who, (10 * k + 1, 12 * k + k - 1)))
    assert "x 10, y 12" in first.answer
    second = handlers.corner(*who, handlers.at(*who, (4 * k, 20 * k)))
    assert second.region == Region(4, 12, 10, 20)
    assert second.answer == handlers.region(*who, (10, 12), (4, 20)).answer
    assert "no guarantee" in second.answer
