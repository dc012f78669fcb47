"""JPEG as an operator: Pillow's own pictures, and the linear values that were rounded."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image, features
from torch import Tensor
from torch.nn.functional import interpolate

from certes.data.bundled import bundled_pictures
from certes.diffusion.bases import CosineBasis
from certes.errors import InputError
from certes.restoration.operators import Jpeg
from certes.restoration.operators.jpeg_tables import chroma_table, cosines, luma_table

from .operator_case import TIGHT, dense, random

GREY = [(1, 8, 8), (1, 33, 21), (1, 2, 17)]
COLOUR = [(3, 32, 48), (3, 17, 19), (3, 26, 35), (3, 9, 4), (3, 1, 5), (3, 16, 33)]
SETTINGS = [(shape, "4:2:0") for shape in GREY + COLOUR] + [(shape, "4:4:4") for shape in COLOUR]


def pictures(shape: tuple[int, int, int], count: int = 2, seed: int = 0) -> Tensor:
    """Smooth in large, noisy in small, with flat black and white; whole grey levels."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, height // 4 + 3, width // 4 + 3, generator=generator)
    x = interpolate(coarse, size=(height, width), mode="bicubic")
    x = 1.6 * x - 0.3 + 0.05 * torch.randn(x.shape, generator=generator)
    return (255 * x.double().clamp(0, 1)).round() / 255


def pillow(x: Tensor, quality: int, subsampling: str) -> Tensor:
    """What Pillow's file of each picture decodes to."""
    decoded: list[Tensor] = []
    for picture in x:
        levels = (255 * picture).round().byte().movedim(0, -1).squeeze(-1).numpy()
        file = io.BytesIO()
        Image.fromarray(levels).save(file, "JPEG", quality=quality, subsampling=subsampling)
        values = torch.from_numpy(np.array(Image.open(file)))
        decoded.append(values[None] if values.ndim == 2 else values.movedim(-1, 0))
    return torch.stack(decoded).double() / 255


@pytest.mark.parametrize("quality", [1, 2, 10, 24, 25, 33, 49, 50, 51, 75, 90, 99, 100])
def test_tables_are_pillows(quality: int) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
    theirs = Image.open(file).quantization  # type: ignore[attr-defined]
    for index, ours in enumerate((luma_table(quality), chroma_table(quality))):
        assert ours.flatten().tolist() == theirs[index]


@pytest.mark.skipif(not features.check_feature("libjpeg_turbo"), reason="another JPEG library")
@pytest.mark.parametrize(("shape", "subsampling"), SETTINGS)
def test_pictures_are_exactly_pillows(shape: tuple[int, int, int], subsampling: str) -> None:
    for quality in (1, 10, 50, 85, 100):
        x = pictures(shape, seed=quality)
        ours = Jpeg(shape, quality, subsampling)(x)  # pyright: ignore[reportArgumentType]
        theirs = pillow(x, quality, subsampling)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_real_pictures_are_pillows_in_single_precision() -> None:
    x = torch.stack([picture.pixels for picture in bundled_pictures()[:2]])
    H = Jpeg((1, 256, 256), 30)
    y = H(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.double(), pillow(x, 30, "4:2:0"), rtol=0, atol=0.6 / 255)
    torch.testing.assert_close(H(x[1:]), y[1:], rtol=0, atol=0)


def test_values_outside_the_range_are_cut_off() -> None:
    H = Jpeg((1, 8, 8), 50)
    x = 3 * random(2, 1, 8, 8)
    torch.testing.assert_close(H(x), H(x.clamp(0, 1)), rtol=0, atol=0)


def test_integer_cosines_are_nearly_orthonormal() -> None:
    t = cosines() / (2**13 * 8**0.5)
    exact = CosineBasis().forward(torch.eye(8, dtype=torch.float64)[:, :, None])[:, :, 0].T
    torch.testing.assert_close(t, exact, rtol=0, atol=1e-4)


def test_values_of_grey_blocks_are_their_cosine_coefficients() -> None:
    x = random(2, 1, 16, 24)
    blocks = x.reshape(2, 1, 2, 8, 3, 8).transpose(3, 4)
    expected = CosineBasis().forward(blocks).flatten(1)
    torch.testing.assert_close(Jpeg((1, 16, 24), 50).linear(x), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("shape", "subsampling"), SETTINGS)
