"""What happens on a click: the desk of whoever clicked changes, and what is to be shown of it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from certes.apps.web import drawing, words
from certes.apps.web.answers import Region, channels_at, mean_of
from certes.apps.web.desks import Desk, Desks
from certes.apps.web.forms import Form
from certes.apps.web.limits import Limits, Stopped
from certes.apps.web.runs import Result, Step, masked, picked, run
from certes.data.bundled import bundled_pictures
from certes.data.pictures import write_picture
from certes.errors import CertesError, InputError

_LOG = logging.getLogger("certes.web")
_MAPS_KEPT = 2


class Complaint(Exception):  # noqa: N818 - it is an error in words
    """An error as one line for the page."""


@dataclass(frozen=True)
class Shown:
    """What the page shows of a result.

    Args:
        before, after: files for the slider.
        width_map: file.
        bar, guarantee, summary: HTML.
        result: the files to download.
    """

    before: Path
    after: Path
    width_map: Path
    bar: str
    guarantee: str
    summary: str
    result: Result


@dataclass(frozen=True)
class Marked:
    """An answer about a part of the picture: HTML, and the map with that part outlined.

    Args:
        answer: HTML.
        width_map: file.
        region: what is outlined.
    """

    answer: str
    width_map: Path
    region: Region


class Handlers:
    """All that clicks can do. Each takes the browser and the tab that the click came from.

    Args:
        desks: of all users.
        limits: what one request may take.
        models: that are offered.

    Raises: Complaint, from every one of its functions.
    """

    def __init__(self, desks: Desks, limits: Limits, models: tuple[str, ...]) -> None:
        self._desks = desks
        self._limits = limits
        self._models = models

    def upload(self, owner: str, tab: str, file: str) -> str:
        """Take a picture that was uploaded; returns it as HTML."""
        desk = self._desks.of(owner, tab)
        try:
            picked(desk, desk.take(Path(file), "picture"), self._limits)
            return _thumbnail(desk)
        except Exception as error:
            desk.picture = desk.path = None
            raise _complaint(error, desk) from error

    def upload_mask(self, owner: str, tab: str, file: str | None) -> Path | None:
        """Take a mask that was uploaded, or none any more; returns its file."""
        desk = self._desks.of(owner, tab)
        desk.mask = None
        if file is None:
            return None
        try:
            masked(desk, desk.take(Path(file), "mask"), self._limits)
            return desk.mask
        except Exception as error:
            raise _complaint(error, desk) from error

    def pick(self, owner: str, tab: str, name: str) -> str:
        """Take a picture that comes with certes; returns it as HTML."""
        desk = self._desks.of(owner, tab)
        try:
            pictures = {picture.name: picture for picture in bundled_pictures()}
            if name not in pictures:
                raise InputError(f"picture: {name!r}; it does not come with certes")
            file = desk.part("picture") / f"{name}.png"
            write_picture(file, pictures[name].pixels, like=pictures[name])
            picked(desk, file, self._limits)
            return _thumbnail(desk)
        except Exception as error:
            raise _complaint(error, desk) from error

    def restore(self, owner: str, tab: str, form: Form) -> Iterator[Step | Shown]:
        """Restore the picture on the desk."""
        desk = self._desks.of(owner, tab)
        desk.result = desk.corner = None
        try:
            form.check(self._models)
            for news in run(form, desk, self._limits):
                if isinstance(news, Step):
                    yield news
                else:
                    desk.result = news
                    self._desks.make_room()
                    yield _shown(news)
        except Exception as error:
            raise _complaint(error, desk) from error

    def stop(self, owner: str, tab: str) -> None:
        """End the restoration that runs, at its next network call."""
        self._desks.of(owner, tab).unwanted.set()

    def pixel(self, owner: str, tab: str, at: tuple[int, int]) -> Marked:
        """The interval and the samples of a pixel (x, y)."""
        desk = self._desks.of(owner, tab)
        try:
            result = _result(desk)
            answers = channels_at(result, *at)
            region = Region.between(at, at)
            return Marked(words.of_pixel(*at, answers), _map(result, region), region)
        except Exception as error:
            raise _complaint(error, desk) from error

    def corner(self, owner: str, tab: str, at: tuple[int, int]) -> Marked:
        """The first click of a region: outlines it; the second: answers."""
        desk = self._desks.of(owner, tab)
        if desk.corner is not None:
            first, desk.corner = desk.corner, None
            return self.region(owner, tab, first, at)
        try:
            result = _result(desk)
            channels_at(result, *at)
            desk.corner, region = at, Region.between(at, at)
            said = words.remark(f"One corner: x {at[0]}, y {at[1]}. Now click on the other.")
            return Marked(said, _map(result, region), region)
        except Exception as error:
            raise _complaint(error, desk) from error

    def region(
        self, owner: str, tab: str, first: tuple[int, int], second: tuple[int, int]
    ) -> Marked:
        """The interval of the mean over the box of two corners (x, y)."""
        desk = self._desks.of(owner, tab)
        try:
            result, region = _result(desk), Region.between(first, second)
            alpha = float(result.report["alpha"])
            said = words.of_region(region, mean_of(result, region, alpha), alpha)
            return Marked(said, _map(result, region), region)
        except Exception as error:
            raise _complaint(error, desk) from error

    def at(self, owner: str, tab: str, place: tuple[float, float]) -> tuple[int, int]:
        """The pixel (x, y) of a place on the enlarged map."""
        desk = self._desks.of(owner, tab)
        try:
            k = drawing.enlargement(*_width(_result(desk)).shape)
        except Exception as error:
            raise _complaint(error, desk) from error
        return int(place[0] // k), int(place[1] // k)

    def leave(self, owner: str, tab: str) -> None:
        """The tab was closed: nothing of it is kept."""
        self._desks.clear(owner, tab)


def _complaint(error: Exception, desk: Desk) -> Complaint:
    """What a user can mend, in one line; anything else is ours, and goes to the log."""
    if isinstance(error, CertesError | Stopped):
        return Complaint(words.one_line(error, desk.folder))
    if isinstance(error, MemoryError) or "out of memory" in str(error):
        return Complaint("memory: there is not enough for this; give a smaller picture")
    _LOG.error("a request failed", exc_info=error)
    return Complaint("something went wrong on the server; its log says what")


def _result(desk: Desk) -> Result:
    if desk.result is None:
        raise InputError("result: there is none (any more); press Restore first")
    return desk.result


def _thumbnail(desk: Desk) -> str:
    assert desk.picture is not None
    assert desk.path is not None
    pixels = desk.picture.pixels
    height, width = pixels.shape[1:]
    kind = "grey" if len(pixels) == 1 else "colour"
    said = f"{desk.path.name}: {width} x {height} pixels, {kind}, {desk.picture.dtype}"
    white = drawing.display_white(pixels.clamp(0, 1))
    return drawing.picture_html(drawing.as_pixels(pixels, white), said)


def _width(result: Result) -> Float[Tensor, "h w"]:
    assert result.kept.bounds is not None
    return result.kept.bounds.width[0].mean(dim=0)


def _shown(result: Result) -> Shown:
    bounds, seen = result.kept.bounds, result.kept.seen
    assert bounds is not None
    assert seen is not None
    estimate, width = bounds.estimate[0], _width(result)
    white = drawing.display_white(estimate)
    height, wide = estimate.shape[1:]
    folder = result.summary.parent
    before = drawing.as_pixels(seen[0], white, (height, wide))
    return Shown(
        drawing.save_png(before, folder / "before.png"),
        drawing.save_png(drawing.as_pixels(estimate, white), folder / "after.png"),
        _map(result, None),
        drawing.colour_bar(width),
        words.guarantee(result),
        words.summary(result),
        result,
    )


def _map(result: Result, region: Region | None) -> Path:
    """A new file each time, so that no browser shows an old one; of those, the newest are kept."""
    folder = result.summary.parent
    for old in sorted(folder.glob("width-*.png"), key=lambda p: p.stat().st_mtime)[:-_MAPS_KEPT]:
        old.unlink(missing_ok=True)
    pixels = drawing.width_map(_width(result), region)
    return drawing.save_png(pixels, folder / f"width-{secrets.token_hex(8)}.png")
