"""One model, any resolution: the same functions drawn at 32, 64 and 128 pixels.

A model of functions knows coordinates instead of pixels. Drawn from the same noise, pictures of
other pitches show the same thing, and agree where they are made comparable.

Writes resolutions.png.
"""

from __future__ import annotations

import torch
from torch.nn.functional import avg_pool2d

import certes
from certes.diffusion.solvers.sampling import ReverseChain
from certes.evaluation.sheets import Sheet, picture_sheet
from certes.function_space.sampling import sample_functions


def main() -> None:
    """Draw two functions three times."""
    model = certes.load("nuclei-functions")
    assert isinstance(model, certes.FunctionModel)
    chain = ReverseChain(steps=12)
    drawn = {
        side: sample_functions(model, (side, side), 64 / side, count=2, seed=0, chain=chain)
        for side in (32, 64, 128)
    }
    coarse = [avg_pool2d(pictures, side // 32) for side, pictures in drawn.items()]
    for side, pictures in zip(drawn, coarse, strict=True):
        apart = float((pictures - coarse[0]).square().mean().sqrt())
        print(f"drawn at {side}, averaged to 32 pixels: differs by {apart:.4f} from 32")
    spread = float(coarse[0].std())
    print(f"(the pictures themselves vary by {spread:.3f})")
    largest = [
        pictures.repeat_interleave(128 // side, 2).repeat_interleave(128 // side, 3)
        for side, pictures in drawn.items()
    ]
    labels = [f"{side} pixels" for side in drawn]
    note = "Two functions from the same noise at three resolutions."
    picture_sheet(
        "resolutions.png",
        Sheet(torch.stack(largest, dim=1), ["one", "other"], labels, "Any resolution", note),
    )


if __name__ == "__main__":
    main()
