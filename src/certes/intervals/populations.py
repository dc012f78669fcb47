"""Populations of images whose risk at every interval size is known in closed form."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from numpy.random import Generator

from certes.intervals.probability import log_normal_cdf

_PIXELS = 64


class Population(ABC):
    """Images whose risk at every interval size is known in closed form."""

    name: str

    def draw(self, rng: Generator, n: int) -> Float64[ndarray, "n m"]:
        """Critical values of n independent images."""
        return self.critical(rng, rng.standard_normal(n))

    @abstractmethod
    def critical(self, rng: Generator, z: Float64[ndarray, " n"]) -> Float64[ndarray, "n m"]:
        """Critical values of images of difficulty z, which is standard normal over images."""

    @abstractmethod
    def risk(self, size: float) -> float:
        """Expected share of pixels whose critical value exceeds `size`."""

    def smallest_size(self, alpha: float) -> float:
        """The smallest size whose risk is at most alpha: what an oracle would choose."""
        low, high = 0.0, 1.0
        while self.risk(high) > alpha:
            high *= 2
        while low < (middle := (low + high) / 2) < high:
            low, high = (middle, high) if self.risk(middle) > alpha else (low, middle)
        return high


class Lognormal(Population):
    r"""Pixel errors :math:`s_i |e|` with e standard normal and :math:`s_i = e^{\tau z_i}`.

    The risk is :math:`E_s[\mathrm{erfc}(\lambda / (s \sqrt 2))]`, by Gauss-Hermite quadrature.
    """

    def __init__(self, tau: float) -> None:
        self.tau = tau
        self.name = f"lognormal, tau {tau:g}"
        nodes, weights = np.polynomial.hermite_e.hermegauss(64)
        self._scales: list[float] = np.exp(tau * nodes).tolist()
        self._weights: list[float] = (weights / weights.sum()).tolist()

    def critical(self, rng: Generator, z: Float64[ndarray, " n"]) -> Float64[ndarray, "n m"]:
        return np.exp(self.tau * z)[:, None] * np.abs(rng.standard_normal((len(z), _PIXELS)))

    def risk(self, size: float) -> float:
        terms = zip(self._weights, self._scales, strict=True)
        return sum(w * math.erfc(size / (s * math.sqrt(2))) for w, s in terms)


class AllOrNothing(Population):
    r"""Images covered whole or missed whole: the worst case, with risk :math:`e^{-\lambda}`."""

    name = "all or nothing"

    def critical(self, rng: Generator, z: Float64[ndarray, " n"]) -> Float64[ndarray, "n m"]:
        return -log_normal_cdf(-z)[:, None]

    def risk(self, size: float) -> float:
        return math.exp(-size)
