"""Whether a restoration, measured again, gives what was measured."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators.base import Operator


class Consistency(NamedTuple):
    """Of all draws: those that agree exactly are counted, the others averaged.

    `psnr` is the mean over the draws whose measurement differs, dB, or None if none does; `exact`
    is the share of those whose measurement is equal, whose PSNR is infinite.
    """

    psnr: float | None
    exact: float


def consistency(
    samples: Float[Tensor, "k b c h w"], truth: Float[Tensor, "b c h w"], operator: Operator
) -> Float[Tensor, "k b"]:
    r"""PSNR between the measurements of every draw and of the truth, both without noise.

    .. math:: -10 \log_{10} \frac{1}{|M|} \sum_{i \in M} (H(\hat x)_i - H(x)_i)^2

    in dB for a peak of 1. M are the values that the operator measures: with holes, the known
    pixels of its own mask. It is infinite where they are all equal. For super-resolution and edges
    it is the consistency of Batzolis et al., Conditional image generation with score-based
    diffusion models (2021).

    Args:
        samples: K draws for each of B measurements.
        truth: what was measured.
        operator: what measured it.

    Raises: InputError for samples of another shape than K times that of the truth, and as the
    operator for pictures of another shape than its own.
    """
    if samples.ndim != 5 or samples.shape[1:] != truth.shape:
        raise InputError(
            f"samples: shape {tuple(samples.shape)}, wanted (K, "
            f"{', '.join(map(str, truth.shape))}): K draws for each picture of the truth"
        )
    wanted, measured = operator(truth), _measured(operator, truth)
    return torch.stack([_psnr(operator(draw), wanted, measured) for draw in samples])


def summary(values: Float[Tensor, "k b"]) -> Consistency:
    """One number for all draws of all pictures, infinite ones apart."""
    differ = values[values.isfinite()].double()
    return Consistency(
        float(differ.mean()) if differ.numel() else None, 1 - differ.numel() / values.numel()
    )


def _measured(operator: Operator, x: Float[Tensor, "b c h w"]) -> Bool[Tensor, " m"]:
    return operator.observed(x.new_ones(1, *operator.out_shape)).flatten() > 0


def _psnr(
    y: Float[Tensor, "b ..."], wanted: Float[Tensor, "b ..."], measured: Bool[Tensor, " m"]
) -> Float[Tensor, " b"]:
    error = (y.double() - wanted).flatten(1)[:, measured]
    return -10 * torch.log10(error.square().mean(dim=1)).float()
