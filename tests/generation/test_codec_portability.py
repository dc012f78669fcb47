"""Other threads, layouts and precisions on the receiver's machine: the same picture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from certes.data.bundled import bundled_pictures
from certes.diffusion.denoiser import Denoised
from certes.diffusion.rates import RateCurve
from certes.generation import codec
from certes.generation.codec.portable import in_double
from certes.networks import tiling
from certes.networks.model import Model, load
from certes.training.rates import measure_rates

BITS = 1.2


@pytest.fixture(scope="module")
def picture() -> Tensor:
    grey = bundled_pictures()[0].pixels[:1, 96:112, 32:56]
    return torch.cat([grey, grey.flip(1), grey.flip(2)])


@pytest.fixture(scope="module")
def rates(picture: Tensor) -> RateCurve:
    levels = torch.logspace(-2.5, 1, 6, dtype=torch.float64)
    return measure_rates(load("nuclei", "cpu").denoiser, picture[:, None], levels)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_threads_layout_and_precision(picture: Tensor, rates: RateCurve, one_thread: None) -> None:
    there = load("nuclei", "cpu", dtype=torch.bfloat16)
    sent = codec.encode(picture[:1], there, rates=rates, bits_per_pixel=BITS)
    torch.set_num_threads(2)
    here = load("nuclei", "cpu", dtype=torch.float32)
    here.denoiser.net.to(memory_format=torch.contiguous_format)  # pyright: ignore
    got = codec.decode(sent.data, here, rates=rates)
    assert got.steps == sent.steps > 3
    assert torch.equal(got.estimate, sent.estimate)


def test_float64_leaves_digits_enough(picture: Tensor) -> None:
    """The differences between two ways to compute are thousands of times below the clearance."""
    model = in_double(load("nuclei", "cpu"))
    x, sigma = picture[:, None].double(), torch.full((3,), 0.05, dtype=torch.float64)
    together = model(x, sigma)
    apart = [model(x[i : i + 1], sigma[:1]) for i in range(3)]
    mean = torch.cat([denoised.mean for denoised in apart])
    assert float((together.mean - mean).abs().max()) < 1e-12
    # Negative control: what the network's own precision loses.
    own = load("nuclei", "cpu", dtype=torch.float32)(x.float(), sigma.float()).mean
    assert float((own - mean).abs().max()) > 1e-8


def test_a_model_is_not_changed_by_coding(picture: Tensor, rates: RateCurve) -> None:
    model = load("nuclei", "cpu")
    before = {name: value.clone() for name, value in model.denoiser.net.state_dict().items()}
    codec.encode(picture[:1], model, rates=rates, bits_per_pixel=BITS)
    after = model.denoiser.net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(after[name].dtype == value.dtype for name, value in before.items())


def test_pictures_too_large_for_the_model_are_tiled(
    picture: Tensor, rates: RateCurve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiling, "_LARGEST", 16**2)
    monkeypatch.setattr(tiling, "_OVERLAP", 4)
    model, sizes = load("nuclei", "cpu"), set[tuple[int, ...]]()
    plain = Model.__call__

    def spied(self: Model, x: Tensor, sigma: Tensor) -> Denoised:
        sizes.add(tuple(x.shape[-2:]))
        return plain(self, x, sigma)

    monkeypatch.setattr(Model, "__call__", spied)
    sent = codec.encode(picture[:1], model, rates=rates, bits_per_pixel=BITS)
    assert torch.equal(codec.decode(sent.data, model, rates=rates).estimate, sent.estimate)
    assert sizes == {(16, 16)}
