"""The mollifier: its symbol, boundaries, gradients and resolutions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from certes.errors import InputError
from certes.function_space.fields import GaussianField
from certes.function_space.mollifier import Mollifier

WIDE = Mollifier(1.2)


def picture(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def dense(mollifier: Mollifier, shape: tuple[int, int], pitch: float = 1.0) -> Tensor:
    """T as a matrix."""
    n = shape[0] * shape[1]
    unit = torch.eye(n, dtype=torch.float64).reshape(n, 1, *shape)
    return mollifier(unit, pitch).reshape(n, n).T


@pytest.mark.parametrize("pitch", [1.0, 0.5, 0.3])
def test_cosines_of_the_domain_are_multiplied_by_the_gaussians_transform(pitch: float) -> None:
    """By exp(-omega^2 w^2 / 2) with omega in physical units, on a rectangular picture."""
    rows, columns, k, ell = 7, 12, 3, 4
    omega = math.pi * k / (rows * pitch), math.pi * ell / (columns * pitch)
    y = (torch.arange(rows, dtype=torch.float64) + 0.5) * pitch
    x = (torch.arange(columns, dtype=torch.float64) + 0.5) * pitch
    wave = (omega[0] * y).cos()[:, None] * (omega[1] * x).cos()
    expected = math.exp(-(omega[0] ** 2 + omega[1] ** 2) * 0.6**2 / 2) * wave
    torch.testing.assert_close(Mollifier(0.6)(wave[None, None], pitch)[0, 0], expected)


def test_it_is_convolution_with_a_gaussian_of_the_mirrored_picture() -> None:
    x = picture(1, 1, 6, 9)
    taps = torch.arange(-9, 10, dtype=torch.float64)
    kernel = (-(taps**2) / (2 * WIDE.width**2)).exp()
    kernel = kernel / kernel.sum()

    def along(values: Tensor) -> Tensor:
        size = values.shape[-1]
        # Each edge pixel repeated: ... 1 0 | 0 1 2 ... n-1 | n-1 n-2 ...
        index = (torch.arange(size)[:, None] + taps.long()) % (2 * size)
        index = torch.where(index < size, index, 2 * size - 1 - index)
        return (values[..., index] * kernel).sum(dim=-1)

    expected = along(along(x).mT).mT
    assert float((WIDE(x) - expected).abs().max()) < 2e-3  # a sampled Gaussian's own aliasing


def test_no_width_is_no_blur() -> None:
    x = picture(2, 1, 4, 5)
    assert torch.equal(Mollifier(0.0)(x), x)
    assert Mollifier(0.0).typical_deviation() == pytest.approx(1.0)


@pytest.mark.parametrize("width", [-0.1, math.inf, math.nan])
def test_widths_that_are_none(width: float) -> None:
    with pytest.raises(InputError, match="width"):
        Mollifier(width)


def test_defect_gradients_pass_through_the_mollifier() -> None:
    """The original blurs under no_grad, through which nothing can be guided."""
    x = picture(1, 2, 4, 5).requires_grad_()

    def through(values: Tensor) -> Tensor:
        return Mollifier(0.7)(values, 0.5)

    def original(values: Tensor) -> Tensor:
        with torch.no_grad():
            blurred = through(values)
        return blurred + 0 * values  # differentiable in name

    assert torch.autograd.gradcheck(through, (x,))
    assert not torch.autograd.gradcheck(original, (x,), raise_exception=False)


def test_it_is_its_own_adjoint() -> None:
    x, y = picture(2, 1, 5, 8).split(1)
    assert float((WIDE(x) * y).sum()) == pytest.approx(float((x * WIDE(y)).sum()), rel=1e-12)


@pytest.mark.parametrize("pitch", [1.0, 0.5])
def test_t2_variance_of_mollified_noise(pitch: float) -> None:
    """T2: the diagonal of T T^T / p^2."""
    mollifier, shape = Mollifier(0.6), (6, 9)
    matrix = dense(mollifier, shape, pitch) / pitch
    expected = (matrix @ matrix.T).diagonal().reshape(shape)
    torch.testing.assert_close(mollifier.variance(shape, pitch), expected)


@pytest.mark.parametrize("finer", [1, 2, 3])
def test_t2_boundaries(finer: int) -> None:
    """T2: 0.0796 inside, 0.1416 at an edge, 0.2518 in a corner, for a width of 1.

    Pixels of finer pictures lie closer to the edge, where the variance doubles along each axis.
    """
    size = 64 * finer
    variance = Mollifier(1.0).variance((size, size), 1 / finer)
    inside = float(variance[size // 2, size // 2])
    assert inside == pytest.approx(1 / (4 * math.pi), rel=1e-3)
    edge = 1 + math.exp(-((0.5 / finer) ** 2))  # its mirror image is one pixel away
    assert float(variance[0, size // 2]) == pytest.approx(inside * edge, rel=1e-3)
    assert float(variance[0, 0]) == pytest.approx(inside * edge**2, rel=1e-3)
    if finer == 1:
        numbers = [inside, float(variance[0, size // 2]), float(variance[0, 0])]
        assert numbers == pytest.approx([0.0796, 0.1416, 0.2518], abs=1e-4)
    assert Mollifier(1.0).typical_deviation() ** 2 == pytest.approx(inside, rel=1e-3)


def test_a_coarse_and_a_fine_picture_are_blurred_alike() -> None:
    """Where a function is band-limited; a width that counts pixels is another function's blur."""
    field = GaussianField(lambda squared: (squared < 4.0).double())
    coarse, fine = (field.sample(1, (9 * r, 12 * r), 1 / r, seed=1) for r in (1, 3))
    blurred = WIDE(fine, 1 / 3)[..., 1::3, 1::3]
    torch.testing.assert_close(blurred, WIDE(coarse))
    in_pixels = WIDE(fine)[..., 1::3, 1::3]
    assert float((in_pixels - blurred).std() / (blurred - 0.5).std()) > 0.1
