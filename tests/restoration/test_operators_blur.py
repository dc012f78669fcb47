"""Blur: the inherited case at every boundary, scipy's convention, and two well-known traps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from scipy import ndimage

from certes.errors import InputError
from certes.restoration.operators import Blur, DecomposedOperator, gaussian_kernel, uniform_kernel

from .operator_case import OperatorCase, columns, dense, parametrize_instances, random

pytest_generate_tests = parametrize_instances

SCIPY_MODES = {"reflect": "reflect", "zero": "constant", "circular": "wrap"}


def scipy_blur(x: torch.Tensor, kernel: torch.Tensor, boundary: str) -> torch.Tensor:
    kernel = torch.outer(kernel, kernel) if kernel.ndim == 1 else kernel
    weights = kernel[None, None].numpy()
    return torch.from_numpy(ndimage.convolve(x.numpy(), weights, mode=SCIPY_MODES[boundary]))


def skewed(*shape: int) -> torch.Tensor:
    """A kernel without any symmetry."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


class TestBlur(OperatorCase):
    name = "deblur"

    @staticmethod
    def instances() -> Iterator[DecomposedOperator]:
        # Zero boundary and reflect with a lopsided kernel: one dense decomposition per axis.
        yield Blur((2, 5, 7), gaussian_kernel(0.6), "zero")
        yield Blur((3, 4, 6), skewed(4), "zero")
        yield Blur((1, 6, 5), (skewed(3), skewed(2)), "reflect")
        # Symmetric kernels with reflect: cosine transform.
        yield Blur((3, 6, 5), gaussian_kernel(0.6), "reflect")
        yield Blur((1, 8, 4), uniform_kernel(3), "reflect")
        yield Blur((2, 5, 6), torch.tensor([[0.0, 1, 0], [2, 3, 2], [0, 1, 0]]) / 9, "reflect")
        # Circular: Fourier, all parities of both sides.
        yield Blur((4, 4, 5), skewed(3, 2), "circular")
        yield Blur((1, 5, 4), skewed(2, 3), "circular")
        yield Blur((1, 6, 6), skewed(3, 3), "circular")
        yield Blur((2, 5, 3), gaussian_kernel(0.6), "circular")
        # A kernel with exact zeros in its spectrum; sides of one and two pixels.
        yield Blur((1, 6, 4), uniform_kernel(2), "circular")
        yield Blur((1, 1, 4), skewed(1, 3), "circular")
        yield Blur((1, 2, 2), uniform_kernel(3), "reflect")

    @pytest.mark.parametrize("boundary", SCIPY_MODES)
    @pytest.mark.parametrize("taps", [1, 2, 3, 4, 5, 8])
    def test_agrees_with_scipy_for_odd_and_even_kernels(self, taps: int, boundary: str) -> None:
        kernel = skewed(taps)
        x = random(2, 3, 9, 6)
        H = Blur((3, 9, 6), kernel, boundary)  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(H(x), scipy_blur(x, kernel, boundary), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("boundary", SCIPY_MODES)
    def test_agrees_with_scipy_for_a_kernel_longer_than_the_picture(self, boundary: str) -> None:
        kernel = gaussian_kernel(2.5)
        x = random(1, 1, 4, 7)
        H = Blur((1, 4, 7), kernel, boundary)  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(H(x), scipy_blur(x, kernel, boundary), rtol=0, atol=1e-12)

    def test_any_plane_with_circular_and_any_symmetric_one_with_reflect(self) -> None:
        x = random(2, 2, 7, 8)
        for kernel, boundary in ((skewed(4, 3), "circular"), (disk(), "reflect")):
            H = Blur((2, 7, 8), kernel, boundary)  # pyright: ignore[reportArgumentType]
            torch.testing.assert_close(H(x), scipy_blur(x, kernel, boundary), rtol=0, atol=1e-12)

    def test_a_plane_that_is_an_outer_product_is_taken_apart(self) -> None:
        rows, across = skewed(3), skewed(4)
        pair = Blur((1, 6, 6), (rows, across), "zero")
        plane = Blur((1, 6, 6), torch.outer(rows, across), "zero")
        torch.testing.assert_close(dense(pair), dense(plane), rtol=0, atol=1e-12)

    def test_first_of_a_pair_acts_along_the_height(self) -> None:
        x = random(1, 1, 6, 6)
        kernel = skewed(3)
        H = Blur((1, 6, 6), (kernel, torch.ones(1)), "zero")
        reference = ndimage.convolve1d(x.numpy(), kernel.numpy(), axis=2, mode="constant")
        torch.testing.assert_close(H(x), torch.from_numpy(reference), rtol=0, atol=1e-12)

    def test_regression_repeat_interleave_order_of_singular_values_with_several_channels(
        self,
    ) -> None:
        """A published implementation tiled the singular values in the other order of channels."""
        for boundary in SCIPY_MODES:
            H = Blur((3, 5, 4), gaussian_kernel(0.7), boundary)  # pyright: ignore[reportArgumentType]
            x = random(1, 3, 5, 4)
            blurred = scipy_blur(x, gaussian_kernel(0.7), boundary)
            in_order = H.U(H.singular_values * H.Vt(x))
            torch.testing.assert_close(in_order, blurred, rtol=0, atol=1e-10)
            mixed = H.singular_values.reshape(3, -1).T.flatten()
            wrong = H.U(mixed * H.Vt(x))
            assert float((wrong - blurred).norm() / blurred.norm()) > 0.05

    def test_regression_last_tap_of_odd_kernels(self) -> None:
        """A published implementation left out the last tap: gain (8/9)^2, shift half a pixel."""
        impulse = torch.zeros(1, 1, 15, 15, dtype=torch.float64)
        impulse[..., 7, 7] = 1.0
        for boundary in SCIPY_MODES:
            H = Blur((1, 15, 15), uniform_kernel(9), boundary)  # pyright: ignore[reportArgumentType]
            response = H(impulse)[0, 0]
            expected = torch.zeros(15, 15, dtype=torch.float64)
            expected[3:12, 3:12] = 1 / 81
            torch.testing.assert_close(response, expected, rtol=0, atol=1e-12)

    def test_no_singular_value_is_truncated(self) -> None:
        H = Blur((1, 32, 32), gaussian_kernel(1.5), "reflect")
        smallest = float(H.singular_values.min())
        assert 0 < smallest < 1e-3
        x = random(1, 1, 32, 32)
        torch.testing.assert_close(H.pinv(H(x)), x, rtol=0, atol=1e-6)

    def test_circular_singular_values_are_the_moduli_of_the_transfer_function(self) -> None:
        kernel = skewed(3, 5)
        H = Blur((2, 6, 7), kernel, "circular")
        padded = torch.zeros(6, 7, dtype=torch.float64)
        padded[:3, :5] = kernel
        moduli = torch.fft.fft2(padded).abs().flatten().sort().values
        ours = H.singular_values.reshape(2, -1).sort().values
        torch.testing.assert_close(ours, moduli.expand(2, -1), rtol=0, atol=1e-12)

    def test_zero_phases_that_are_only_rounding_leave_u_orthogonal(self) -> None:
        H = Blur((1, 12, 12), uniform_kernel(6), "circular")
        assert int((H.singular_values < 1e-12).sum()) > 50
        u = columns(H.U, H.m)
        torch.testing.assert_close(u @ u.T, torch.eye(H.m, dtype=torch.float64), rtol=0, atol=1e-12)

    @pytest.mark.parametrize(
        ("kernel", "boundary", "words"),
        [
            (skewed(3, 3), "zero", ["3 x 3", "outer product", "boundary='circular'"]),
            (skewed(3, 3), "reflect", ["outer product", "unless symmetric"]),
            (torch.zeros(3), "reflect", ["all zero"]),
            (torch.zeros(0), "reflect", ["empty"]),
            (torch.tensor([1.0, torch.nan]), "reflect", ["not finite"]),
            (torch.ones(2, 2, 2), "zero", ["(2, 2, 2)"]),
            (torch.ones(3), "mirror", ["'mirror'", "'circular'"]),
        ],
    )
    def test_bad_arguments_are_explained(
        self, kernel: torch.Tensor, boundary: str, words: list[str]
    ) -> None:
        with pytest.raises(InputError) as caught:
            Blur((1, 6, 6), kernel, boundary)  # pyright: ignore[reportArgumentType]
        assert all(word in str(caught.value) for word in words)


def disk() -> torch.Tensor:
    """Out of focus: symmetric, not an outer product."""
    offsets = torch.arange(-2, 3, dtype=torch.float64)
    inside = offsets[:, None] ** 2 + offsets**2 <= 5
    return inside / inside.sum()


def test_gaussian_kernel_is_scipys() -> None:
    x = random(40)
    for sigma in (0.4, 1.0, 2.3):
        kernel = gaussian_kernel(sigma)
        assert len(kernel) % 2 == 1
        ours = ndimage.convolve1d(x.numpy(), kernel.numpy())
        assert abs(ours - ndimage.gaussian_filter1d(x.numpy(), sigma)).max() < 1e-12


def test_uniform_kernel_sums_to_one() -> None:
    torch.testing.assert_close(uniform_kernel(4), torch.full((4,), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_gaussian_kernel_refuses(sigma: float) -> None:
    with pytest.raises(InputError, match="sigma"):
        gaussian_kernel(sigma)


@pytest.mark.parametrize("width", [0, -3, 2.5])
def test_uniform_kernel_refuses(width: float) -> None:
    with pytest.raises(InputError, match="width"):
        uniform_kernel(width)  # pyright: ignore[reportArgumentType]
