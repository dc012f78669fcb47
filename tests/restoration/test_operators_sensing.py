"""CompressedSensing and SubsampledFourier: the inherited case, and the transforms themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from scipy import fft
from scipy.linalg import hadamard

from certes.errors import InputError
from certes.restoration.operators import (
    CompressedSensing,
    DecomposedOperator,
    SubsampledFourier,
    cartesian_mask,
)
from certes.restoration.operators.hadamard import HadamardBasis, walsh_hadamard

from .gapped_case import GappedCase
from .operator_case import columns, dense, parametrize_instances, random

pytest_generate_tests = parametrize_instances


def some_frequencies(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.4


class TestCompressedSensing(GappedCase):
    name = "compressed-sensing"

    @staticmethod
    def instances() -> Iterator[DecomposedOperator]:
        # Sizes that are a power of two, and sizes that are none.
        yield CompressedSensing((1, 4, 8), 0.25)
        yield CompressedSensing((3, 5, 4), 0.5, seed=3)
        yield CompressedSensing((4, 3, 3), 1.0)
        yield CompressedSensing((2, 1, 1), 1.0)
        yield CompressedSensing((2, 7, 5), 0.3, "dct")
        yield CompressedSensing((3, 4, 6), 0.6, "dct", centre=0.2)
        yield CompressedSensing((1, 6, 5), 0.3, "fourier")
        yield CompressedSensing((2, 4, 5), 0.7, "fourier", centre=0.1)

    def test_hadamard_measures_signed_sums_over_all_pixels(self) -> None:
        matrix = dense(CompressedSensing((1, 8, 4), 0.5))
        assert matrix.shape == (16, 32)
        torch.testing.assert_close(matrix.abs(), torch.full_like(matrix, 32**-0.5))

    def test_dct_is_that_of_scipy(self) -> None:
        x = random(1, 1, 6, 7)
        H = CompressedSensing((1, 6, 7), 1.0, "dct")
        reference = torch.from_numpy(fft.dctn(x[0, 0].numpy(), norm="ortho")).flatten()
        torch.testing.assert_close(H(x)[0, 0], reference, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("basis", ["hadamard", "dct", "fourier"])
    @pytest.mark.parametrize("ratio", [0.1, 1 / 3, 1.0])
    def test_ratio_is_the_share_of_coefficients(self, basis: str, ratio: float) -> None:
        H = CompressedSensing((2, 9, 10), ratio, basis)  # pyright: ignore[reportArgumentType]
        assert H.out_shape[:2] == (2, round(ratio * 90))

    def test_low_frequencies_are_always_measured(self) -> None:
        smooth = torch.cos((torch.arange(9, dtype=torch.float64) + 0.5) * torch.pi / 9)
        x = smooth.expand(1, 1, 8, 9)
        for seed in range(10):
            H = CompressedSensing((1, 8, 9), 0.2, "dct", seed=seed, centre=0.05)
            torch.testing.assert_close(H.pinv(H(x)), x, rtol=0, atol=1e-12)
        missed = [
            CompressedSensing((1, 8, 9), 0.2, "dct", seed=seed)(x).norm() < 1e-12
            for seed in range(10)
        ]
        assert any(missed)

    def test_seed_decides_and_nothing_else(self) -> None:
        x = random(1, 1, 8, 8)
        a, b, c = (CompressedSensing((1, 8, 8), 0.5, seed=s)(x) for s in (0, 0, 1))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((4,), ["ratio: 4", "0.25 for one in 4"]),
            ((0.0,), ["ratio: 0.0", "(0, 1]"]),
            ((float("nan"),), ["ratio: nan"]),
            ((0.01,), ["ratio: 0.01 of 16", "at least one"]),
            ((0.5, "wavelet"), ["'wavelet'", "'fourier'"]),
            ((0.5, "dct", 0, 0.6), ["centre: 0.6", "0.5"]),
            ((0.5, "hadamard", 0, 0.1), ["centre: 0.1", "no low frequencies"]),
        ],
    )
    def test_bad_arguments_are_explained(self, arguments: tuple[float], words: list[str]) -> None:
        with pytest.raises(InputError) as caught:
            CompressedSensing((1, 4, 4), *arguments)
        assert all(word in str(caught.value) for word in words)


class TestSubsampledFourier(GappedCase):
    name = "fourier"

    @staticmethod
    def instances() -> Iterator[DecomposedOperator]:
        for shape in ((1, 4, 5), (3, 5, 4), (2, 3, 3), (4, 4, 2)):
            yield SubsampledFourier(shape, some_frequencies(*shape[1:]))
        yield SubsampledFourier((1, 4, 4), torch.ones(4, 4))
        yield SubsampledFourier((2, 4, 6), cartesian_mask(4, 6, 0.5, 0.2, seed=0))
        # Frequency zero alone; one frequency without its mirror image.
        yield SubsampledFourier((1, 3, 4), torch.eye(12)[0].reshape(3, 4))
        yield SubsampledFourier((1, 3, 4), torch.eye(12)[1].reshape(3, 4))

    def test_is_the_unitary_transform_of_torch(self) -> None:
        mask = some_frequencies(5, 6)
        x = random(2, 3, 5, 6)
        reference = torch.fft.fft2(x, norm="ortho")[:, :, mask]
        y = SubsampledFourier((3, 5, 6), mask)(x)
        torch.testing.assert_close(torch.view_as_complex(y), reference, rtol=0, atol=1e-12)

    def test_singular_values_count_how_often_a_pair_was_measured(self) -> None:
        mask = torch.zeros(4, 5)
        mask[0, 0] = mask[1, 1] = mask[3, 4] = mask[1, 2] = 1  # k = -k; a pair; half a pair
        s = SubsampledFourier((1, 4, 5), mask).singular_values
        expected = torch.tensor([1.0, 1, 1, 0.5**0.5, 0.5**0.5, 0, 0, 0], dtype=torch.float64)
        torch.testing.assert_close(s.sort(descending=True).values, expected, rtol=0, atol=0)

    def test_a_symmetric_part_that_no_picture_has_is_ignored_by_the_inverse(self) -> None:
        H = SubsampledFourier((1, 4, 4), torch.ones(4, 4))
        x = random(1, 1, 4, 4)
        y = H(x)
        y[..., 0, 1] += 3.0  # imaginary part of frequency zero
        torch.testing.assert_close(H.pinv(y), x, rtol=0, atol=1e-12)

    @pytest.mark.parametrize(
        ("mask", "words"),
        [
            (torch.zeros(4, 5), ["at least one"]),
            (torch.ones(5, 4), ["(5, 4)", "(4, 5)"]),
            (torch.full((4, 5), 0.5), ["threshold"]),
        ],
    )
    def test_bad_masks_are_explained(self, mask: torch.Tensor, words: list[str]) -> None:
        with pytest.raises(InputError) as caught:
            SubsampledFourier((1, 4, 5), mask)
        assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("bits", range(10))
def test_walsh_hadamard_is_sylvesters_matrix(bits: int) -> None:
    size = 2**bits
    reference = torch.from_numpy(hadamard(size)).double() / size**0.5
    identity = torch.eye(size, dtype=torch.float64)
    torch.testing.assert_close(walsh_hadamard(identity), reference, rtol=0, atol=1e-13)


@pytest.mark.parametrize("sides", [(1, 1), (1, 3), (5, 7), (6, 8), (9, 11), (12, 12)])
def test_hadamard_basis_is_orthonormal_at_any_size(sides: tuple[int, int]) -> None:
    basis = HadamardBasis(*sides, seed=0)
    size = sides[0] * sides[1]
    matrix = columns(lambda c: basis.inverse(c.reshape(-1, 1, *sides)), size)
    torch.testing.assert_close(
        matrix @ matrix.T, torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_every_hadamard_coefficient_of_an_awkward_size_mixes_many_pixels() -> None:
    """Blocks of powers of two side by side would leave single pixels alone."""
    basis = HadamardBasis(9, 11, seed=0)
    matrix = columns(lambda c: basis.inverse(c.reshape(-1, 1, 9, 11)), 99)
    assert float(matrix.abs().max()) < 0.7
    assert int((matrix.abs() > 1e-12).sum(0).min()) >= 32
