"""Image metrics, one value per image: against a truth, and of several draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError

Metric = Callable[[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]], Float[Tensor, " b"]]
"""From pictures and their truths to one value per picture."""


def psnr(x: Float[Tensor, "b c h w"], reference: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio, -10 log10 of the mean squared error, in dB for a peak of 1.

    Infinite for equal pictures. Raises: InputError for pictures of different shapes.
    """
    check_shapes(x, reference)
    return -10 * torch.log10((x.double() - reference).square().mean(dim=(1, 2, 3))).float()


def ssim(x: Float[Tensor, "b c h w"], reference: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Structural similarity with a Gaussian window of 1.5 pixels, for a peak of 1; 1 is equal.

    Source: Wang, Bovik, Sheikh, Simoncelli, Image quality assessment (IEEE TIP 2004), through
    torchmetrics. Raises: InputError for pictures of different shapes.
    """
    check_shapes(x, reference)
    # torchmetrics takes seconds to import, so that no other command should pay for it.
    from torchmetrics.functional.image import structural_similarity_index_measure

    values = structural_similarity_index_measure(x, reference, reduction="none", data_range=1.0)
    return cast(Tensor, values).reshape(len(x))


def over_draws(
    metric: Metric, samples: Float[Tensor, "k b c h w"], reference: Float[Tensor, "b c h w"]
) -> Float[Tensor, " b"]:
    """The mean of a metric over all draws of each picture.

    Args:
        metric: `psnr`, `ssim` or another of two batches of pictures.
        samples: K draws for each of B pictures.
        reference: their truths.

    Raises: InputError for no draws, and as the metric.
    """
    if not len(samples):
        raise InputError("samples: no draws, at least one is needed")
    return torch.stack([metric(draw, reference) for draw in samples]).mean(dim=0)


def diversity(samples: Float[Tensor, "k b c h w"]) -> Float[Tensor, " b"]:
    """How much the draws of each picture differ, in grey levels of 255.

    The unbiased standard deviation over the draws, averaged over pixels and channels; the scale is
    that of published figures, 255 times that of the pictures.

    Source: Batzolis et al., Conditional image generation with score-based diffusion models (2021).
    Raises: InputError for fewer than two draws.
    """
    if len(samples) < 2:
        raise InputError(f"samples: {len(samples)} draws, at least 2 are needed to tell a spread")
    return 255 * samples.std(dim=0).mean(dim=(1, 2, 3))


def check_shapes(x: Tensor, reference: Tensor) -> None:
    """Refuse two batches that cannot be compared.

    Raises: InputError for pictures of different shapes.
    """
    if x.shape != reference.shape:
        raise InputError(
            f"reference: shape {tuple(reference.shape)}, wanted {tuple(x.shape)}: "
            "compare pictures of the same size and channels"
        )