def test_rounded_values_lie_in_their_cells(shape: tuple[int, int, int], subsampling: str) -> None:
    H = Jpeg(shape, 30, subsampling)  # pyright: ignore[reportArgumentType]
    x = pictures(shape)
    off = (H.linear(x) - H.centres(H.encode(x))).abs()
    # Colours and their means are rounded to whole levels before: each pixel by half of one.
    rounding = H.linear.independent(torch.full_like(x, (1.5 / 255) ** 2)).sqrt()
    assert bool((off <= H.widths(x) / 2 + 2 * rounding + 1e-3 / 255).all())
    assert float((off > H.widths(x) / 2).double().mean()) < 0.02
    assert bool((off > 0.4 * H.widths(x)).any())


@pytest.mark.parametrize(("shape", "subsampling"), SETTINGS)
def test_adjoint_and_independent_errors(shape: tuple[int, int, int], subsampling: str) -> None:
    M = Jpeg(shape, 50, subsampling).linear  # pyright: ignore[reportArgumentType]
    x, y = random(2, *shape), random(2, *M.out_shape, seed=1)
    left, right = (M(x) * y).sum(1), (x * M.adjoint(y)).flatten(1).sum(1)
    torch.testing.assert_close(left, right, **TIGHT)
    if x[0].numel() < 1000:
        matrix, variance = dense(M), random(1, *shape).square()  # pyright: ignore[reportArgumentType]
        diagonal = (matrix**2) @ variance.flatten()
        torch.testing.assert_close(M.independent(variance)[0], diagonal, **TIGHT)


@pytest.mark.parametrize("quality", [5, 30, 75])
@pytest.mark.parametrize("shape", [(1, 24, 16), (3, 32, 48)])
def test_codes_of_whole_blocks_are_found_again(shape: tuple[int, int, int], quality: int) -> None:
    H = Jpeg(shape, quality)
    codes = H.encode(pictures(shape, count=4))
    y = H.decode(codes)
    assert torch.equal(H.codes_of(y), codes)
    assert torch.equal(H.codes_of(y.float()), codes.float())


@pytest.mark.parametrize("shape", [(1, 33, 21), (3, 60, 41)])
def test_most_codes_of_cut_blocks_are_found_again(shape: tuple[int, int, int]) -> None:
    for quality, wrong in ((5, 1e-3), (30, 0.01), (75, 0.03)):
        H = Jpeg(shape, quality)
        codes = H.encode(pictures(shape, count=4))
        found = H.codes_of(H.decode(codes))
        assert float((found != codes).double().mean()) < wrong


def test_one_picture_does_not_change_the_codes_of_another() -> None:
    H = Jpeg((3, 17, 19), 50)
    y = H(pictures((3, 17, 19), count=3))
    assert torch.equal(H.codes_of(y)[1:2], H.codes_of(y[1:2]))


@pytest.mark.parametrize("shape", [(1, 13, 8), (3, 16, 9)])
def test_gradients_go_straight_through(shape: tuple[int, int, int]) -> None:
    """Where nothing is cut off, encoding and decoding cancel but for the rounding."""
    v = random(1, *shape, seed=1)
    x = (0.5 + 0.1 * random(1, *shape)).requires_grad_()
    (gradient,) = torch.autograd.grad((Jpeg(shape, 60, "4:4:4")(x) * v).sum(), x)
    torch.testing.assert_close(gradient, v, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("shape", "quality", "subsampling", "words"),
    [
        ((2, 8, 8), 50, "4:2:0", ["(2, 8, 8)", "1 channel", "3 (RGB)"]),
        ((1, 8), 50, "4:2:0", ["channels, height, width"]),
        ((1, 8, 8), 0, "4:2:0", ["quality is 0", "1 (worst) to 100"]),
        ((1, 8, 8), 101, "4:2:0", ["quality is 101"]),
        ((1, 8, 8), 7.5, "4:2:0", ["quality is 7.5", "whole number"]),
        ((3, 8, 8), 50, "4:2:2", ["'4:2:2'", "'4:2:0' or '4:4:4'"]),
    ],
)
def test_bad_input_is_explained(
    shape: tuple[int, int, int], quality: int, subsampling: str, words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        Jpeg(shape, quality, subsampling)  # pyright: ignore[reportArgumentType]
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_describes_itself_and_checks_its_pictures() -> None:
    H = Jpeg((3, 16, 8), 40, "4:4:4")
    assert json.loads(json.dumps(H.describe())) == {
        "name": "jpeg",
        "shape": [3, 16, 8],
        "quality": 40,
        "subsampling": "4:4:4",
    }
    with pytest.raises(InputError, match=r"\(B, 3, 16, 8\)"):
        H(torch.zeros(1, 1, 16, 8))
