"""Train a conditional model, and ask it for intervals.

Where pairs of pictures and measurements are at hand, a network learns the posterior itself. This
one is far too small and trained for far too short (a few seconds) to be of use, but it is all
there: a preset made smaller, `certes train`, a model folder, `certes.restore` without an operator.

Writes settings.json, pictures/ and run/.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

import certes
from certes.conditional.presets import PRESETS
from certes.data.bundled import bundled_pictures
from certes.data.pictures import write_picture
from certes.evaluation.metrics import psnr

SIDE = 16


def main() -> None:
    """Train on seven pictures, restore a part of the eighth."""
    *training, last = bundled_pictures()
    Path("pictures").mkdir()
    for picture in training:
        write_picture(f"pictures/{picture.name}.png", picture.pixels, like=picture)
    network = {"sample_size": SIDE, "block_out_channels": [16, 32], "norm_num_groups": 8}
    preset = PRESETS["nuclei-denoise"].to_dict()
    settings = preset | {
        "network": preset["network"] | network | {
            "down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2,
        },
        "patch": SIDE, "batch": 16, "steps": 60, "warmup": 5, "precision": "no",
        "checkpoint_every": 60, "sample_every": 60,
    }  # fmt: skip
    Path("settings.json").write_text(json.dumps(settings))
    command = ["train", "settings.json", "--data", "pictures", "--out", "run", "--licence", "CC0"]
    subprocess.run([sys.executable, "-m", "certes", *command], check=True)

    truth = last.pixels[None, :, 160 : 160 + SIDE, 176 : 176 + SIDE]
    y = truth + 0.1 * torch.randn(truth.shape, generator=torch.manual_seed(0))
    posterior = certes.restore(y, model="run/model", samples=8, steps=10, seed=0)
    bounds = posterior.bounds(alpha=0.2)
    print(f"{float(psnr(y, truth)):.1f} dB noisy, {float(psnr(bounds.estimate, truth)):.1f} dB")
    print(f"intervals {float(bounds.width.mean()):.3f} wide, raw: calibrate before you trust them")


if __name__ == "__main__":
    main()
