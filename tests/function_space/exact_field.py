"""A Gaussian field as every kind of model that the uses of function space ask."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from certes.diffusion.bases import CosineBasis
from certes.diffusion.problems import GaussianProblem
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.fields import GaussianField
from certes.function_space.model import FunctionModel
from certes.function_space.mollifier import squared_frequencies
from certes.function_space.unmollify import FINEST, PowerLaw, SpectralFilter, WienerFilter

from .stub_network import SCALE, in_cosines, stub_denoiser

WIDTH = 0.75
MEAN = 0.5


def spectrum(squared: Tensor) -> Tensor:
    """Of the field, network units squared times area: a pixel's deviation is about 0.3."""
    return 0.12 * (0.15 + squared) ** -1.25


def in_image_units(squared: Tensor) -> Tensor:
    """The same, image units."""
    return SCALE**2 * spectrum(squared)


FIELD = GaussianField(in_image_units, MEAN)


def network() -> FunctionDenoiser:
    """A network that answers as the field would, with a filter that knows the field beyond."""
    denoiser = stub_denoiser(
        in_cosines(lambda squared, level: spectrum(squared) / (spectrum(squared) + level**2)), WIDTH
    )
    wiener = WienerFilter(denoiser.reading.mollifier)
    places = torch.linspace(0, FINEST, 129, dtype=torch.float64)
    symbol = (-(places**2) * WIDTH**2 / 2).exp()
    gains = (symbol / (symbol**2 + wiener.epsilon**2)).expand(2, -1)
    law = PowerLaw(float(spectrum(torch.tensor(math.pi**2))), 2.5, math.pi)
    levels = torch.tensor([1e-4, 1e4], dtype=torch.float64)
    denoiser.unmollify = SpectralFilter(levels, gains, 0 * gains, gains, law)
    return denoiser


def model() -> FunctionModel:
    """The network with a name."""
    return FunctionModel("field", network(), {}, "hash-of-field")


def problem(shape: tuple[int, int], pitch: float = 1.0) -> GaussianProblem:
    """The field's pictures, densely."""
    n = shape[0] * shape[1]
    modes = CosineBasis().forward(torch.eye(n, dtype=torch.float64).reshape(n, 1, *shape))
    modes = modes.reshape(n, n)
    power = in_image_units(squared_frequencies(shape, pitch)) / pitch**2
    covariance = (modes * power.flatten()) @ modes.T
    mean = torch.full((1, *shape), MEAN, dtype=torch.float64)
    return GaussianProblem(mean, (covariance + covariance.T) / 2)
