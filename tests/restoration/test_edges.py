"""Edges of pictures whose edges are known."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from certes.data.bundled import bundled_pictures
from certes.errors import InputError
from certes.restoration.operators import Edges

SIGMAS = [0.6, 1.0, 2.0]


def step(height: float, at: int, side: int = 24, dtype: torch.dtype = torch.float64) -> Tensor:
    """(1, 1, S, S), brighter by `height` from column `at` on."""
    x = torch.full((1, 1, side, side), 0.3, dtype=dtype)
    x[..., at:] += height
    return x


def disc(radius: float, side: int) -> Tensor:
    """A white disc with a soft rim one pixel wide."""
    place = torch.arange(side).double() - (side - 1) / 2
    distance = torch.hypot(place[:, None], place)
    return (radius + 0.5 - distance).clamp(0, 1)[None, None]


def crowded(side: int = 96) -> Tensor:
    """Nuclei, and few grey levels at random, in which many gradients are exactly equal."""
    nuclei = bundled_pictures()[0].pixels[:, :side, :side]
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(3, (1, side // 4, side // 4), generator=generator) / 2
    return torch.stack([nuclei, levels.repeat_interleave(4, 1).repeat_interleave(4, 2)])


def symmetries(x: Tensor) -> list[Tensor]:
    """The eight, along the last two axes."""
    return [torch.rot90(y, k, (-2, -1)) for k in range(4) for y in (x, x.flip(-1))]


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_is_a_line_one_pixel_wide_on_its_bright_side(
    sigma: float, dtype: torch.dtype
) -> None:
    line = torch.zeros(24, 24, dtype=dtype)
    line[:, 11] = 1
    H = Edges((1, 24, 24), sigma)
    for x, wanted in zip(symmetries(step(0.5, 11, dtype=dtype)), symmetries(line), strict=True):
        assert torch.equal(H(x)[0, 0], wanted)
    assert torch.equal(H(1 - step(0.5, 12, dtype=dtype))[0, 0], line)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_threshold_is_the_contrast_of_a_step(sigma: float) -> None:
    H = Edges((1, 24, 24), sigma, threshold=0.2)
    assert int(H(step(0.201, 9)).sum()) == 24
    assert int(H(step(0.199, 9)).sum()) == 0


def test_nothing_is_drawn_where_nothing_jumps() -> None:
    H = Edges((1, 24, 24), sigma=1, threshold=0.02)
    assert int(H(torch.full((1, 1, 24, 24), 0.7)).sum()) == 0
    # Its slope is above the threshold everywhere, but nowhere larger than beside it.
    ramp = torch.linspace(0, 0.9, 24, dtype=torch.float64).expand(1, 1, 24, 24)
    assert int(H(ramp)[..., 6:-6].sum()) == 0
    assert int(H(ramp + step(0.05, 12) - 0.3)[..., 6:-6].sum()) == 24


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_turning_and_mirroring_commute_with_it(sigma: float, dtype: torch.dtype) -> None:
    x = crowded().to(dtype)
    H = Edges((1, 96, 96), sigma, threshold=0.02)
    y = H(x)
    assert (y.sum(dim=(1, 2, 3)) > 40).all()
    for turned, wanted in zip(symmetries(x), symmetries(y), strict=True):
        assert torch.equal(H(turned), wanted)
    assert all(not torch.equal(H(x), turned) for turned in symmetries(y)[1:])


def test_the_rim_of_a_disc_is_one_closed_thin_line() -> None:
    side, radius = 64, 20.0
    (y,) = Edges((1, side, side))(disc(radius, side))
    rows, columns = (y[0].nonzero().double() - (side - 1) / 2).unbind(1)
    assert float((torch.hypot(rows, columns) - radius).abs().max()) < 1
    angles = torch.atan2(rows, columns).sort().values
    gaps = torch.cat([angles, angles[:1] + 2 * math.pi]).diff()
    assert float(gaps.max()) < 2 * math.sqrt(2) / radius
    blocks = torch.nn.functional.avg_pool2d(y, 2, stride=1)
    assert float(blocks.max()) < 1


def test_colours_are_seen_by_their_luminance() -> None:
    blue = torch.zeros(1, 3, 24, 24, dtype=torch.float64)
    blue[:, 2] = step(0.5, 11)[:, 0]
    assert int(Edges((3, 24, 24), threshold=0.5 * 0.113)(blue).sum()) == 24
    assert int(Edges((3, 24, 24), threshold=0.5 * 0.115)(blue).sum()) == 0
    grey = step(0.5, 11)
    assert torch.equal(Edges((3, 24, 24))(grey.expand(-1, 3, -1, -1)), Edges((1, 24, 24))(grey))


def test_each_picture_of_a_batch_is_drawn_by_itself() -> None:
    x = torch.cat([step(0.5, 7), disc(6, 24), torch.zeros(1, 1, 24, 24)])
    H = Edges((1, 24, 24))
    y = H(x)
    assert y.shape == (3, 1, 24, 24)
    assert y.unique().tolist() == [0, 1]
    assert torch.equal(y, torch.cat([H(one[None]) for one in x]))


def test_it_says_what_it_is() -> None:
    H = Edges((3, 16, 20), sigma=1.5, threshold=0.25)
    assert (H.name, H.out_shape) == ("edges", (1, 16, 20))
    assert json.loads(json.dumps(H.describe())) == {
        "name": "edges",
        "shape": [3, 16, 20],
        "sigma": 1.5,
        "threshold": 0.25,
    }


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((2, 24, 24), {}, "2 channels; wanted 1"),
        ((1, 24, 5), {}, "24 x 5 pixels; sigma 1 needs more than 5 a side"),
        ((1, 24, 24), {"sigma": 0.0}, "sigma is 0.0; wanted a positive number"),
        ((1, 24, 24), {"sigma": math.nan}, "sigma is nan"),
        ((1, 24, 24), {"threshold": -1.0}, "threshold is -1.0; wanted a positive number"),
    ],
)
def test_unusable_arguments(
    shape: tuple[int, int, int], arguments: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Edges(shape, **arguments)


def test_the_smallest_picture() -> None:
    assert int(Edges((1, 6, 6))(step(0.5, 3, side=6)).sum()) == 6
