"""A measurement in singular coordinates: values and noise of every coefficient."""

from __future__ import annotations

import torch

from certes.restoration.measurement import Measurement, measure
from certes.restoration.operators import Blur, DecomposedOperator, Denoise, Inpaint, SuperResolution

SHAPE = (2, 4, 6)


def noise(*levels: float) -> torch.Tensor:
    return torch.tensor(levels, dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def operators() -> list[DecomposedOperator]:
    mask = random(4, 6, seed=1) < 0.5
    blur = Blur(SHAPE, torch.tensor([1.0, 2.0, 1.0]).double() / 4, "circular")
    return [Denoise(SHAPE), Inpaint(SHAPE, mask), SuperResolution(SHAPE, 2), blur]


def test_values_are_the_coefficients_plus_noise_of_the_stated_level() -> None:
    """y = H x + e reads as x_i + a_i (U^T e)_i / sigma, exactly, coefficient by coefficient."""
    for H in operators():
        x, e, levels = random(3, *SHAPE), random(3, *H.out_shape, seed=2), noise(0.1, 0.03, 0.5)
        scaled = levels.reshape(-1, *(1,) * len(H.out_shape)) * e
        measurement = measure(H, H(x) + scaled, levels)
        seen = measurement.levels.isfinite()
        assert torch.equal(seen, (H.spectrum > 1e-8).expand(3, -1))
        unit = torch.nn.functional.pad(H.Ut(e), (0, H.n - H.m))
        expected = H.Vt(x) + torch.where(seen, measurement.levels, 0.0) * unit
        torch.testing.assert_close(measurement.values[seen], expected[seen], rtol=0, atol=1e-12)


def test_levels_are_noise_over_singular_value_for_each_picture() -> None:
    H = SuperResolution(SHAPE, 2)
    measurement = measure(H, torch.zeros(2, *H.out_shape), noise(0.1, 0.0))
    levels = torch.full((H.n,), torch.inf)
    levels[: H.m] = 0.1 / 0.5
    torch.testing.assert_close(measurement.levels[0], levels)
    assert torch.equal(measurement.levels[1, : H.m], torch.zeros(H.m))
    assert bool(measurement.levels[1, H.m :].isinf().all())


def test_what_is_not_seen_is_zero_and_infinitely_noisy() -> None:
    mask = torch.ones(4, 6)
    mask[1, 2] = 0
    H = Inpaint(SHAPE, mask)
    y = H(random(1, *SHAPE)).float()
    y[..., 1, 2] = torch.nan
    measurement = measure(H, y, noise(0.0))
    hidden = ~H.mask.flatten()
    assert bool((measurement.values[0, hidden] == 0).all())
    assert bool(measurement.levels[0, hidden].isinf().all())
    assert bool((measurement.levels[0, ~hidden] == 0).all())


def test_singular_values_that_are_rounding_errors_count_as_zero() -> None:
    """The mean of five neighbours has no answer to a wave of five pixels, nearly to the bit."""
    H = Blur((1, 15, 15), torch.ones(5).double() / 5, "circular")
    rounded = (H.spectrum > 0) & (H.spectrum < 1e-12)
    assert 0 < int(rounded.sum()) < H.n
    for dtype in (torch.float32, torch.float64):
        measurement = measure(H, H(random(1, 1, 15, 15).to(dtype)), noise(0.1))
        assert measurement.values.dtype == dtype
        assert torch.equal(measurement.levels[0].isinf(), H.spectrum < 1e-12)
        assert float(measurement.values.abs().max()) < 20


def test_repeat_puts_whole_batches_one_after_another() -> None:
    H = Denoise(SHAPE)
    measurement = Measurement(H, random(2, *SHAPE), noise(0.1, 0.2))
    three = measurement.repeat(3)
    assert three.operator is H
    assert (measurement.copies, three.copies) == (1, 3)
    for copy in range(3):
        rows = slice(2 * copy, 2 * copy + 2)
        assert torch.equal(three.y[rows], measurement.y)
        assert torch.equal(three.noise[rows], measurement.noise)
