"""Masks of pixels and of frequencies."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from certes.errors import InputError
from certes.restoration.operators import box_mask, cartesian_mask, random_mask, text_mask


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.98])
def test_random_mask_has_the_exact_share(missing: float) -> None:
    known = random_mask(10, 15, missing, seed=0)
    assert known.shape == (10, 15)
    assert int((~known).sum()) == round(missing * 150)


def test_random_mask_depends_on_the_seed() -> None:
    a, b, c = (random_mask(8, 8, 0.5, seed) for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_box_mask() -> None:
    known = box_mask(6, 8, (1, 2, 3, 4))
    expected = torch.ones(6, 8, dtype=torch.bool)
    expected[1:4, 2:6] = False
    assert torch.equal(known, expected)


def test_text_mask_fills_the_picture_and_leaves_most_of_it() -> None:
    known = text_mask(90, 160, "lorem ipsum", size=12)
    assert known.shape == (90, 160)
    assert known.dtype == torch.bool
    for quarter in (part for half in known.chunk(2, 0) for part in half.chunk(2, 1)):
        assert 0.02 < float((~quarter).double().mean()) < 0.5


def test_cartesian_mask_reads_whole_columns_and_the_centre() -> None:
    for seed in range(5):
        known = cartesian_mask(12, 40, 0.25, 0.1, seed)
        assert torch.equal(known, known[:1].expand(12, -1))
        assert int(known[0].sum()) == 10
        centred = torch.fft.fftshift(known[0])
        # Four columns around frequency zero, whichever side the last one is on.
        assert bool(centred[19:22].all())
        assert bool(centred[18] | centred[22])


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (random_mask, (4, 4, 1.0, 0), ["missing: 1.0"]),
        (random_mask, (4, 4, 0.99, 0), ["at least one"]),
        (random_mask, (4, 4, -0.1, 0), ["missing: -0.1"]),
        (box_mask, (4, 4, (0, 0, 4, 4)), ["leaves some pixel"]),
        (box_mask, (4, 4, (2, 0, 3, 1)), ["4 x 4"]),
        (box_mask, (4, 4, (0, 0, 0, 1)), ["0 x 1"]),
        (text_mask, (20, 20, " "), ["marks no pixel"]),
        (text_mask, (20, 20, "a", 0), ["size: 0"]),
        (cartesian_mask, (4, 8, 0.0, 0.0, 0), ["ratio: 0.0"]),
        (cartesian_mask, (4, 8, 0.5, -0.1, 0), ["centre: -0.1"]),
    ],
)
def test_masks_that_make_no_sense_are_refused(
    make: Any, arguments: tuple[Any, ...], words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        make(*arguments)
    assert all(word in str(caught.value) for word in words)
