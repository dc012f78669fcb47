"""Restore a picture: an estimate and an interval for every pixel.

A bundled picture of cell nuclei is blurred and made noisy, so that the truth is known; with a
picture of your own, read it with `read_picture` and leave out the degradation.

Writes restored.png, intervals.tif (lower, estimate, upper) and panel.png.
"""

from __future__ import annotations

import torch

import certes
from certes.data.bundled import bundled_pictures
from certes.data.pictures import write_picture, write_tiff_stack
from certes.evaluation.metrics import psnr
from certes.evaluation.panels import restoration_panel

NOISE = 0.02  # standard deviation, where the full range of a picture is 1


def main() -> None:
    """Blur, restore, look."""
    picture = bundled_pictures()[3]
    truth = picture.pixels[None, :, 64:112, 64:112]
    blur = certes.operators.Blur((1, 48, 48), certes.operators.gaussian_kernel(2.0))
    noise = torch.randn(truth.shape, generator=torch.manual_seed(0))
    y = blur(truth) + NOISE * noise

    posterior = certes.restore(y, blur, "nuclei", noise=NOISE, samples=8, steps=20, seed=0)
    bounds = posterior.bounds(alpha=0.2)

    write_picture("restored.png", bounds.estimate[0], like=picture)
    pages = {"lower": bounds.lower, "estimate": bounds.estimate, "upper": bounds.upper}
    write_tiff_stack("intervals.tif", {name: page[0] for name, page in pages.items()})
    restoration_panel("panel.png", y[0], bounds, title="deblur", truth=truth[0], nominal=0.8)
    before, after = float(psnr(y, truth)), float(psnr(bounds.estimate, truth))
    inside = float(bounds.contains(truth).float().mean())
    print(f"{before:.1f} dB before, {after:.1f} dB after; {inside:.0%} of the pixels inside")


if __name__ == "__main__":
    main()
