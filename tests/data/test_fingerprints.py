"""A picture is known again, whole or in part; others are not taken for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from certes.data.bundled import bundled_pictures
from certes.data.fingerprints import WINDOW, Album, fingerprints, sketch, sketched
from certes.data.patches import to_grey

REAL = [picture.pixels for picture in bundled_pictures()]


def noise(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape or (1, 64, 64), generator=generator).byte()


def windows_of(numbers: np.ndarray) -> np.ndarray:
    return numbers[numbers % 2 == 0]


def brute(picture: torch.Tensor) -> set[int]:
    """The hashes of all windows, one by one, in whole numbers of any size."""
    down, across, channel = 0xD6E8FEB86659FD93, 0x9E3779B97F4A7C15, 0xA24BAED4963EE407
    channels, height, width = picture.shape
    values, found = picture.tolist(), set[int]()
    for top in range(height - WINDOW + 1):
        for left in range(width - WINDOW + 1):
            total = sum(
                values[c][top + i][left + j]
                * pow(channel, channels - 1 - c)
                * pow(down, WINDOW - 1 - i)
                * pow(across, WINDOW - 1 - j)
                for c in range(channels)
                for i in range(WINDOW)
                for j in range(WINDOW)
            )
            z = total % 2**64
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
            z ^= z >> 31
            if z < 2**58:
                found.add(z // 2 * 2)
    return found


@pytest.mark.parametrize("shape", [(1, 24, 31), (3, 20, 17)])
def test_hashes_are_the_polynomials_of_the_windows(shape: tuple[int, ...]) -> None:
    picture = noise(0, *shape)
    expected = brute(picture)
    assert len(expected) > 2
    assert set(windows_of(fingerprints(picture)).tolist()) == expected


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(range(8)),
    st.integers(0, 120),
    st.integers(0, 120),
    st.integers(WINDOW, 130),
    st.integers(WINDOW, 130),
)
def test_a_crop_keeps_the_fingerprints_inside_it(
    index: int, top: int, left: int, height: int, width: int
) -> None:
    crop = REAL[index][:, top : top + height, left : left + width]
    assert np.isin(windows_of(fingerprints(crop)), fingerprints(REAL[index])).all()


def test_bytes_and_floats_are_one_picture() -> None:
    picture = noise(1, 3, 32, 32)
    assert np.array_equal(fingerprints(picture), fingerprints(picture.float() / 255))


def test_flat_backgrounds_do_not_count_but_are_known_whole() -> None:
    dark = torch.zeros(1, 64, 64).byte()
    dark[0, ::5, ::7] = 1  # a sprinkle of odd pixels
    assert len(fingerprints(dark)) == 1
    assert Album.of([dark]).knows(dark.float() / 255)
    assert not Album.of([dark]).knows(dark[:, :32])
    assert sketched([sketch(dark)], [dark, dark[:, :32]]) == [True, False]
    # The faintest noise is enough.
    faint = noise(2) % 2 + 3
    assert Album.of([faint]).knows(faint[:, 10:50, 10:50])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 90), (3, 8, 8)])
def test_small_pictures_are_known_whole(shape: tuple[int, ...]) -> None:
    picture = noise(3, *shape)
    assert Album.of([picture]).knows(picture)
    assert sketched([sketch(picture)], [picture]) == [True]
    other = picture.clone()
    other[0, 0, 0] += 1
    assert not Album.of([picture]).knows(other)


def test_real_pictures_are_told_apart() -> None:
    half = Album.of(REAL[:4])
    assert [half.knows(picture) for picture in REAL] == [True] * 4 + [False] * 4
    rng = np.random.default_rng(0)
    hits = {True: 0, False: 0}
    for i, picture in enumerate(REAL):
        for _ in range(25):
            top, left = rng.integers(0, 256 - 64, 2)
            hits[i < 4] += half.knows(picture[:, top : top + 64, left : left + 64])
    assert hits[False] == 0
    assert hits[True] >= 95


def test_unlike_pictures_on_dark_ground_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: without the demand that neighbours differ, specks on black are alike everywhere."""

    def specks(seed: int) -> torch.Tensor:
        rare = noise(seed, 1, 200, 200) * (noise(seed + 100, 1, 200, 200) == 0)
        picture = rare % 12  # one pixel in 256, of values up to 11
        picture[:, 80:100, 80:100] = noise(seed, 1, 20, 20)
        return picture

    assert not Album.of([specks(0)]).knows(specks(1))
    monkeypatch.setattr("certes.data.fingerprints._UNEQUAL", 0)
    assert Album.of([specks(0)]).knows(specks(1))


def test_mirrored_pictures_are_others() -> None:
    assert not Album.of(REAL[:1]).knows(REAL[0].flip(2))


def test_a_colour_picture_is_known_by_its_luminance() -> None:
    colour = noise(4, 3, 64, 64)
    album = Album.of([to_grey(colour)])
    assert album.knows(colour.float() / 255)
    assert not album.knows(noise(5, 3, 64, 64))


def test_albums_join_and_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certes.data.fingerprints._BUDGET", 500)
    big, small = [noise(seed, 1, 200, 200) for seed in (6, 7)], noise(8)
    whole, second = Album.of(big), Album.of([small])
    assert len(whole.numbers) == 500 + 2
    assert whole.knows(big[1][:, 20:84, 100:164])
    joined = whole | second
    assert joined.bound == whole.bound
    assert int(windows_of(joined.numbers).max()) <= joined.bound
    assert all(joined.knows(p) for p in [big[0], small, small[:, 4:]])
    assert not joined.knows(noise(9))


def test_nothing_is_known_of_nothing() -> None:
    assert not Album.of([]).knows(REAL[0])
    assert sketched([], REAL[:2]) == [False, False]


def test_a_sketch_is_short_and_stands_for_its_picture() -> None:
    sketches = [sketch(picture[:, 64:192, 64:192]) for picture in REAL[:4]]
    assert all(len(words) <= 8 and {len(word) for word in words} == {16} for words in sketches)
    assert sketched(sketches, REAL) == [True] * 4 + [False] * 4
    exact = [picture[:, 64:192, 64:192] for picture in REAL]
    assert sketched(sketches, exact) == [True] * 4 + [False] * 4


def test_a_damaged_sketch() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        sketched([("pixels",)], REAL[:1])
