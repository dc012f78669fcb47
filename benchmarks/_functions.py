"""What the benchmarks of models of functions share: pictures, features, drawn functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

import certes
from certes.data.patches import PatchDataset, load_folder
from certes.evaluation.distributions import frechet_distance, kernel_distance, moments
from certes.evaluation.features import FeatureNetwork, model_features

SHARED = Path(__file__).parents[2] / "shared" / "data"
RUNS = Path(__file__).parent / "results" / ".cache" / "functions"
BUSY = 0.5
"""Share of crops chosen for their content, as in training."""

REAL = 1024
"""Held-out crops that drawn pictures are compared with."""

Pictures = Float[Tensor, "n 1 h w"]


@cache
def training_pictures() -> list[Tensor]:
    """Of nuclei."""
    return load_folder(SHARED / "nuclei/train/images", grey=True)


@cache
def held_out(count: int, size: int) -> Pictures:
    """Crops of the test pictures, drawn as training crops are."""
    pictures = load_folder(SHARED / "nuclei/test/images", grey=True)
    return PatchDataset(pictures, size, BUSY).batch(0, count, seed=5)


@cache
def looker() -> FeatureNetwork:
    """The bundled model of nuclei: blind to no mistakes of the models here, being none of them."""
    model = certes.load("nuclei", dtype=torch.float32)
    assert isinstance(model, certes.Model)
    return model_features(model)


def features(pictures: Pictures) -> Float[Tensor, "n d"]:
    """What it sees."""
    parts = [looker()(part.clamp(0, 1)).vectors.double() for part in pictures.split(64)]
    return torch.cat(parts)


@dataclass(frozen=True)
class Distance:
    """How far drawn pictures are from real ones, as features see them.

    The Frechet distance is biased upwards by what few pictures leave open; the kernel distance is
    not. Errors are standard errors: from bootstrap samples of both sets, and from subsets.
    """

    frechet: float
    frechet_error: float
    kernel: float
    kernel_error: float

    def __str__(self) -> str:
        return (
            f"{self.frechet:.2f} +- {self.frechet_error:.2f}, kernel {1e3 * self.kernel:.1f} +- "
            f"{1e3 * self.kernel_error:.1f} (times .001)"
        )


def distance(drawn: Pictures, real: Pictures, resamples: int = 20) -> Distance:
    """Of two sets of pictures of one size."""
    a, b = features(drawn), features(real)

    def between(rows: Tensor, others: Tensor) -> float:
        one, two = moments(a[rows]), moments(b[others])
        return frechet_distance(one.mean, one.covariance, two.mean, two.covariance)

    generator = torch.Generator().manual_seed(3)
    draws = [
        between(*(torch.randint(len(x), (len(x),), generator=generator) for x in (a, b)))
        for _ in range(resamples)
    ]
    value = between(torch.arange(len(a)), torch.arange(len(b)))
    kernel, error = kernel_distance(a, b, seed=0)
    return Distance(value, float(torch.tensor(draws).std()), kernel, error)


def averaged(pictures: Pictures, size: int) -> Pictures:
    """Area averages, as a camera with larger pixels sees."""
    return F.adaptive_avg_pool2d(pictures, size)


def kept_pictures(name: str, draw: Callable[[], Pictures]) -> Pictures:
    """Drawn now, or before."""
    path = RUNS / f"{name}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"drawn": draw().contiguous()}, path)
    return load_file(path)["drawn"]
