"""Gaussians seen through a linear operator: the textbook formulas, dense and in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError

_RANK = 1e-13  # eigenvalues below this fraction of the largest carry no information


class LinearMap(Protocol):
    """Any linear operator on batches of pictures."""

    def __call__(self, x: Float[Tensor, "b c h w"], /) -> Float[Tensor, " b *m"]:
        """The measurements of each picture."""
        ...


@dataclass(frozen=True)
class Conditioned:
    """What a measurement leaves of a Gaussian.

    Args:
        mean: of each posterior.
        covariance: which all measurements share.
        log_evidence: the log density of each measurement, nats.
    """

    mean: Float[Tensor, "b n"]
    covariance: Float[Tensor, "n n"]
    log_evidence: Float[Tensor, " b"]


def as_matrix(H: LinearMap, shape: tuple[int, ...], like: Tensor) -> Float[Tensor, "m n"]:
    """The matrix of ``H`` on pictures of this shape, found by applying it to every unit picture."""
    units = torch.eye(math.prod(shape)).to(like).reshape(-1, *shape)
    return H(units).flatten(1).T.to(like)


def condition(
    mean: Float[Tensor, " n"],
    covariance: Float[Tensor, "n n"],
    matrix: Float[Tensor, "m n"],
    y: Float[Tensor, "b m"],
    noise: float,
) -> Conditioned:
    r"""The Gaussian :math:`x \mid y` for :math:`y = H x + \text{noise} \cdot e`.

    Directions of ``y`` that cannot vary (noise 0, operator or covariance without full rank) are
    left out; the evidence is then the density on those that can.

    Raises:
        InputError: if the noise is negative.
    """
    if noise < 0:
        raise InputError(f"noise: {noise}; give a standard deviation, 0 or more")
    spread = matrix @ covariance @ matrix.T + noise**2 * torch.eye(len(matrix)).to(matrix)
    variance, vectors = eigh(spread)
    informative = variance > _RANK * variance[-1]
    variance, vectors = variance[informative], vectors[:, informative]
    innovation = (y - mean @ matrix.T) @ vectors
    gain = covariance @ matrix.T @ vectors / variance
    # Joseph's form stays symmetric and positive where the short form rounds.
    keep = torch.eye(len(mean)).to(mean) - gain @ (vectors.T @ matrix)
    return Conditioned(
        mean + innovation @ gain.T,
        keep @ covariance @ keep.T + noise**2 * gain @ gain.T,
        log_normal(innovation, variance),
    )


def eigh(matrix: Float[Tensor, "n n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """Eigenvalues, ascending, and eigenvectors, in columns, of a symmetric matrix."""
    return cast(Any, torch.linalg).eigh(matrix)  # torch leaves it untyped


def log_normal(z: Float[Tensor, "b n"], variance: Float[Tensor, "*b n"]) -> Float[Tensor, " b"]:
    """The log density, nats, of independent centred normals with these variances."""
    return -0.5 * (z**2 / variance + (2 * math.pi * variance).log()).sum(1)
