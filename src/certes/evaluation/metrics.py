"""Full-reference image metrics, one value per image."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError


def psnr(x: Float[Tensor, "b c h w"], reference: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio, -10 log10 of the mean squared error, in dB for a peak of 1.

    Infinite for equal pictures. Raises: InputError for pictures of different shapes.
    """
    _check_shapes(x, reference)
    return -10 * torch.log10((x.double() - reference).square().mean(dim=(1, 2, 3))).float()


def ssim(x: Float[Tensor, "b c h w"], reference: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Structural similarity with a Gaussian window of 1.5 pixels, for a peak of 1; 1 is equal.

    Source: Wang, Bovik, Sheikh, Simoncelli, Image quality assessment (IEEE TIP 2004), through
    torchmetrics. Raises: InputError for pictures of different shapes.
    """
    _check_shapes(x, reference)
    # torchmetrics takes seconds to import, so that no other command should pay for it.
    from torchmetrics.functional.image import structural_similarity_index_measure

    values = structural_similarity_index_measure(x, reference, reduction="none", data_range=1.0)
    return cast(Tensor, values).reshape(len(x))


def _check_shapes(x: Tensor, reference: Tensor) -> None:
    if x.shape != reference.shape:
        raise InputError(
            f"reference: shape {tuple(reference.shape)}, wanted {tuple(x.shape)}: "
            "compare pictures of the same size and channels"
        )
