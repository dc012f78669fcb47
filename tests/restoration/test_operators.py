"""Denoise, Inpaint and SuperResolution: the inherited case, and what is particular to each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from certes.errors import InputError
from certes.restoration.operators import DecomposedOperator, Denoise, Inpaint, SuperResolution

from .operator_case import OperatorCase, parametrize_instances, random

pytest_generate_tests = parametrize_instances


def some_mask(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.4


class TestDenoise(OperatorCase):
    name = "denoise"

    @staticmethod
    def instances() -> Iterator[DecomposedOperator]:
        yield from (Denoise((1, 1, 1)), Denoise((3, 4, 3)))

    def test_is_the_identity(self) -> None:
        x = random(2, 3, 5, 4)
        H = Denoise((3, 5, 4))
        for maps in (H, H.adjoint, H.pinv):
            torch.testing.assert_close(maps(x), x, rtol=0, atol=0)


class TestInpaint(OperatorCase):
    name = "inpaint"

    @staticmethod
    def instances() -> Iterator[DecomposedOperator]:
        yield Inpaint((1, 4, 5), some_mask(4, 5))
        yield Inpaint((3, 5, 4), some_mask(1, 5, 4).float())
        yield Inpaint((4, 3, 3), some_mask(4, 3, 3))

    def test_keeps_known_pixels_and_ignores_what_stands_in_holes(self) -> None:
        mask = some_mask(6, 5)
        H = Inpaint((2, 6, 5), mask)
        x = random(3, 2, 6, 5)
        y = H(x)
        assert torch.equal(y, x * mask)
        marked = torch.where(mask, y, torch.nan)
        for maps in (H.observed, H.adjoint, H.pinv):
            assert torch.equal(maps(marked), y)
        assert bool(H.Ut(marked).isfinite().all())

    def test_nan_at_a_known_pixel_is_not_hidden(self) -> None:
        H = Inpaint((1, 2, 2), torch.tensor([[1, 0], [1, 1]]))
        y = torch.tensor([[[[torch.nan, 1.0], [2.0, 3.0]]]])
        assert bool(H.pinv(y)[0, 0, 0, 0].isnan())

    @pytest.mark.parametrize(
        ("mask", "words"),
        [
            (torch.ones(5, 6), ["(5, 6)", "(6, 5)"]),
            (torch.ones(30), ["(30,)", "(6, 5)"]),
            (torch.ones(3, 6, 5), ["3 channels", "2"]),
            (torch.full((6, 5), 255), ["threshold"]),
            (torch.full((6, 5), torch.nan), ["threshold"]),
            (torch.zeros(6, 5), ["at least one"]),
        ],
    )
    def test_bad_masks_are_explained(self, mask: torch.Tensor, words: list[str]) -> None:
        with pytest.raises(InputError) as caught:
            Inpaint((2, 6, 5), mask)
        assert all(word in str(caught.value) for word in words)


class TestSuperResolution(OperatorCase):
    name = "super-resolve"

    @staticmethod
    def instances() -> Iterator[DecomposedOperator]:
        yield SuperResolution((1, 4, 6), 2)
        yield SuperResolution((2, 9, 3), 3)
        yield SuperResolution((3, 4, 4), 4)
        yield SuperResolution((4, 3, 2), 1)
        yield SuperResolution((1, 8, 12), 2, "bicubic")
        yield SuperResolution((3, 6, 9), 3, "bicubic")
        yield SuperResolution((2, 4, 8), 4, "bicubic")

    def test_box_is_the_block_mean(self) -> None:
        H = SuperResolution((3, 8, 12), 4)
        x = random(2, 3, 8, 12)
        torch.testing.assert_close(H(x), avg_pool2d(x, 4), rtol=0, atol=1e-14)
        torch.testing.assert_close(H.singular_values, torch.full((18,), 0.25, dtype=torch.float64))

    @pytest.mark.parametrize("factor", [2, 3, 4])
    def test_bicubic_is_the_antialiased_keys_kernel(self, factor: int) -> None:
        size = 12 * factor
        x = random(1, 2, size, size)
        reference = interpolate(x, scale_factor=1 / factor, mode="bicubic", antialias=True)
        ours = SuperResolution((2, size, size), factor, "bicubic")(x)
        # The two differ in what lies outside the picture.
        inside = (..., slice(2, -2), slice(2, -2))
        torch.testing.assert_close(ours[inside], reference[inside], rtol=0, atol=1e-10)

    @pytest.mark.parametrize("kernel", ["box", "bicubic"])
    def test_flat_pictures_stay_flat(self, kernel: str) -> None:
        H = SuperResolution((1, 8, 8), 4, kernel)  # pyright: ignore[reportArgumentType]
        flat = torch.full((1, 1, 8, 8), 0.3, dtype=torch.float64)
        torch.testing.assert_close(H(flat), flat[..., :2, :2], rtol=0, atol=1e-14)

    def test_factor_that_does_not_divide_names_sizes_that_work(self) -> None:
        with pytest.raises(InputError) as caught:
            SuperResolution((1, 10, 16), 4)
        for word in ("factor 4", "10 x 16", "8 x 16", "12 x 16"):
            assert word in str(caught.value)

    def test_factor_larger_than_the_picture_offers_no_empty_crop(self) -> None:
        with pytest.raises(InputError, match=r"height x width\); pad to 4 x 4"):
            SuperResolution((1, 1, 1), 4)

    def test_unknown_kernel_is_named(self) -> None:
        with pytest.raises(InputError, match=r"'lanczos'.*'box' or 'bicubic'"):
            SuperResolution((1, 4, 4), 2, "lanczos")  # pyright: ignore[reportArgumentType]

    @pytest.mark.parametrize("factor", [0, -2, 1.5])
    def test_factor_must_be_a_positive_integer(self, factor: float) -> None:
        with pytest.raises(InputError, match="positive integer"):
            SuperResolution((1, 4, 4), factor)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("shape", [(4, 4), (1, 0, 4), (1, 2, 3, 4), (1, 2.5, 3)])
def test_picture_shapes_are_checked(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="channels, height, width"):
        Denoise(shape)  # pyright: ignore[reportArgumentType]
