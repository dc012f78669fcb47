"""Bits per dimension of held-out pictures, in the time that a lent machine leaves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from certes.diffusion.likelihood import Bound, bound_times, variational_bound
from certes.diffusion.process import Process
from certes.diffusion.reverse import Variance
from certes.networks.denoiser import NetworkDenoiser

PUBLISHED = "DDPM: 3.75 with L_simple, 3.70 with L (CIFAR-10, 10,000 pictures, 1000 steps)"


def measure_bits(
    denoiser: NetworkDenoiser,
    pictures: Sequence[Tensor],
    levels: int | None,
    batch: int,
    variances: Sequence[Variance] | None = None,
) -> dict[str, Bound]:
    """The variational bound of 8-bit pictures with every variance that the network knows.

    Args:
        denoiser: the trained network.
        pictures: (C, H, W) uint8, held out.
        levels: steps for each picture, an unbiased choice of the whole grid; ``None``: all.
        batch: pictures at once.
        variances: by default all that the denoiser can answer.
    """
    x0 = torch.stack(list(pictures)).to(denoiser.device).float() / 255
    process = Process(denoiser.schedule, center=denoiser.center, scale=denoiser.scale)
    times = bound_times(denoiser.schedule, denoiser.scale)
    known: list[Variance] = ["small", "large"]
    known += ["learned"] if denoiser.head else []
    known += ["calibrated"] if denoiser.spectrum else []
    bounds = variational_bound(
        process, denoiser, x0, times, variances or known, levels=levels, batch_size=batch
    )
    return {str(name): bound for name, bound in bounds.items()}


def print_bits(bounds: dict[str, Bound], pictures: int) -> None:
    print(f"bits per dimension of {pictures} held-out pictures")
    for name, bound in bounds.items():
        error = bound.standard_error or float("nan")
        print(
            f"{name:>12s} {bound.total:7.4f} +- {error:.4f}   rate {bound.rate:.4f}, "
            f"distortion {bound.distortion:.4f}"
        )
    print(PUBLISHED)
