"""The manifest: one row for each picture through any order of writing, dying and closing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certes.apps.batch.manifest import DONE, Manifest, Row
from certes.apps.batch.places import Place

NAMES = ["a", "b", "c"]


def row(name: str, status: str = DONE, seconds: float = 1.0) -> Row:
    return Row(name, f"file:///{name}.png", "1", "mark", status, seconds=seconds)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.sampled_from(NAMES), min_size=1, unique=True)),
        st.tuples(st.sampled_from(["die", "close"]), st.just([])),
    ),
    max_size=8,
)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(EVENTS)
def test_the_last_row_of_each_picture_is_kept(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, list[str]]]
) -> None:
    place = Place(str(tmp_path_factory.mktemp("place")))
    manifest, wanted = Manifest(place), dict[str, Row]()
    for number, (what, names) in enumerate(events):
        if what == "add":
            rows = [row(name, seconds=float(number)) for name in names]
            manifest.add(rows)
            wanted |= {one.name: one for one in rows}
        elif what == "close":
            manifest.close(NAMES)
        else:
            manifest = Manifest(place)
        assert manifest.rows == wanted
    assert Manifest(place).rows == wanted
