"""Kernels: known shapes, sums, directions, moments; pictures of kernels; sums that are refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators import Blur
from certes.restoration.operators.kernels import (
    anisotropic_kernel,
    check_unit_sum,
    disk_kernel,
    gaussian_kernel,
    kernel_from_picture,
    motion_kernel,
    normalised,
    uniform_kernel,
)

PLANES: list[Callable[[], Tensor]] = [
    lambda: motion_kernel(9.0, 0.0),
    lambda: motion_kernel(7.5, 33.0),
    lambda: motion_kernel(12.0, -70.0),
    lambda: motion_kernel(0.4, 45.0),
    lambda: disk_kernel(0.4),
    lambda: disk_kernel(3.2),
]


def moments(plane: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of (down, right), in pixels from the middle."""
    sides = [torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in plane.shape]
    offsets = torch.stack(torch.meshgrid(*sides, indexing="ij")).reshape(2, -1)
    weights = plane.reshape(-1)
    return offsets @ weights, (offsets * weights) @ offsets.T


@pytest.mark.parametrize("make", PLANES)
def test_planes_are_odd_centred_and_keep_brightness(make: Callable[[], Tensor]) -> None:
    plane = make()
    assert all(size % 2 for size in plane.shape)
    assert float(plane.sum()) == pytest.approx(1, abs=1e-12)
    assert bool((plane >= 0).all())
    torch.testing.assert_close(plane, plane.flip(0, 1), atol=1e-15, rtol=0)
    assert bool(plane[0].any())
    assert bool(plane[:, 0].any())


def test_motion_along_the_axes_is_a_row_of_equal_taps() -> None:
    row = uniform_kernel(7)[None]
    torch.testing.assert_close(motion_kernel(7, 0), row)
    torch.testing.assert_close(motion_kernel(7, 180), row)
    torch.testing.assert_close(motion_kernel(7, 90), row.T)
    # Between odd lengths the outermost taps are what is left over.
    left_over = torch.tensor([[0.5, 1, 1, 1, 0.5]], dtype=torch.float64) / 4
    torch.testing.assert_close(motion_kernel(4, 0), left_over)


@pytest.mark.parametrize("angle", [10.0, 30.0, 45.0, 75.0, 120.0, 163.0])
def test_motion_has_the_length_and_the_direction_asked_for(angle: float) -> None:
    _, covariance = moments(motion_kernel(25.0, angle))
    across, along = torch.linalg.eigvalsh(covariance)
    down, right = torch.linalg.eigh(covariance).eigenvectors[:, 1]
    # Counter-clockwise on a screen: to the right is up, and up is against the rows.
    assert math.degrees(math.atan2(-down, right)) % 180 == pytest.approx(angle, abs=0.5)
    # A line, and the square of a pixel twice (its own width, and the pixel that it is read by).
    assert float(along) == pytest.approx(25**2 / 12 + 1 / 12, rel=0.01)
    assert float(across) == pytest.approx(1 / 6, abs=0.05)


@pytest.mark.parametrize("radius", [3.3, 6.0, 9.4])
def test_the_disk_is_round_with_the_radius_asked_for(radius: float) -> None:
    plane = disk_kernel(radius)
    _, covariance = moments(plane)
    torch.testing.assert_close(plane, plane.T, atol=1e-15, rtol=0)
    # A uniform disk, seen through pixels: r^2 / 4 along either axis and 1/12 for the pixel.
    expected = (radius**2 / 4 + 1 / 12) * torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(covariance, expected, rtol=0.01, atol=1e-12)
    assert float(plane.max()) == pytest.approx(1 / (math.pi * radius**2), rel=0.01)


def test_anisotropic_kernels_blur_height_and_width_apart() -> None:
    pair = anisotropic_kernel(0.6, 1.7)
    torch.testing.assert_close(pair[0], gaussian_kernel(0.6))
    point = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    point[..., 15, 15] = 1
    _, covariance = moments(Blur((1, 31, 31), pair)(point)[0, 0])
    # Cutting at four standard deviations takes a little off both.
    torch.testing.assert_close(
        covariance.diag().sqrt(), torch.tensor([0.6, 1.7]).double(), rtol=0.02, atol=0
    )


