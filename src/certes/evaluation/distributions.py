"""How far two sets of features are apart: Frechet distance, kernel distance, Inception score.

Everything is computed in float64. The kernel distance and the Inception score are torchmetrics'
own. Its Frechet distance is not used: for fewer pictures than features it takes square roots of
what should be zeros and is off in the sixth digit, and it sums squares without subtracting the mean
first, which loses digits where means are large.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError

SUBSETS = 100
SUBSET_SIZE = 1000
SPLITS = 10
FEWEST = 2 * SPLITS
"""Pictures that an Inception score needs: two in each of its parts."""
_LEAST_LOG = -700.0  # exp of it is still a normal float64

Vectors = Float[Tensor, "n d"]

_linalg = cast(Any, torch.linalg)  # torch leaves it untyped
_random = cast(Any, torch.random)


class Moments:
    """Mean and covariance of vectors that come in batches, which need not be kept.

    Source: Chan, Golub, LeVeque, Updating formulae and a pairwise algorithm for computing sample
    variances (1979).
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor = torch.zeros(())
        self._scatter: Tensor = torch.zeros(())

    def add(self, batch: Float[Tensor, "b d"]) -> None:
        """Take in further vectors.

        Raises: InputError for vectors that are not finite.
        """
        batch = batch.double()
        if not bool(batch.isfinite().all()):
            raise InputError("features: some are NaN or infinite: check network and pictures")
        if self.count and batch.shape[1:] != self._mean.shape:
            raise InputError(
                f"features: {batch.shape[1]} a picture after {len(self._mean)}: "
                "pictures must be of one size"
            )
        mean = batch.mean(dim=0)
        centred = batch - mean
        scatter = centred.T @ centred
        if self.count:
            total = self.count + len(batch)
            step = mean - self._mean
            scatter += self._scatter + torch.outer(step, step) * (self.count * len(batch) / total)
            mean = self._mean + step * (len(batch) / total)
        self.count += len(batch)
        self._mean, self._scatter = mean, scatter

    @property
    def mean(self) -> Float[Tensor, " d"]:
        """The mean, float64."""
        return self._mean

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """The unbiased covariance, float64.

        Raises: InputError for fewer than two vectors.
        """
        if self.count < 2:
            raise InputError(f"pictures: {self.count} given, a covariance needs at least 2")
        return self._scatter / (self.count - 1)


def moments(vectors: Vectors) -> Moments:
    """Mean and covariance of vectors that are all there."""
    taken = Moments()
    taken.add(vectors)
    return taken


def frechet_distance(
    mean1: Float[Tensor, " d"],
    covariance1: Float[Tensor, "d d"],
    mean2: Float[Tensor, " d"],
    covariance2: Float[Tensor, "d d"],
) -> float:
    r"""Squared 2-Wasserstein distance of two Gaussians, in squared units of the features.

    .. math:: |m_1 - m_2|^2 + Tr(C_1 + C_2 - 2 (C_1 C_2)^{1/2})

    With :math:`C_i = A_i A_i^T` the trace of the root is the sum of the singular values of
    :math:`A_1^T A_2`, which is exact for singular covariances too.

    Source: Dowson and Landau, The Frechet distance between multivariate normal distributions
    (1982); Heusel et al., GANs trained by a two time-scale update rule (NeurIPS 2017).
    """
    root1, root2 = _root(covariance1), _root(covariance2)
    shared = _linalg.svdvals(root1.T @ root2).sum()
    spread = covariance1.double().trace() + covariance2.double().trace() - 2 * shared
    # Rounding alone can make the spread of two equal sets negative.
    return float((mean1.double() - mean2.double()).square().sum() + spread.clamp(min=0))


def _root(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d rank"]:
    """``A`` with ``A A^T = C``; eigenvalues that are rounding errors are left out."""
    values, vectors = _linalg.eigh(covariance.double())
    least = values[-1].clamp(min=0) * len(values) * torch.finfo(torch.float64).eps
    kept = values > least
    return vectors[:, kept] * values[kept].sqrt()


def kernel_distance(
    real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], seed: int = 0
) -> tuple[float, float]:
    r"""Kernel Inception distance (KID): mean and standard deviation over 100 random subsets.

    Unbiased squared maximum mean discrepancy of the kernel :math:`(x^T y / d + 1)^3`; subsets have
    :func:`subset_size` vectors. Equal distributions have mean 0 for any number of pictures.

    Source: Binkowski et al., Demystifying MMD GANs (ICLR 2018), through torchmetrics.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = subset_size(len(real), len(generated))
    with _quiet(seed):
        metric = KernelInceptionDistance(_Given(), subsets=SUBSETS, subset_size=size)
        _update(metric, real.double(), real=True)
        _update(metric, generated.double(), real=False)
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


def subset_size(real: int, generated: int) -> int:
    """Vectors in a subset: 1000 as published, or half of the smaller set if that has fewer.

    Raises: InputError for sets of fewer than 4.
    """
    size = min(SUBSET_SIZE, min(real, generated) // 2)
    if size < 2:
        raise InputError(f"pictures: {min(real, generated)} given, at least 4 are needed")
    return size


def inception_score(logits: Float[Tensor, "n k"], seed: int = 0) -> tuple[float, float]:
    r"""Inception score: mean and standard deviation over ten random parts of the pictures.

    :math:`\exp E[KL(p(y|x) \| p(y))]`, between 1 and the number of classes; higher is better.

    Source: Salimans et al., Improved techniques for training GANs (NeurIPS 2016), through
    torchmetrics. Raises: InputError for fewer than 20 pictures.
    """
    if len(logits) < FEWEST:
        raise InputError(f"logits: of {len(logits)} pictures, wanted at least {FEWEST}")
    from torchmetrics.image.inception import InceptionScore

    # torchmetrics takes the logarithm of mean probabilities, which must not underflow to zero.
    log_probabilities = logits.double().log_softmax(dim=1).clamp(min=_LEAST_LOG)
    with _quiet(seed):
        metric = InceptionScore(_Given(), splits=SPLITS)
        _update(metric, log_probabilities)
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


class _Given(torch.nn.Module):
    """In place of a network: the features are there already."""

    def forward(self, features: Tensor) -> Tensor:
        return features


def _update(metric: Any, vectors: Tensor, **which: bool) -> None:
    update: Callable[..., None] = metric.update
    update(vectors, **which)


@contextmanager
def _quiet(seed: int) -> Generator[None, None, None]:
    """torchmetrics draws from the global generator and warns that it keeps features."""
    with _random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*will save all extracted features.*")
        _random.default_generator.manual_seed(seed)
        yield
