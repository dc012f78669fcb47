"""Operators without a cheap decomposition: the inherited case, closed forms, and posteriors."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.ndimage
import torch
from skimage.transform import radon
from torch import Tensor

import certes
from certes.diffusion.problems.linear import condition
from certes.errors import InputError
from certes.restoration.operators import (
    Blur,
    Inpaint,
    LinearOperator,
    MultiCoilMRI,
    Operator,
    Stacked,
    SubsampledFourier,
    SuperResolution,
    Tomography,
    ValidBlur,
    VaryingBlur,
    cartesian_mask,
)

from .laws import field
from .linear_case import LinearCase, matrix_of, parametrize_linear
from .operator_case import TIGHT, random

pytest_generate_tests = parametrize_linear


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernel(a: int, b: int, middle: float = 2.0, seed: int = 0) -> Tensor:
    """Of no symmetry, heavy enough in the middle to be inverted."""
    taps = uniform(a, b, seed=seed)
    taps[a // 2, b // 2] += middle
    return taps / taps.sum()


def kernels(rows: int, columns: int, a: int, b: int, middle: float = 2.0) -> Tensor:
    grid = [kernel(a, b, middle, seed=seed) for seed in range(rows * columns)]
    return torch.stack(grid).reshape(rows, columns, a, b)


def coils(count: int, height: int, width: int) -> Tensor:
    return torch.complex(random(count, height, width), random(count, height, width, seed=1))


def some_mask(height: int, width: int, share: float) -> Tensor:
    return uniform(height, width, seed=3) < share


def convolved(x: Tensor, taps: Tensor, mode: str) -> Tensor:
    planes = x.reshape(-1, *x.shape[-2:]).numpy()
    answers = [scipy.ndimage.convolve(plane, taps.numpy(), mode=mode) for plane in planes]
    return torch.from_numpy(np.stack(answers)).reshape(x.shape)


class TestValidBlur(LinearCase):
    name = "valid-blur"

    @staticmethod
    def instances() -> Iterator[LinearOperator]:
        yield ValidBlur((1, 6, 7), kernel(3, 2))
        yield ValidBlur((3, 5, 5), kernel(1, 4))
        yield ValidBlur((2, 4, 6), kernel(4, 6))
        yield ValidBlur((4, 5, 4), (kernel(2, 1)[:, 0], kernel(1, 3)[0]))

    @pytest.mark.parametrize(("a", "b"), [(3, 3), (4, 5), (2, 7), (1, 1), (9, 8)])
    def test_is_the_inside_of_scipys_convolution_at_any_boundary(self, a: int, b: int) -> None:
        x, taps = random(2, 3, 10, 9), kernel(a, b)
        H = ValidBlur((3, 10, 9), taps)
        for mode in ("reflect", "constant", "wrap"):
            reference = H.interior(convolved(x, taps, mode))
            torch.testing.assert_close(H(x), reference, **TIGHT)

    def test_is_the_inside_of_a_blur(self) -> None:
        x, taps = random(1, 1, 12, 11), kernel(4, 3)
        H, around = ValidBlur((1, 12, 11), taps), Blur((1, 12, 11), taps, "circular")
        torch.testing.assert_close(H(x), H.interior(around(x)), **TIGHT)

    def test_an_impulse_inside_stays_where_it_is(self) -> None:
        taps = torch.zeros(6, 3).double()
        taps[3, 1] = 1.0  # the anchor
        H = ValidBlur((2, 9, 8), taps)
        x = random(1, 2, 9, 8)
        torch.testing.assert_close(H(x), H.interior(x), **TIGHT)

    def test_behind_a_measurement(self) -> None:
        H = ValidBlur.behind((3, 5, 4), kernel(4, 3))
        assert H.in_shape == (3, 8, 6)
        assert H.out_shape == (3, 5, 4)
        assert H.interior(torch.zeros(7, 3, 8, 6)).shape == (7, 3, 5, 4)

    def test_what_is_wrong_is_explained(self) -> None:
        with pytest.raises(
            InputError, match=r"kernel \(5 x 3\) is larger than .* \(4 x 9\).*behind"
        ):
            ValidBlur((1, 4, 9), kernel(5, 3))
        with pytest.raises(InputError, match="all zero"):
            ValidBlur((1, 4, 9), torch.zeros(3, 3))
        with pytest.raises(InputError, match=r"\(1, 1, 4, 5\).*wanted a picture of 4 x 9"):
            ValidBlur((1, 4, 9), kernel(3, 3)).interior(torch.zeros(1, 1, 4, 5))


class TestVaryingBlur(LinearCase):
    name = "varying-blur"

    @staticmethod
    def instances() -> Iterator[LinearOperator]:
        yield VaryingBlur((1, 7, 6), kernels(2, 3, 3, 3))
        yield VaryingBlur((3, 5, 4), kernels(1, 2, 2, 4))
        yield VaryingBlur((2, 3, 4), kernels(2, 2, 7, 9, middle=9.0))
        yield VaryingBlur((4, 4, 4), kernels(1, 1, 3, 3))
        yield VaryingBlur((1, 5, 6), kernels(2, 1, 3, 2), uniform(2, 1, 5, 6, seed=4))

    @pytest.mark.parametrize(("a", "b"), [(3, 3), (4, 7), (11, 12)])
    def test_one_kernel_is_scipys_convolution(self, a: int, b: int) -> None:
        x, taps = random(2, 2, 9, 8), kernel(a, b)
        for grid in (taps[None, None], taps.expand(3, 2, a, b)):
            H = VaryingBlur((2, 9, 8), grid)
            torch.testing.assert_close(H(x), convolved(x, taps, "reflect"), **TIGHT)

    def test_every_pixel_spreads_by_the_kernel_interpolated_there(self) -> None:
        grid = kernels(3, 2, 3, 3)
        H = VaryingBlur((1, 18, 16), grid)
        # Middles of 3 x 2 parts: rows 2.5, 8.5, 14.5, columns 3.5, 11.5.
        places = {
            (4, 5): (0.75 * 0.8125, 0.25 * 0.8125, 0.75 * 0.1875, 0.25 * 0.1875),
            (1, 1): (1.0, 0.0, 0.0, 0.0),  # beyond the outermost middles: the nearest kernel
        }
        for (i, j), (here, below, right, both) in places.items():
            spread = here * grid[0, 0] + below * grid[1, 0] + right * grid[0, 1] + both * grid[1, 1]
            impulse = torch.zeros(1, 1, 18, 16, dtype=torch.float64)
            impulse[..., i, j] = 1.0
            answer = H(impulse)[0, 0]
            torch.testing.assert_close(answer[i - 1 : i + 2, j - 1 : j + 2], spread, **TIGHT)
            assert float(answer.sum()) == pytest.approx(1.0, abs=1e-12)

    def test_is_the_sum_that_it_says(self) -> None:
        x, grid, weights = random(2, 1, 9, 8), kernels(2, 2, 3, 4), uniform(2, 2, 9, 8, seed=2)
        weights[0, 1, :, 3:] = 0.0  # a kernel that does not reach everywhere
        weights[1, 0] = 0.0  # and one that holds nowhere
        reference = sum(
            convolved(weights[i, j] * x, grid[i, j], "reflect") for i in (0, 1) for j in (0, 1)
        )
        torch.testing.assert_close(VaryingBlur((1, 9, 8), grid, weights)(x), reference, **TIGHT)

    def test_other_kernels_or_weights_are_described_otherwise(self) -> None:
        grid, weights = kernels(2, 2, 3, 3), uniform(2, 2, 6, 6)
        made = [
            VaryingBlur((1, 6, 6), grid),
            VaryingBlur((1, 6, 6), grid.flip(0)),
            VaryingBlur((1, 6, 6), grid, weights),
        ]
        assert len({H.describe()["digest"] for H in made}) == 3
        assert VaryingBlur((1, 6, 6), grid.float()).describe()["kernels"] == [2, 2, 3, 3]

    @pytest.mark.parametrize(
        ("kernels", "weights", "words"),
        [
            (torch.ones(3, 3), None, r"kernels have shape \(3, 3\)"),
            (torch.zeros(1, 1, 3, 3), None, "kernels are all zero"),
            (torch.full((1, 1, 3, 3), math.nan), None, "not finite"),
            (torch.ones(2, 1, 3, 3), torch.ones(1, 2, 6, 5), r"wanted \(2, 1, 6, 5\)"),
            (torch.ones(2, 1, 3, 3), torch.zeros(2, 1, 6, 5), "weights are all zero"),
        ],
    )
    def test_what_is_wrong_is_explained(
        self, kernels: Tensor, weights: Tensor | None, words: str
    ) -> None:
        with pytest.raises(InputError, match=words):
            VaryingBlur((1, 6, 5), kernels, weights)


ANGLES = [0.0, 20.0, 45.0, 63.4, 90.0, 100.0, 135.0, 170.0]


def blobs(height: int, width: int) -> tuple[Tensor, list[tuple[float, float, float]]]:
    """A smooth phantom: three Gaussians, as (row, column, width) from the middle."""
    places = [(-8.0, 5.0, 4.0), (6.0, -9.0, 3.0), (3.0, 8.0, 5.0)]
    i, j = (torch.arange(n).double() - (n - 1) / 2 for n in (height, width))
    shapes = [
        torch.exp(-((i[:, None] - row) ** 2 + (j - column) ** 2) / (2 * spread**2))
        for row, column, spread in places
    ]
    return torch.stack(shapes).sum(0)[None, None], places


def error(answer: Tensor, reference: Tensor) -> float:
    return float((answer - reference).abs().max() / reference.abs().max())


class TestTomography(LinearCase):
    name = "tomography"

    @staticmethod
    def instances() -> Iterator[LinearOperator]:
        yield Tomography((1, 5, 6), [0, 20, 50, 77, 90, 110, 130, 155])
        yield Tomography((3, 4, 4), torch.linspace(0, 180, 9)[:-1], 4)
        yield Tomography((2, 5, 3), [0, 45.0, 135], 3)
        yield Tomography((1, 6, 4), [30.0], 2)
        yield Tomography((4, 3, 3), [10, 60, 100, 150.0])

    @pytest.mark.parametrize(("height", "width"), [(65, 65), (64, 50), (49, 66)])
    def test_line_integrals_of_gaussians(self, height: int, width: int) -> None:
        x, places = blobs(height, width)
        H = Tomography((1, height, width), ANGLES)
        detectors = torch.arange(H.out_shape[2]).double() - (H.out_shape[2] - 1) / 2
        reference = torch.zeros(H.out_shape[1:], dtype=torch.float64)
        for k, angle in enumerate(map(math.radians, ANGLES)):
            for row, column, spread in places:
                t = column * math.cos(angle) - row * math.sin(angle)
                mass = spread * math.sqrt(2 * math.pi) / max(height, width)
                reference[k] += mass * torch.exp(-((detectors - t) ** 2) / (2 * spread**2))
        assert error(H(x)[0, 0], reference) < 0.01
        # Negative controls: rays the other way round, and angles 3 degrees off.
        assert error(H(x)[0, 0].flip(1), reference) > 0.1
        turned = Tomography((1, height, width), [angle + 3 for angle in ANGLES])
        assert error(turned(x)[0, 0], reference) > 0.04

    @pytest.mark.filterwarnings("ignore:Radon transform")
    def test_agrees_with_scikit_image(self) -> None:
        x, _ = blobs(65, 65)
        reference = torch.from_numpy(radon(x[0, 0].numpy(), ANGLES, circle=True)).T / 65
        assert error(Tomography((1, 65, 65), ANGLES, 65)(x)[0, 0], reference) < 0.01

    def test_sums_along_the_axes(self) -> None:
        x = random(1, 2, 5, 8)
        y = Tomography((2, 5, 8), [0.0, 90.0, 180.0], 8)(x)
        torch.testing.assert_close(y[:, :, 0], x.sum(2) / 8, **TIGHT)
        torch.testing.assert_close(y[:, :, 2], x.sum(2).flip(-1) / 8, **TIGHT)
        # Rows fall between detectors where one number is odd and the other even.
        y = Tomography((2, 5, 8), [90.0], 5)(x)
        torch.testing.assert_close(y[:, :, 0], x.sum(3).flip(-1) / 8, **TIGHT)

    def test_all_detectors_see_all_of_the_picture(self) -> None:
        # Every shadow of one pixel has the same mass, up to the steepness of the interpolation.
        H = Tomography((1, 8, 6), ANGLES)
        corner = torch.zeros(1, 1, 8, 6, dtype=torch.float64)
        corner[..., 0, 0] = 1.0
        mass = H(corner)[0, 0].sum(1) * 8
        assert float(mass.min()) > 0.7
        assert float(mass.max()) < 1.42

    @pytest.mark.parametrize("angles", [[], [[0.0]], [0.0, math.inf]])
    def test_bad_angles_are_explained(self, angles: list[float]) -> None:
        with pytest.raises(InputError, match=r"angles have shape .* degrees"):
            Tomography((1, 4, 4), angles)

    @pytest.mark.parametrize("detectors", [0, 2.5])
    def test_bad_detectors_are_explained(self, detectors: int) -> None:
        with pytest.raises(InputError, match="detectors is"):
            Tomography((1, 4, 4), [0.0], detectors)


class TestMultiCoilMRI(LinearCase):
    name = "multi-coil-mri"

    @staticmethod
    def instances() -> Iterator[LinearOperator]:
        yield MultiCoilMRI((1, 6, 5), some_mask(6, 5, 0.5), coils(3, 6, 5))
        yield MultiCoilMRI((1, 4, 4), some_mask(4, 4, 0.3), coils(2, 4, 4))
        yield MultiCoilMRI((1, 5, 7), some_mask(5, 7, 0.8), coils(1, 5, 7))

    def test_one_even_coil_is_single_coil_imaging(self) -> None:
        mask, x = some_mask(6, 7, 0.4), random(2, 1, 6, 7)
        H = MultiCoilMRI((1, 6, 7), mask, torch.ones(1, 6, 7))
        torch.testing.assert_close(H(x), SubsampledFourier((1, 6, 7), mask)(x), **TIGHT)

    def test_coefficients_of_what_each_coil_sees(self) -> None:
        mask, x, s = some_mask(6, 7, 0.4), random(1, 1, 6, 7), coils(3, 6, 7)
        y = torch.view_as_complex(MultiCoilMRI((1, 6, 7), mask, s)(x))
        reference = torch.fft.fft2(s * x[0], norm="ortho")[:, mask]
        torch.testing.assert_close(y[0], reference, **TIGHT)

    def test_sensitivities_of_unit_length_keep_lengths(self) -> None:
        s = coils(4, 6, 5)
        s = s / s.abs().square().sum(0).sqrt()
        every = MultiCoilMRI((1, 6, 5), torch.ones(6, 5), s)
        x = random(3, 1, 6, 5)
        torch.testing.assert_close(every.adjoint(every(x)), x, **TIGHT)
        half = MultiCoilMRI((1, 6, 5), some_mask(6, 5, 0.5), s)
        assert float(torch.linalg.svdvals(matrix_of(half))[0]) < 1

    @pytest.mark.parametrize(
        ("shape", "mask", "sensitivities", "words"),
        [
            ((3, 4, 5), torch.ones(4, 5), torch.ones(2, 4, 5), "one channel"),
            ((1, 4, 5), torch.zeros(4, 5), torch.ones(2, 4, 5), "at least one must be known"),
            ((1, 4, 5), torch.ones(5, 4), torch.ones(2, 4, 5), r"mask has shape \(5, 4\)"),
            ((1, 4, 5), torch.ones(4, 5), torch.ones(4, 5), r"wanted \(coils, 4, 5\)"),
            ((1, 4, 5), torch.ones(4, 5), torch.zeros(2, 4, 5), "all zero"),
        ],
    )
    def test_what_is_wrong_is_explained(
        self, shape: tuple[int, int, int], mask: Tensor, sensitivities: Tensor, words: str
    ) -> None:
        with pytest.raises(InputError, match=words):
            MultiCoilMRI(shape, mask, sensitivities)


class TestStacked(LinearCase):
    name = "stacked"

    @staticmethod
    def instances() -> Iterator[LinearOperator]:
        shape = (2, 4, 6)
        coarse, holes = SuperResolution(shape, 2), Inpaint(shape, some_mask(4, 6, 0.6))
        yield Stacked([coarse, holes])
        yield Stacked([Stacked([holes, coarse]), Tomography(shape, [0.0, 70.0])])
        yield Stacked([ValidBlur((1, 5, 4), kernel(3, 3))])

    def test_measurements_come_one_after_another(self) -> None:
        shape = (3, 4, 6)
        first, second = SuperResolution(shape, 2), Blur(shape, kernel(3, 3), "circular")
        H, x = Stacked([first, second]), random(2, *shape)
        torch.testing.assert_close(H(x), H.join([first(x), second(x)]), **TIGHT)
        one, other = H.split(H(x))
        torch.testing.assert_close(one, first(x), **TIGHT)
        torch.testing.assert_close(other, second(x), **TIGHT)
        assert torch.equal(H(x)[:, : first.m], first(x).flatten(1))

    def test_what_stands_in_holes_does_not_count(self) -> None:
        H, x = next(TestStacked.instances()), random(2, 2, 4, 6)
        assert isinstance(H, Stacked)
        mask = some_mask(4, 6, 0.6)
        marked = [part.clone() for part in H.split(H(x))]
        marked[1][..., ~mask] = math.nan
        for y in (H.join(marked), torch.cat([part.flatten(1) for part in marked], dim=1)):
            torch.testing.assert_close(H.observed(y), H(x), **TIGHT)
            torch.testing.assert_close(H.pinv(y), H.pinv(H(x)), rtol=0, atol=1e-9)

    def test_what_is_wrong_is_explained(self) -> None:
        one, other = SuperResolution((1, 4, 6), 2), SuperResolution((1, 4, 4), 2)
        with pytest.raises(InputError, match="operators is empty"):
            Stacked([])
        with pytest.raises(InputError, match=r"\(1, 4, 4\), \(1, 4, 6\); wanted one shape"):
            Stacked([one, other])
        with pytest.raises(InputError, match="no linear operator"):
            Stacked([one, Squared((1, 4, 6), (1, 4, 6))])  # pyright: ignore[reportArgumentType]
        with pytest.raises(InputError, match="parts: 1 measurements for 2"):
            Stacked([one, one]).join([torch.zeros(1, 1, 2, 3)])


class Squared(Operator):
    name = "squared"

    def _apply(self, x: Tensor) -> Tensor:
        return x**2


SIDE, NOISE, Z = 16, 0.05, 1.6448536269514722
SHAPE = (1, SIDE, SIDE)


def tasks() -> dict[str, LinearOperator]:
    """One of each kind, at 16 x 16."""
    lines = cartesian_mask(SIDE, SIDE, 0.4, 0.1, seed=0)
    few = Tomography(SHAPE, torch.linspace(0, 180, 9)[:-1])
    return {
        "valid-blur": ValidBlur(SHAPE, kernel(5, 4)),
        "varying-blur": VaryingBlur(SHAPE, kernels(2, 2, 5, 5)),
        "tomography": few,
        "multi-coil-mri": MultiCoilMRI(SHAPE, lines, coils(3, SIDE, SIDE) / 2),
        "stacked": Stacked([few, Inpaint(SHAPE, some_mask(SIDE, SIDE, 0.3))]),
    }


def calibrated(H: LinearOperator, covariance: str, noise: Tensor, told: Tensor) -> bool:
    """Whether 20 steps on a correlated field answer with the exact posterior.

    That is, on average over pixels: means within a fifth of its deviations, and 90 % intervals that
    cover .87 to .93 of it.

    Args:
        H: the measurement.
        covariance: as that of ``restore``.
        noise: standard deviation of each value, (1, *out).
        told: what ``restore`` is told that it is.
    """
    problem = field(SHAPE, 0.15, 2.0)
    y = H.observed(H(problem.sample(1, 7)) + noise * random(1, *H.out_shape, seed=3))
    seen = noise.flatten() > 0
    weighted = matrix_of(H)[seen] / noise.flatten()[seen, None]
    looks = (y / noise).flatten(1)[:, seen]
    exact = condition(problem.mean.flatten(), problem.covariance, weighted, looks, 1.0)
    deviation = exact.covariance.diagonal().sqrt().reshape(SHAPE)
    answer = certes.restore(
        y, H, problem.denoiser(), noise=told, samples=100, steps=20, covariance=covariance
    )
    shift = (answer.mean - exact.mean.reshape(1, *SHAPE))[0] / deviation
    reach = Z * answer.std[0] / deviation
    coverage = torch.special.ndtr(shift + reach) - torch.special.ndtr(shift - reach)
    return float(shift.square().mean().sqrt()) < 0.2 and 0.87 < float(coverage.mean()) < 0.93


def even(H: LinearOperator) -> Tensor:
    return torch.full((1, *H.out_shape), NOISE, dtype=torch.float64)


@pytest.mark.parametrize("task", tasks())
def test_twenty_steps_are_calibrated(task: str) -> None:
    H = tasks()[task]
    assert calibrated(H, "model", even(H), torch.tensor(NOISE))


@pytest.mark.parametrize("task", tasks())
def test_one_variance_for_all_directions_fails_the_same_check(task: str) -> None:
    """Negative control: a field is correlated, and P = v I does not know it."""
    H = tasks()[task]
    assert not calibrated(H, "isotropic", even(H), torch.tensor(NOISE))


def test_stacked_measurements_of_different_noise() -> None:
    H = tasks()["stacked"]
    assert isinstance(H, Stacked)
    levels = zip((0.02, 0.2), H.split(even(H)), strict=True)
    noise = H.join([torch.full_like(part, level) for level, part in levels])
    assert calibrated(H, "model", noise, noise)
    # Negative controls: one level for both, too large for the one, and too small for the other.
    assert not calibrated(H, "model", noise, torch.tensor(0.02))
    assert not calibrated(H, "model", noise, torch.tensor(0.2))