def trace() -> Tensor:
    """A lopsided kernel without black margins."""
    return torch.tensor([[0.0, 2, 0], [1, 4, 2], [0, 0, 1]], dtype=torch.float64)


def test_a_picture_of_a_kernel_means_what_its_numbers_mean() -> None:
    plane = trace() / trace().sum()
    grey = trace()[None] / 8
    colours = torch.stack([grey[0] * share for share in (0.5, 1.0, 1.5)])
    for picture in (grey, grey.float(), colours, torch.nn.functional.pad(grey, (5, 5, 2, 2))):
        torch.testing.assert_close(kernel_from_picture(picture), plane, atol=1e-7, rtol=0)


@pytest.mark.parametrize("padding", [(2, 6, 0, 0), (3, 1, 0, 2), (1, 2, 5, 3)])
def test_black_margins_are_cut_without_moving_the_anchor(padding: tuple[int, ...]) -> None:
    picture = torch.nn.functional.pad(trace()[None], padding)
    read = kernel_from_picture(picture)
    x = torch.rand(1, 1, 24, 26, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shape = (1, 24, 26)
    as_drawn = Blur(shape, picture[0] / picture.sum(), "circular")(x)
    torch.testing.assert_close(Blur(shape, read, "circular")(x), as_drawn)
    assert read.numel() < picture.numel()


def test_a_symmetric_margin_goes_entirely() -> None:
    assert kernel_from_picture(torch.nn.functional.pad(trace()[None], (9, 9, 9, 9))).shape == (3, 3)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (torch.zeros(1, 5, 5), "black"),
        (torch.full((1, 5, 5), torch.nan), "not finite"),
        (torch.eye(5)[None] - 0.1, "-0.1; light is never negative"),
        (torch.eye(5), "C, H, W"),
        (torch.zeros(1, 0, 5), "C, H, W"),
    ],
)
def test_pictures_that_are_no_kernels_are_explained(picture: Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        kernel_from_picture(picture)


def test_normalised_kernels_of_every_kind_sum_to_one() -> None:
    taps, plane = torch.tensor([1.0, 2.0, 1.0]), trace()
    for kernel in (taps, plane, (taps, 3 * taps)):
        with pytest.raises(InputError, match="so it must sum to 1: divide it by its sum"):
            check_unit_sum(kernel)
        check_unit_sum(normalised(kernel))


def test_the_sum_that_counts_is_that_of_the_plane() -> None:
    check_unit_sum(gaussian_kernel(2.0))
    check_unit_sum((torch.tensor([0.5]), torch.tensor([2.0])))
    with pytest.raises(InputError, match=r"kernel sums to 0\.79;"):
        check_unit_sum(torch.full((4,), math.sqrt(0.79) / 4))
    check_unit_sum(torch.tensor([[0.9995]]))
    with pytest.raises(InputError, match="sums to"):
        check_unit_sum(torch.tensor([[0.9995]]), tolerance=1e-4)


@pytest.mark.parametrize("weights", [torch.tensor([1.0, -2.0]), torch.tensor([torch.inf])])
def test_weights_without_a_positive_sum_cannot_be_normalised(weights: Tensor) -> None:
    with pytest.raises(InputError, match="positive, finite sum"):
        normalised(weights)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_sizes_that_make_no_sense_are_named(value: float) -> None:
    with pytest.raises(InputError, match="length is"):
        motion_kernel(value, 0)
    with pytest.raises(InputError, match="radius is"):
        disk_kernel(value)
    with pytest.raises(InputError, match="sigma is"):
        anisotropic_kernel(1.0, value)


def test_a_direction_must_be_a_number() -> None:
    with pytest.raises(InputError, match="angle is nan"):
        motion_kernel(5, math.nan)
