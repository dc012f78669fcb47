"""Conditions are what they say, in users' form and as networks see them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from certes.conditional.tasks import (
    TASKS,
    ConditionalTask,
    Denoising,
    Drawing,
    Inpainting,
    Paired,
    SuperResolving,
    task_from_config,
)
from certes.data.bundled import bundled_pictures
from certes.errors import InputError
from certes.restoration.operators import Edges

from .conftest import generator


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """A real one, 64 x 48 pixels, as float64: the part that varies most."""
    parts = bundled_pictures()[0].pixels[:1].unfold(1, 64, 32).unfold(2, 48, 24).flatten(0, 2)
    return parts[parts.std(dim=(1, 2)).argmax()][None, None].double()


def batch(count: int = 6, channels: int = 3) -> Tensor:
    """Values between 0.2 and 0.8: neither black nor missing."""
    return 0.2 + 0.6 * torch.rand(count, channels, 24, 32, generator=generator(8)).double()


def in_pillow(picture: Tensor, factor: int) -> Tensor:
    """Bicubic of a picture whose edge pixels are repeated outwards."""
    margin = 4 * factor
    wide = np.pad(picture.numpy().astype(np.float32), margin, mode="symmetric")
    height, width = (side // factor for side in wide.shape)
    small = Image.fromarray(wide).resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(small))[4:-4, 4:-4].double()


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_small_pictures_are_pillows_and_shown_by_repetition(picture: Tensor, factor: int) -> None:
    task = SuperResolving(factor=factor)
    y = task.measure(picture, generator())
    assert y.shape == (1, 1, 64 // factor, 48 // factor)
    torch.testing.assert_close(y[0, 0], in_pillow(picture[0, 0], factor), atol=2e-6, rtol=0)
    shown = task.shown(y)
    assert shown.shape == picture.shape
    rows, columns = torch.arange(64) // factor, torch.arange(48) // factor
    assert torch.equal(shown, y[:, :, rows][..., columns])
    assert task.picture_shape(y, 1) == (1, 64, 48)
    assert not torch.allclose(y, picture[..., ::factor, ::factor], atol=1e-2)  # it is filtered


def test_noise_has_the_stated_spread() -> None:
    x = torch.full((64, 1, 24, 32), 0.5, dtype=torch.float64)
    count = x.numel()
    for task in (Denoising(noise=0.07), Denoising()):
        error = task.measure(x, generator(2)) - x
        assert error.std() / task.noise == pytest.approx(1, abs=5 / (2 * count) ** 0.5)
        assert abs(error.mean()) < 5 * task.noise / count**0.5
        apart = error.flatten(1)[:, 0].abs().unique()
        assert len(apart) == len(x)
    small = SuperResolving(noise=0.05, factor=4)
    difference = small.measure(x, generator(2)) - SuperResolving(factor=4).measure(x, generator(2))
    assert difference.std() == pytest.approx(0.05, rel=0.1)
    assert torch.equal(Denoising(noise=0.0).measure(x, generator()), x)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.6])
def test_holes_are_squares_of_the_stated_area(share: float) -> None:
    x = batch(40)
    y = Inpainting(share=share).measure(x, generator(1))
    side = int((share * 24 * 32) ** 0.5)
    holes = y.isnan()
    assert torch.equal(holes, holes[:, :1].expand_as(holes))
    for hole in holes[:, 0]:
        rows, columns = hole.any(1), hole.any(0)
        assert hole.sum() == rows.sum() * columns.sum() == side**2
        for line in (rows, columns):
            assert line.int().diff().abs().sum() + line[0].int() + line[-1].int() == 2
    assert torch.equal(y[~holes], x[~holes])
    assert len({tuple(hole.flatten().tolist()) for hole in holes[:, 0]}) > 10


def test_holes_lie_everywhere() -> None:
    """Every corner of the picture is lost at times, and where they begin is uniform."""
    x = torch.full((4000, 1, 8, 8), 0.5)
    holes = Inpainting(share=0.25).measure(x, generator(3)).isnan()[:, 0]
    corners = holes[:, :: 8 - 1, :: 8 - 1].float().mean(0)
    assert ((corners - 1 / 25).abs() < 5 * (1 / 25 / 4000) ** 0.5).all()


def test_holes_are_shown_as_black_with_a_mask() -> None:
    task, x = Inpainting(), batch()
    y = task.measure(x, generator(1))
    shown = task.shown(y)
    assert shown.shape[1] == task.channels(3) == 4
    assert torch.equal(shown[:, 3:], (~y[:, :1].isnan()).double())
    assert torch.equal(shown[:, :3], torch.where(y.isnan(), 0.0, x))
    plain = Inpainting(mask=False)
    assert plain.channels(3) == 3
    assert torch.equal(plain.shown(y), shown[:, :3])


def test_holes_have_no_noise() -> None:
    task, x = Inpainting(noise=0.05), batch(64)
    y = task.measure(x, generator(1))
    error = (y - x)[~y.isnan()]
    assert error.std() == pytest.approx(0.05, rel=0.03)
    assert y.isnan().any()
    assert task.shown(y).isfinite().all()


def test_an_inpainting_operator_has_the_hole_of_its_generator() -> None:
    task, x = Inpainting(), batch(1)
    H = task.operator((3, 24, 32), generator(7))
    y = task.measure(x, generator(7))
    assert torch.equal(H(x), y.nan_to_num(nan=0.0))


def test_drawings_are_the_edges(picture: Tensor) -> None:
    task = Drawing(sigma=0.8, threshold=0.05)
    y = task.measure(picture, generator())
    assert torch.equal(y, Edges((1, 64, 48), 0.8, 0.05)(picture))
    assert 0.01 < y.mean() < 0.5
    assert set(y.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(task.shown(y), y)
    assert task.measure(batch(), generator()).shape == (6, task.channels(3), 24, 32)


def test_pairs_bring_their_conditions() -> None:
    task, y = Paired(condition_channels=2), batch(2, 2)
    assert task.channels(3) == 2
    assert task.shown(y) is y
    with pytest.raises(InputError, match="'paired' conditions are not made from pictures"):
        task.measure(batch(), generator())


MADE = [
    Denoising(noise=0.2),
    SuperResolving(factor=4, noise=0.01),
    Inpainting(share=0.1, mask=False, noise=0.1),
    Drawing(sigma=0.9, threshold=0.2),
]


@pytest.mark.parametrize("task", MADE, ids=lambda task: task.kind)
def test_conditions_are_those_of_their_generator(task: ConditionalTask) -> None:
    x = batch()
    first, again, other = (task.measure(x, generator(seed)) for seed in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0, equal_nan=True)
    same = torch.equal(first.nan_to_num(), other.nan_to_num())
    assert same == isinstance(task, Drawing)
    assert task.shown(first).shape == (6, task.channels(3), 24, 32)
    assert task.shown(first).dtype == x.dtype
    assert task.picture_shape(first, 3) == (3, 24, 32)


@pytest.mark.parametrize("task", [*MADE, Paired(condition_channels=5)], ids=lambda task: task.kind)
def test_tasks_come_back_from_their_configs(task: ConditionalTask) -> None:
    assert task_from_config(json.loads(json.dumps(task.to_config()))) == task
    assert TASKS[task.kind] is type(task)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "colour"}, "task: kind 'colour'; give one of denoise, super-resolve, deblur"),
        ({}, "task: kind None"),
        ({"kind": "denoise", "factor": 2}, r"task: fields \['factor'\] do not fit 'denoise'"),
        ({"kind": "denoise", "noise": -1.0}, "noise: -1.0; give a standard deviation, 0 or more"),
        ({"kind": "inpaint", "share": 1.0}, r"share: 1.0; give a share of the pixels, in \(0, 1\)"),
    ],
)
def test_configs_that_make_no_sense(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        task_from_config(config)
    assert "\n" not in str(error.value)


def test_pictures_that_a_task_cannot_use() -> None:
    with pytest.raises(InputError, match="factor 5 does not divide"):
        SuperResolving(factor=5).measure(batch(), generator())
    with pytest.raises(InputError, match=r"share: 0\.9 of 4 x 32 pixels is a square of 10"):
        Inpainting(share=0.9).measure(batch()[..., :4, :], generator())
