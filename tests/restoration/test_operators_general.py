"""Colorize, Dense, Downsample, PerChannel, SuperResolution by taps: the case, and particulars."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from certes.errors import InputError
from certes.restoration.operators import (
    Blur,
    Colorize,
    CompressedSensing,
    DecomposedOperator,
    Denoise,
    Dense,
    Downsample,
    Inpaint,
    PerChannel,
    SuperResolution,
    gaussian_kernel,
    uniform_kernel,
)

from .gapped_case import GappedCase
from .operator_case import OperatorCase, dense, parametrize_instances, random

pytest_generate_tests = parametrize_instances


class TestColorize(OperatorCase):
    name = "colorize"

    @staticmethod
    def instances() -> Iterator[DecomposedOperator]:
        yield Colorize((3, 4, 5))
        yield Colorize((1, 3, 2))
        yield Colorize((2, 3, 3), torch.tensor([1.0, 0.0]))
        yield Colorize((2, 1, 4), torch.tensor([-1.0, 0.0]))
        yield Colorize((3, 2, 3), torch.tensor([0.299, 0.587, 0.114]))
        yield Colorize((4, 5, 2), torch.tensor([0.5, -0.5, 2.0, 0.1]))

    def test_is_the_mean_of_the_channels_unless_told(self) -> None:
        x = random(2, 3, 4, 5)
        torch.testing.assert_close(Colorize((3, 4, 5))(x), x.mean(1, keepdim=True))
        torch.testing.assert_close(
            Colorize((3, 4, 5)).singular_values, torch.full((20,), 3**-0.5, dtype=torch.float64)
        )

    def test_weighs_channels(self) -> None:
        x, w = random(2, 3, 4, 5), torch.tensor([0.2, 0.7, -0.1], dtype=torch.float64)
        reference = torch.einsum("bchw,c->bhw", x, w)[:, None]
        torch.testing.assert_close(Colorize((3, 4, 5), w)(x), reference, rtol=0, atol=1e-14)

    @pytest.mark.parametrize(
        ("weights", "words"),
        [
            (torch.zeros(3), ["all zero"]),
            (torch.tensor([1.0, torch.inf, 0.0]), ["not finite"]),
            (torch.ones(2), ["(2,)", "3 channels"]),
            (torch.ones(1, 3), ["(1, 3)"]),
        ],
    )
    def test_bad_weights_are_explained(self, weights: torch.Tensor, words: list[str]) -> None:
        with pytest.raises(InputError) as caught:
            Colorize((3, 4, 4), weights)
        assert all(word in str(caught.value) for word in words)


class TestDense(OperatorCase):
    name = "dense"

    @staticmethod
    def instances() -> Iterator[DecomposedOperator]:
        yield Dense(random(5, 12), (1, 3, 4))
        yield Dense(random(12, 6), (2, 1, 3))
        yield Dense(random(4, 4))
        yield Dense(torch.outer(random(5), random(7, seed=1)))

    def test_is_the_matrix(self) -> None:
        matrix = random(5, 12)
        torch.testing.assert_close(dense(Dense(matrix, (3, 2, 2))), matrix, rtol=0, atol=0)

    def test_default_picture_is_one_row(self) -> None:
        assert Dense(random(3, 7)).in_shape == (1, 1, 7)

    def test_matrices_are_told_apart(self) -> None:
        a, b, c = (
            Dense(matrix).describe() for matrix in (random(3, 4), random(3, 4), random(4)[None])
        )
        assert a == b
        assert a["digest"] != c["digest"]

    @pytest.mark.parametrize(
        ("matrix", "shape", "words"),
        [
            (torch.zeros(2, 3), None, ["all zero"]),
            (torch.tensor([[torch.nan, 1.0]]), None, ["not finite"]),
            (torch.ones(3), None, ["(3,)", "(measurements, pixels)"]),
            (torch.ones(0, 3), None, ["(0, 3)"]),
            (torch.ones(2, 3), (1, 2, 2), ["4 values", "wants 3"]),
        ],
    )
    def test_bad_matrices_are_explained(
        self, matrix: torch.Tensor, shape: tuple[int, int, int] | None, words: list[str]
    ) -> None:
        with pytest.raises(InputError) as caught:
            Dense(matrix, shape)
        assert all(word in str(caught.value) for word in words)


def skewed(*shape: int) -> torch.Tensor:
    """A kernel without any symmetry."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


