"""Your own instrument: say what it does to a picture, and the adjoint of that; nothing else.

A line camera whose light falls off towards the sides and which reads every second row only. A few
lines say so; the sampler for operators without a decomposition does the rest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import certes
from certes.data.bundled import bundled_pictures
from certes.evaluation.metrics import psnr
from certes.evaluation.sheets import Sheet, picture_sheet

SIDE, NOISE = 48, 0.01


class LineCamera(certes.operators.LinearOperator):
    """Every second row, dimmed towards both sides.

    Args:
        shape: (C, H, W) of a picture.
        dimmest: what is left of the light at the sides.
    """

    name = "line-camera"

    def __init__(self, shape: tuple[int, int, int], dimmest: float) -> None:
        channels, height, width = shape
        super().__init__(shape, (channels, (height + 1) // 2, width))
        self.dimmest = dimmest
        across = torch.linspace(-1, 1, width)
        self.light = 1 - (1 - dimmest) * across.square()

    def _apply(self, x: Tensor) -> Tensor:
        return x[..., ::2, :] * self.light.to(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), *self.in_shape)
        x[..., ::2, :] = y * self.light.to(y)
        return x

    def _parameters(self) -> dict[str, Any]:
        return {"dimmest": self.dimmest}


def main() -> None:
    """Check the adjoint, measure, restore."""
    H = LineCamera((1, SIDE, SIDE), dimmest=0.3)
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(1, *s, generator=generator).double() for s in (H.in_shape, H.out_shape))
    print(f"<Hx, z> - <x, H'z> = {float((H(x) * z).sum() - (x * H.adjoint(z)).sum()):.1e}")

    truth = bundled_pictures()[1].pixels[None, :, 96 : 96 + SIDE, 96 : 96 + SIDE]
    y = H(truth)
    y = y + NOISE * torch.randn(y.shape, generator=generator)
    posterior = certes.restore(y, H, "nuclei", noise=NOISE, samples=8, steps=20, seed=0)

    filled = H.pinv(y)
    bounds = posterior.bounds(alpha=0.2)
    inside = float(bounds.contains(truth).float().mean())
    print(f"{float(psnr(filled, truth)):.1f} dB without a model")
    print(f"{float(psnr(posterior.estimate, truth)):.1f} dB restored, {inside:.0%} inside")
    shown = torch.stack([filled, posterior.estimate, truth], dim=1)
    note = "Left: the rows that were read, light corrected."
    picture_sheet(
        "rows.png", Sheet(shown, [""], ["measured", "restored", "truth"], "A line camera", note)
    )


if __name__ == "__main__":
    main()
