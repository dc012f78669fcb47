r"""From 8-bit pictures to densities and back: whose units the bits are in.

With :math:`u` uniform in [0, 1), a picture of grey levels :math:`k` becomes :math:`(k + u) / 256`,
which fills [0, 1]. For every density :math:`p` in these units,

.. math:: E_u \log_2 p((k + u) / 256) \le \log_2 \int_{bin} p = \log_2 P(k) + 8 D

(Theis, van den Oord and Bethge 2016, arXiv:1511.01844): the 8 is :math:`\log_2` of the number of
bins between 0 and 1. A density in other units is first brought to image units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.likelihood.decoder import GREY, check_8bit

BINS = GREY + 1


def dequantised(x0: Float[Tensor, "b c h w"], seeds: Sequence[int]) -> Float[Tensor, "b c h w"]:
    """8-bit pictures with uniform noise that fills their bins, float64.

    Args:
        x0: pictures, whole multiples of 1/255.
        seeds: of the noise of each picture.

    Raises:
        InputError: if a value is not a whole multiple of 1/255 in [0, 1].
    """
    check_8bit(x0)
    noise = torch.stack([_uniform(x0.shape[1:], seed) for seed in seeds]).to(x0.device)
    return ((GREY * x0.double()).round() + noise) / BINS


def bits_per_dimension(
    log_density: Float[Tensor, " b *rest"], dimensions: int
) -> Float[Tensor, " b *rest"]:
    """Bits per dimension of 8-bit pictures.

    Args:
        log_density: nats, of pictures in image units.
        dimensions: values in a picture.
    """
    return math.log2(BINS) - log_density / (dimensions * math.log(2))


def _uniform(shape: torch.Size, seed: int) -> Float[Tensor, "c h w"]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)
