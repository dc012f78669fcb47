"""Whether restorations are distributed like pictures, and like pictures of what was measured.

Restorations of the wrong measurements are as good pictures as any: only their joint distribution
with the measurements tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError
from certes.evaluation.distributions import Moments, frechet_distance
from certes.evaluation.features import FeatureNetwork
from certes.evaluation.generated import distance_warnings

Pair = tuple[Float[Tensor, "b cx hx wx"], Float[Tensor, "b cy hy wy"]]


@dataclass(frozen=True)
class JointScores:
    """Frechet distances of restorations to real pictures, as the network `features` sees them.

    `unconditional` is of pictures alone, `joint` of pictures beside what was measured; published
    ones are called UFID and JFID, which they are only if `published`. Both are 0 for equal
    distributions and come out too high for few pictures, the joint one, of `dimension` numbers a
    pair, more so; `warnings` says so in words.
    """

    features: str
    published: bool
    dimension: int
    real: int
    generated: int
    unconditional: float
    joint: float
    warnings: tuple[str, ...]


def joint_scores(
    network: FeatureNetwork,
    real: Iterable[Pair],
    generated: Iterable[Pair],
    network_y: FeatureNetwork | None = None,
) -> JointScores:
    """Compare restorations with real pictures, without and with what they were restored from.

    The joint distance is the Frechet distance of the features of y and x, one after the other.
    Source: DeVries et al., On the evaluation of conditional GANs (2019); Batzolis et al.,
    Conditional image generation with score-based diffusion models (2021).

    Args:
        network: what looks at pictures.
        real: batches (x, y) of a real picture and its measurement, in [0, 1].
        generated: batches (x, y) of a restoration and the measurement that it was made from.
        network_y: what looks at measurements, if they are no pictures that `network` takes.

    Raises: InputError for fewer than 2 pairs, for batches of unequal counts, and as the networks.
    """
    looks = network, network_y or network
    (x1, joint1), (x2, joint2) = _moments(*looks, real), _moments(*looks, generated)
    dimension = len(joint1.mean)
    return JointScores(
        features=" beside ".join(dict.fromkeys(look.name for look in looks)),
        published=all(look.published for look in looks),
        dimension=dimension,
        real=x1.count,
        generated=x2.count,
        unconditional=frechet_distance(x1.mean, x1.covariance, x2.mean, x2.covariance),
        joint=frechet_distance(joint1.mean, joint1.covariance, joint2.mean, joint2.covariance),
        warnings=distance_warnings(x1.count, x2.count, dimension),
    )


def _moments(
    network: FeatureNetwork, network_y: FeatureNetwork, batches: Iterable[Pair]
) -> tuple[Moments, Moments]:
    """Of the features of x, and of those of y and x."""
    alone, joint = Moments(), Moments()
    for x, y in batches:
        if len(x) != len(y):
            raise InputError(f"pairs: {len(x)} pictures with {len(y)} measurements: give one each")
        seen = network(x).vectors.cpu()
        alone.add(seen)
        joint.add(torch.cat([network_y(y).vectors.cpu(), seen], dim=1))
    if alone.count < 2:
        raise InputError(f"pairs: {alone.count} given, at least 2 are needed")
    return alone, joint
