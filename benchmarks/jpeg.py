"""JPEG undone: certes, DDRM for JPEG on the same network, and the best classical deblocking.

    python benchmarks/jpeg.py [--data ../shared/data/nuclei]

The busiest 64x64 crop of 8 test pictures (none was trained or tuned on) at three qualities, 20
network calls, K = 16. Weights of the classical methods are tuned for the highest mean PSNR on
training pictures at the same quality. As a control the default sampler with the usual model of
quantisation, noise of variance q^2 / 12, at the lowest quality.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
from _report import HERE, Report
from jaxtyping import Float
from restoration_quality import NOMINAL, SAMPLES, SIDE, STEPS, pictures
from rich.progress import track
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle
from torch import Tensor

import certes
from certes.evaluation.metrics import psnr
from certes.intervals.posterior import Posterior, join
from certes.networks.model import Model
from certes.restoration.operators import Jpeg
from certes.restoration.samplers import rounded

QUALITIES = (5, 10, 30)
PICTURES, TUNING = 8, 24

Pictures = Float[Tensor, "b 1 h w"]
Deblocking = Callable[[Pictures, Jpeg], Pictures]


def total_variation(weight: float) -> Deblocking:
    """Chambolle's, on the decoded picture."""
    return lambda y, _: each(y, lambda v: denoise_tv_chambolle(v, weight=weight, max_num_iter=200))


def non_local_means(strength: float) -> Deblocking:
    """On the decoded picture."""
    return lambda y, _: each(
        y, lambda v: denoise_nl_means(v, patch_size=5, patch_distance=6, h=strength)
    )


def again(y: Pictures, H: Jpeg) -> Pictures:
    """The mean of JPEG applied anew on every shifted grid of blocks (Nosratinia 2001)."""
    total = torch.zeros_like(y)
    for shift in ((i, j) for i in range(8) for j in range(8)):
        back = (-shift[0], -shift[1])
        total += H(y.roll(shift, (2, 3))).roll(back, (2, 3))
    return total / 64


def each(y: Pictures, restore: Callable[..., object]) -> Pictures:
    """A method of scikit-image on every picture."""
    restored = [torch.as_tensor(restore(v[0].double().numpy())) for v in y]
    return torch.stack(restored)[:, None].float().clamp(0, 1)


WEIGHTS = (0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12)
CLASSICAL: dict[str, list[Deblocking]] = {
    "total variation": [total_variation(weight) for weight in WEIGHTS],
    "non-local means": [non_local_means(weight) for weight in WEIGHTS],
    "JPEG again on shifted blocks": [again],
}


def mean_psnr(restored: Pictures, truth: Pictures) -> float:
    """Mean over pictures, dB."""
    return float(psnr(restored, truth).mean())


def best_classical(H: Jpeg, train: Pictures, x: Pictures) -> tuple[str, float]:
    """The method of highest mean PSNR on the scored pictures; weights from training pictures."""
    seen, scores = H(train), dict[str, float]()
    for name, versions in CLASSICAL.items():
        tuned = max(versions, key=lambda restore: mean_psnr(restore(seen, H), train))
        scores[name] = mean_psnr(tuned(H(x), H), x)
    winner = max(scores, key=lambda name: scores[name])
    return winner, scores[winner]


def run(H: Jpeg, y: Pictures, model: Model, sampler: str) -> Posterior:
    """The posterior of all pictures."""
    parts = [
        certes.restore(
            chunk, H, model, noise=0, samples=SAMPLES, steps=STEPS, sampler=sampler
        )
        for chunk in track(y.split(4), f"quality {H.quality}, {sampler}")
    ]  # fmt: skip
    return join(parts)


def uniform_errors(
    mean: Tensor, variance: Tensor, centres: Tensor, widths: Tensor
) -> tuple[Tensor, Tensor]:
    """The usual model: every value is the middle of its cell, with noise of variance q^2 / 12."""
    return centres, (widths**2 / 12).expand_as(centres)


def coverage(posterior: Posterior, truth: Pictures) -> float:
    """Of the min-max interval."""
    return float(posterior.bounds(0.1).contains(truth).float().mean())


@dataclass(frozen=True)
class Score:
    """What came of one quality."""

    quality: int
    decoded: float
    psnr: float
    published: float
    classical: str
    classical_psnr: float
    coverage: float
    published_coverage: float


def score(quality: int, model: Model, train: Pictures, x: Pictures) -> Score:
    """One quality: PSNR and raw coverage."""
    H = Jpeg((1, SIDE, SIDE), quality)
    y = H(x)
    ours, published = run(H, y, model, "rounded"), run(H, y, model, "jpeg")
    name, classical = best_classical(H, train, x)
    return Score(
        quality,
        mean_psnr(y, x),
        mean_psnr(ours.estimate, x),
        mean_psnr(published.mean, x),
        name,
        classical,
        coverage(ours, x),
        coverage(published, x),
    )


def claims(s: Score) -> Iterator[tuple[str, float, str, bool]]:
    """What is claimed of one quality."""
    start = f"quality {s.quality}: "
    gain, lead, over = s.psnr - s.decoded, s.psnr - s.classical_psnr, s.psnr - s.published
    yield (
        f"{start}PSNR {s.psnr:.2f}, over the decoded file's ({s.decoded:.2f})",
        round(gain, 2), "at least 2", gain >= 2,
    )  # fmt: skip
    yield (
        f"{start}PSNR over the best classical method's ({s.classical}, {s.classical_psnr:.2f})",
        round(lead, 2), "at least 1", lead >= 1,
    )  # fmt: skip
    yield (
        f"{start}PSNR over that of DDRM for JPEG, mean of {SAMPLES} ({s.published:.2f})",
        round(over, 2), "at least 0", over >= 0,
    )  # fmt: skip
    yield (
        f"{start}raw coverage of the K = {SAMPLES} min-max interval "
        f"(DDRM for JPEG {s.published_coverage:.3f})",
        round(s.coverage, 3), f"{NOMINAL:.3f} within .06", abs(s.coverage - NOMINAL) <= 0.06,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data/nuclei")
    data: Path = parser.parse_args().data
    report, model = Report("jpeg"), certes.load("nuclei")
    _, train = pictures(data / "train" / "images")
    train = train[:: len(train) // TUNING][:TUNING]
    _, x = pictures(data / "test" / "images")
    x = x[:: len(x) // PICTURES][:PICTURES]
    for quality in QUALITIES:
        for claim in claims(score(quality, model, train, x)):
            report.claim(*claim)
    H = Jpeg((1, SIDE, SIDE), QUALITIES[0])
    with patch.object(rounded, "looks_at_cells", uniform_errors):
        usual = coverage(run(H, H(x), model, "rounded"), x)
    report.claim(
        "control: raw coverage with quantisation as noise of variance q^2 / 12, "
        f"quality {H.quality}",
        round(usual, 3),
        f"more than .06 from {NOMINAL:.3f}",
        abs(usual - NOMINAL) > 0.06,
    )
    report.save()


if __name__ == "__main__":
    main()