class TestDownsample(GappedCase):
    name = "downsample"

    @staticmethod
    def instances() -> Iterator[DecomposedOperator]:
        yield Downsample((1, 4, 6), skewed(3, 2), 2)
        yield Downsample((2, 9, 3), skewed(3, 3), 3)
        yield Downsample((3, 6, 4), gaussian_kernel(0.8), 2)
        yield Downsample((4, 4, 4), (skewed(3), skewed(4)), 4)
        yield Downsample((1, 5, 3), skewed(2, 3), 1)
        # A kernel that kills whole coarse frequencies, one that is blind to some aliases, and one
        # that sees every pixel alike, hence nothing but the mean.
        yield Downsample((1, 8, 8), torch.tensor([[1.0, 0, 1.0]]), 2)
        yield Downsample((1, 8, 6), uniform_kernel(2), 2)
        yield Downsample((2, 6, 6), uniform_kernel(6), 2)
        yield Downsample((1, 4, 4), torch.ones(1), 2)

    @pytest.mark.parametrize("factor", [1, 2, 3, 4, 6])
    @pytest.mark.parametrize("taps", [3, 4])
    def test_is_blur_then_one_pixel_of_every_block(self, factor: int, taps: int) -> None:
        shape, kernel = (2, 12, 24), skewed(taps, 5)
        x = random(2, *shape)
        start = (factor - 1) // 2
        blurred = Blur(shape, kernel, "circular")(x)[..., start::factor, start::factor]
        y = Downsample(shape, kernel, factor)(x)
        torch.testing.assert_close(y, blurred, rtol=0, atol=1e-12)

    def test_box_kernel_is_the_box_of_super_resolution(self) -> None:
        box, x = SuperResolution((1, 8, 12), 4), random(1, 1, 8, 12)
        H = Downsample((1, 8, 12), uniform_kernel(4), 4)
        torch.testing.assert_close(H(x), box(x), rtol=0, atol=1e-12)
        torch.testing.assert_close(H.singular_values, box.singular_values, rtol=0, atol=1e-12)

    @pytest.mark.parametrize(
        ("kernel", "factor", "words"),
        [
            (torch.ones(3), 5, ["factor 5", "6 x 6"]),
            (torch.zeros(3, 3), 2, ["all zero"]),
            (torch.zeros(0), 2, ["empty"]),
        ],
    )
    def test_bad_arguments_are_explained(
        self, kernel: torch.Tensor, factor: int, words: list[str]
    ) -> None:
        with pytest.raises(InputError) as caught:
            Downsample((1, 6, 6), kernel, factor)
        assert all(word in str(caught.value) for word in words)


