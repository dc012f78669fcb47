"""What the benchmarks of models of functions share: pictures, features, drawn functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

import certes
from certes.data.patches import PatchDataset, load_folder
from certes.evaluation.distributions import frechet_distance, moments
from certes.evaluation.features import FeatureNetwork, model_features

SHARED = Path(__file__).parents[2] / "shared" / "data"
RUNS = Path(__file__).parent / "results" / ".cache" / "functions"
BUSY = 0.5
"""Share of crops chosen for their content, as in training."""

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
    """The bundled model of nuclei: blind to no mistakes of the models here, being none of them.

    Its first level, of 64 features: distances in more dimensions need more pictures than are drawn.
    """
    model = certes.load("nuclei", dtype=torch.float32)
    assert isinstance(model, certes.Model)
    return model_features(model, level=0)


def features(pictures: Pictures) -> Float[Tensor, "n d"]:
    """What it sees."""
    parts = [looker()(part.clamp(0, 1)).vectors.double() for part in pictures.split(64)]
    return torch.cat(parts)


def distance(drawn: Pictures, real: Pictures, resamples: int = 20) -> tuple[float, float]:
    """Frechet distance of features, with its standard error from bootstrap samples."""
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
    return value, float(torch.tensor(draws).std())


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


def spread(value: float, error: float) -> str:
    """A number with its standard error."""
    return f"{value:.3g} +- {error:.2g}"
