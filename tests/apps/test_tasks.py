"""Options become the operators they name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from certes.apps.options import TaskName, TaskOptions
from certes.apps.tasks import make_task, noise_level, task_of_label
from certes.errors import InputError
from certes.restoration import operators
from certes.restoration.operators import Inpaint

from .helpers import save

SHAPE = (1, 16, 24)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (TaskOptions(TaskName.DENOISE), operators.Denoise(SHAPE)),
        (TaskOptions(TaskName.SUPER_RESOLVE), operators.SuperResolution(SHAPE, 4, "box")),
        (
            TaskOptions(TaskName.SUPER_RESOLVE, factor=2, kernel="bicubic"),
            operators.SuperResolution(SHAPE, 2, "bicubic"),
        ),
        (
            TaskOptions(TaskName.DEBLUR),
            operators.Blur(SHAPE, operators.gaussian_kernel(2), "reflect"),
        ),
        (
            TaskOptions(TaskName.DEBLUR, kernel="uniform:9"),
            operators.Blur(SHAPE, operators.uniform_kernel(9), "reflect"),
        ),
    ],
)
def test_operator(options: TaskOptions, wanted: operators.DecomposedOperator) -> None:
    H = make_task(options).operator(SHAPE, 0)
    assert repr(H) == repr(wanted)
    x = torch.rand(2, *SHAPE)
    assert torch.equal(H(x), wanted(x))


def test_operator_behind_a_small_picture() -> None:
    task = make_task(TaskOptions(TaskName.SUPER_RESOLVE, factor=3))
    assert task.operator_behind(torch.zeros(1, 3, 8, 10)).in_shape == (3, 24, 30)


def test_random_masks_have_the_exact_share_and_differ_by_picture_and_seed() -> None:
    task = make_task(TaskOptions(TaskName.INPAINT, missing=0.75))
    masks = [task.operator(SHAPE, i) for i in (0, 0, 1)]
    masks.append(make_task(TaskOptions(TaskName.INPAINT, missing=0.75), 1).operator(SHAPE, 0))
    known = [H.mask for H in masks if isinstance(H, Inpaint)]
    assert [int(mask.sum()) for mask in known] == [16 * 24 // 4] * 4
    assert torch.equal(known[0], known[1])
    assert not torch.equal(known[0], known[2])
    assert not torch.equal(known[0], known[3])


def test_mask_saved_as_colours(tmp_path: Path) -> None:
    known = torch.rand(1, *SHAPE[1:]).round()
    mask = save(tmp_path / "mask.png", known.expand(3, -1, -1))
    H = make_task(TaskOptions(TaskName.INPAINT, mask=mask)).operator(SHAPE, 0)
    assert isinstance(H, Inpaint)
    assert torch.equal(H.mask, known == 1)


@pytest.mark.parametrize(
    "options",
    [
        TaskOptions(TaskName.DENOISE),
        TaskOptions(TaskName.SUPER_RESOLVE, factor=2, kernel="bicubic"),
        TaskOptions(TaskName.INPAINT, missing=0.8),
        TaskOptions(TaskName.SUPER_RESOLVE, factor=2, kernel="gaussian:1"),
        TaskOptions(TaskName.DEBLUR, kernel="gaussian:1.3"),
        TaskOptions(TaskName.DEBLUR, kernel="anisotropic:1,2"),
        TaskOptions(TaskName.DEBLUR, kernel="motion:5,30"),
        TaskOptions(TaskName.COLORIZE),
        TaskOptions(TaskName.COMPRESSED_SENSING, ratio=0.5),
        TaskOptions(TaskName.JPEG, quality=30),
    ],
)
def test_label_is_enough_to_repeat_a_task(options: TaskOptions) -> None:
    task = make_task(options)
    again = task_of_label(task.label)
    assert (again.label, again.behind(SHAPE)) == (task.label, task.behind(SHAPE))
    shape = (task.nominal[0], *SHAPE[1:])
    x = torch.rand(1, *shape)
    assert torch.equal(again.operator(shape, 5)(x), task.operator(shape, 5)(x))


def test_label_of_an_unknown_operator() -> None:
    with pytest.raises(InputError, match="operator 'tomography' is not one"):
        task_of_label("tomography")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TaskOptions(TaskName.DENOISE, factor=2), "factor: --task denoise takes none of these"),
        (TaskOptions(TaskName.DEBLUR, missing=0.5), "missing: --task deblur takes --kernel;"),
        (TaskOptions(TaskName.SUPER_RESOLVE, kernel="motion:5,30"), "super-resolve takes box, bic"),
        (TaskOptions(TaskName.DEBLUR, kernel="motion:5"), "give .*motion:LENGTH,ANGLE"),
        (TaskOptions(TaskName.DEBLUR, kernel="auto"), "auto estimates a blur from a blurred pic"),
        (TaskOptions(TaskName.COMPRESSED_SENSING, ratio=1.5), "ratio: 1.5"),
        (TaskOptions(TaskName.DENOISE, quality=5), "quality: --task denoise takes none of these"),
        (TaskOptions(TaskName.DEBLUR, kernel="motion"), "kernel: 'motion'; give gaussian:SIGMA"),
        (TaskOptions(TaskName.DEBLUR, kernel="gaussian:x"), "give gaussian:SIGMA"),
        (TaskOptions(TaskName.DEBLUR, kernel="gaussian:-1"), "sigma is -1.0; wanted a positive"),
        (TaskOptions(TaskName.DEBLUR, kernel="uniform:2.5"), "width is 2.5; wanted a positive int"),
        (TaskOptions(TaskName.INPAINT, missing=1.0), r"missing: 1.0; give a share .* \[0, 1\)"),
        (TaskOptions(TaskName.INPAINT, missing=-0.1), "missing: -0.1"),
    ],
)
def test_wrong_options_are_refused_at_once(options: TaskOptions, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_task(options)


def test_mask_and_missing_contradict_each_other(tmp_path: Path) -> None:
    mask = save(tmp_path / "mask.png", torch.ones(1, 8, 8))
    with pytest.raises(InputError, match="--mask says already"):
        make_task(TaskOptions(TaskName.INPAINT, mask=mask, missing=0.5))


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_noise_must_be_a_level(value: float) -> None:
    with pytest.raises(InputError, match=r"noise: .*; give a standard deviation of at least 0"):
        noise_level(make_task(TaskOptions(TaskName.DENOISE)), value)