class TestPerChannel(OperatorCase):
    name = "per-channel"

    @staticmethod
    def instances() -> Iterator[DecomposedOperator]:
        blurs = [Blur((1, 4, 5), gaussian_kernel(s), "reflect") for s in (0.5, 0.7, 0.9)]
        yield PerChannel(blurs)
        yield PerChannel([SuperResolution((1, 4, 6), 2), Downsample((1, 4, 6), skewed(3, 3), 2)])
        yield PerChannel([Denoise((2, 3, 4)), Blur((1, 3, 4), skewed(3, 3), "circular")])
        yield PerChannel([CompressedSensing((c, 3, 5), 0.4, seed=c) for c in (1, 3)])
        # More measurements than pixels in one, fewer in the other.
        tall, wide = random(4, 3), random(2, 9)
        yield PerChannel([Dense(tall, (1, 1, 3)), Dense(wide, (3, 1, 3))])

    def test_each_channel_has_its_own(self) -> None:
        blurs = [Blur((1, 6, 5), gaussian_kernel(s), "reflect") for s in (0.5, 1.0, 2.0)]
        x = random(2, 3, 6, 5)
        apart = torch.cat([H(x[:, i : i + 1]) for i, H in enumerate(blurs)], dim=1)
        torch.testing.assert_close(PerChannel(blurs)(x), apart, rtol=0, atol=0)

    def test_holes_stay_holes(self) -> None:
        mask = torch.eye(3)
        H = PerChannel([Inpaint((1, 3, 3), mask), Inpaint((1, 3, 3), 1 - mask)])
        y = torch.full((1, 2, 3, 3), torch.nan)
        y[:, 0][..., mask == 1] = 1.0
        y[:, 1][..., mask == 0] = 2.0
        wanted = torch.stack([mask, 2 * (1 - mask)])[None]
        for maps in (H.observed, H.pinv, H.adjoint):
            torch.testing.assert_close(maps(y), wanted)

    @pytest.mark.parametrize(
        ("operators", "words"),
        [
            ([], ["empty"]),
            ([Denoise((1, 3, 4)), Denoise((1, 4, 3))], ["pictures", "(1, 3, 4), (1, 4, 3)"]),
            (
                [Denoise((1, 4, 4)), SuperResolution((1, 4, 4), 2)],
                ["measurements", "(1, 4, 4), (1, 2, 2)"],
            ),
        ],
    )
    def test_what_does_not_fit_together_is_named(
        self, operators: list[DecomposedOperator], words: list[str]
    ) -> None:
        with pytest.raises(InputError) as caught:
            PerChannel(operators)
        assert all(word in str(caught.value) for word in words)


class TestSuperResolutionByTaps(OperatorCase):
    name = "super-resolve"

    @staticmethod
    def instances() -> Iterator[DecomposedOperator]:
        yield SuperResolution((1, 6, 8), 2, skewed(3))
        yield SuperResolution((2, 6, 3), 3, skewed(4))
        yield SuperResolution((3, 4, 8), 4, gaussian_kernel(0.8))
        yield SuperResolution((4, 2, 3), 1, skewed(2))
        # Singular: the shorter way to the rows of V divides by singular values.
        yield SuperResolution((1, 8, 8), 2, uniform_kernel(8))

    @pytest.mark.parametrize("factor", [1, 2, 3, 4])
    @pytest.mark.parametrize("taps", [1, 2, 3, 4, 5])
    def test_is_blur_then_one_pixel_of_every_block(self, factor: int, taps: int) -> None:
        shape, kernel = (2, 12, 24), skewed(taps)
        x, start = random(2, *shape), (factor - 1) // 2
        blurred = Blur(shape, kernel, "reflect")(x)[..., start::factor, start::factor]
        y = SuperResolution(shape, factor, kernel)(x)
        torch.testing.assert_close(y, blurred, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("factor", [2, 5, 16])
    def test_equal_taps_as_long_as_the_factor_are_the_box(self, factor: int) -> None:
        shape = (1, 2 * factor, 3 * factor)
        x = random(1, *shape)
        y = SuperResolution(shape, factor, uniform_kernel(factor))(x)
        torch.testing.assert_close(y, SuperResolution(shape, factor)(x), rtol=0, atol=1e-12)

    @pytest.mark.parametrize(
        ("kernel", "words"),
        [
            (torch.zeros(0), ["empty"]),
            (torch.zeros(3), ["all zero"]),
            (torch.tensor([1.0, torch.nan]), ["not finite"]),
            (torch.ones(2, 2), ["(2, 2)", "(taps,)"]),
        ],
    )
    def test_bad_taps_are_explained(self, kernel: torch.Tensor, words: list[str]) -> None:
        with pytest.raises(InputError) as caught:
            SuperResolution((1, 4, 4), 2, kernel)
        assert all(word in str(caught.value) for word in words)


def test_operators_of_rank_zero_are_refused() -> None:
    """Differences of neighbours vanish where a picture is one pixel wide."""
    difference = torch.tensor([[1.0, -1.0]])
    with pytest.raises(InputError, match="rank 1 at least"):
        Blur((1, 5, 1), difference, "circular")
    with pytest.raises(InputError, match="rank 1 at least"):
        Downsample((1, 4, 1), difference, 1)
