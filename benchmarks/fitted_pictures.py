"""Are training pictures known again, and new ones not taken for them?

    python benchmarks/fitted_pictures.py [--shared ../shared/data] [--ship]

The fingerprints of all training pictures of both bundled models, against those pictures, 64x64
crops of them, and pictures that were not trained on. With ``--ship`` they are written into the
models' folders, as training and measuring a model do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _report import HERE, Report
from restoration_quality import SIDE, busiest_crop

from certes.data.patches import load_folder
from certes.networks.model import BUNDLED
from certes.training.fitted import FITTED, Fitted

CROPS = 4  # random ones of each picture


@dataclass(frozen=True)
class Case:
    """A bundled model, the folders it was trained on, and one that it was not."""

    model: str
    trained: tuple[str, ...]
    new: str


CASES = (
    Case("nuclei", ("nuclei/train/images",), "nuclei/test/images"),
    Case("photo-grey", ("bsds500/train", "bsds500/test"), "demo24_cc0"),
)


def random_crops(pictures: list[torch.Tensor]) -> list[torch.Tensor]:
    """Anywhere, nearly empty background included."""
    rng, crops = np.random.default_rng(0), list[torch.Tensor]()
    for picture in pictures:
        for _ in range(CROPS):
            top, left = (int(rng.integers(side - SIDE + 1)) for side in picture.shape[1:])
            crops.append(picture[:, top : top + SIDE, left : left + SIDE])
    return crops


def busy_crops(pictures: list[torch.Tensor]) -> list[torch.Tensor]:
    """Those that the other benchmarks judge by."""
    return [(busiest_crop(picture[:1].float() / 255) * 255).round().byte() for picture in pictures]


def share(fitted: Fitted, pictures: list[torch.Tensor]) -> float:
    """Of the pictures, those that are known."""
    return float(np.mean([fitted.trained.knows(picture) for picture in pictures]))


KINDS: dict[str, tuple[Callable[[list[torch.Tensor]], list[torch.Tensor]], float]] = {
    "whole": (lambda pictures: pictures, 1.0),
    "busiest 64x64 crops": (busy_crops, 0.98),
    "random 64x64 crops": (random_crops, 0.98),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared/data")
    parser.add_argument("--ship", action="store_true", help=f"write {FITTED} of the bundled models")
    arguments = parser.parse_args()
    report = Report("fitted_pictures")
    for case in CASES:
        trained = [
            picture
            for name in case.trained
            for picture in load_folder(arguments.shared / name, grey=True)
        ]
        new = load_folder(arguments.shared / case.new, grey=True)
        fitted = Fitted.to(trained)
        if arguments.ship:
            fitted.save(BUNDLED / case.model)
        for kind, (cut, wanted) in KINDS.items():
            found, mistaken = share(fitted, cut(trained)), share(fitted, cut(new))
            text = f"{case.model}: {len(trained)} training pictures known again, {kind}"
            report.claim(text, round(found, 4), f"at least {wanted}", found >= wanted)
            text = f"{case.model}: {len(new)} new pictures taken for training pictures, {kind}"
            report.claim(text, round(mistaken, 4), "none", mistaken == 0)
    report.save()


if __name__ == "__main__":
    main()
