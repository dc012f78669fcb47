"""Encoding at one resolution, decoding at another."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.noise import NoiseSource
from certes.diffusion.solvers.sampling import ReverseChain
from certes.errors import InputError
from certes.function_space.noise import CoupledNoise
from certes.function_space.reconstruction import (
    Encoded,
    carried,
    decode_functions,
    encode_functions,
    interpolate_functions,
    mixed,
    reconstruction_error,
    slerp,
)

from .conftest import Make
from .exact_field import FIELD, MEAN, network

STEPS = 40


def coefficients(x: Tensor) -> Tensor:
    return CosineBasis().forward(x.double() - MEAN)


def test_back_at_the_same_resolution() -> None:
    x = FIELD.sample(3, (12, 16)).float()
    error = reconstruction_error(network(), x, steps=STEPS)
    spread = x.std(dim=(1, 2, 3))
    assert bool((error < 0.2 * spread).all())
    # Of noise that was drawn and not encoded another function comes.
    encoded = encode_functions(network(), x, steps=STEPS)
    other = Encoded(None, encoded.noise.roll(1, 0) if encoded.noise is not None else None, (12, 16))
    drawn = decode_functions(network(), other)
    assert bool(((drawn - x).square().mean((1, 2, 3)).sqrt() > 0.5 * spread).all())


def test_noise_of_a_field_is_white() -> None:
    encoded = encode_functions(network(), FIELD.sample(20, (12, 16)).float(), steps=STEPS)
    assert encoded.noise is not None
    # Frequencies that the filter keeps: the others do not follow the field.
    low = CosineBasis().forward(encoded.noise)[..., :5, :6]
    assert float(low.square().mean()) == pytest.approx(1, abs=0.25)


def test_finer_pixels_keep_what_the_coarse_ones_show() -> None:
    x = FIELD.sample(2, (12, 16)).float()
    encoded = encode_functions(network(), x, steps=STEPS)

    def fine(seed: int) -> Tensor:
        return coefficients(decode_functions(network(), encoded, 0.5, seed)) / 2

    first, second = fine(0), fine(1)
    known, truth = first[..., :12, :16], coefficients(x)
    assert float((known - truth).norm() / truth.norm()) < 0.2
    torch.testing.assert_close(known, second[..., :12, :16], atol=1e-3, rtol=0)
    finer = first.clone()
    finer[..., :12, :16] = 0
    assert float((first - second).norm() / finer.norm()) > 0.5


def test_coarser_pixels() -> None:
    x = FIELD.sample(2, (12, 16)).float()
    encoded = encode_functions(network(), x, steps=STEPS)
    coarse = coefficients(decode_functions(network(), encoded, 2.0))
    truth = coefficients(x)[..., :6, :8]
    assert coarse.shape == (2, 1, 6, 8)
    assert float((2 * coarse - truth).norm() / truth.norm()) < 0.2


def test_carried_noise_is_white_and_keeps_its_coefficients() -> None:
    small = NoiseSource(range(200)).normal((1, 6, 10))
    fresh = NoiseSource(range(200, 400)).normal((1, 12, 15))
    basis, both = CosineBasis(), carried(small, fresh)
    torch.testing.assert_close(basis.forward(both)[..., :6, :10], basis.forward(small))
    assert float(both.square().mean()) == pytest.approx(1, abs=0.03)
    source = CoupledNoise(range(3))
    torch.testing.assert_close(
        carried(CoupledNoise(range(3)).normal((1, 6, 10)), source.normal((1, 12, 15))),
        CoupledNoise(range(3)).normal((1, 12, 15)),
    )


def test_code_alone_draws_the_rest(make: Make) -> None:
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    encoded = encode_functions(make(), x, steps=None)
    assert encoded.noise is None
    assert encoded.code is not None
    assert encoded.code.shape == (2, 32)
    first, again, second = (
        decode_functions(make(), encoded, 1.0, seed, ReverseChain("ddim", 4)) for seed in (0, 0, 1)
    )
    torch.testing.assert_close(first, again)
    assert (first - second).abs().max() > 1e-3


def test_slerp() -> None:
    a, b = (torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    torch.testing.assert_close(slerp(a, a, 0.3), a)
    unit = [x / x.flatten(1).norm(dim=1)[:, None, None, None] for x in (a, b)]
    halfway = slerp(unit[0], unit[1], 0.5)
    torch.testing.assert_close(halfway.flatten(1).norm(dim=1), torch.ones(2))
    # A straight line leaves the sphere, and noise its variance.
    assert bool((torch.lerp(unit[0], unit[1], 0.5).flatten(1).norm(dim=1) < 0.9).all())


def test_interpolation_ends_at_the_functions(make: Make) -> None:
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    first, second = (encode_functions(make(), row[None], steps=3) for row in x)
    chain = ReverseChain("dpm_solver_2m", 4)
    path = interpolate_functions(make(), first, second, [0.0, 0.5, 1.0], 0.5, chain)
    assert path.shape == (3, 1, 1, 32, 32)
    for end, function in ((path[0], first), (path[2], second)):
        torch.testing.assert_close(end, decode_functions(make(), function, 0.5, chain=chain))
    between = mixed(first, second, 0.5)
    assert between.code is not None
    assert first.code is not None
    assert second.code is not None
    torch.testing.assert_close(between.code, (first.code + second.code) / 2)


def test_refuses(make: Make) -> None:
    x = torch.rand(1, 1, 16, 16)
    encoded = encode_functions(make(), x, steps=2)
    with pytest.raises(InputError, match="does not fill"):
        decode_functions(make(), encoded, 0.7)
    with pytest.raises(InputError, match="neither code nor noise"):
        decode_functions(make(latent=0), encode_functions(make(latent=0), x, steps=None))
    with pytest.raises(InputError, match="one has noise"):
        mixed(encoded, encode_functions(make(), x, steps=None), 0.5)
    wide = replace(encoded, extent=(16.0, 32.0))
    with pytest.raises(InputError, match="first, second: domains"):
        interpolate_functions(make(), encoded, wide, [0.5])


def test_defect_a_code_of_another_domain(make: Make) -> None:
    """The original encodes a part of a larger picture and does not say so."""
    assert encode_functions(make(), torch.rand(1, 1, 32, 32), 0.5, steps=None).code is not None
    for shape, pitch in (((16, 32), 1.0), ((32, 32), 1.0), ((16, 16), 0.5)):
        with pytest.raises(InputError, match="codes are of domains of 16 x 16 training pixels"):
            encode_functions(make(), torch.rand(1, 1, *shape), pitch, steps=None)


def test_the_mean_has_no_noise() -> None:
    encoded = encode_functions(network(), torch.full((1, 1, 12, 16), MEAN), steps=5)
    assert encoded.noise is not None
    assert float(encoded.noise.abs().max()) < 1e-4
    other = encode_functions(network(), torch.full((1, 1, 12, 16), MEAN + 0.2), steps=5)
    assert other.noise is not None
    assert float(other.noise.abs().max()) > 1e-3
