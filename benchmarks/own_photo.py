"""A user's own degraded picture: what is lost by estimating what nobody told, and by colours.

    python benchmarks/own_photo.py [--photo-model photo-grey]

Held-out pictures, 64x64 crops, K = 16 samples, 20 network calls. Beside each answer stands the one
with the truth in the user's hands (the noise level, the blur's width), or the plainer way.

* Noise: the level known, estimated, and estimated with its error carried into the samples.
* Noise that grows with the signal: its law read off the picture and one level for every pixel; a
  variance-stabilising transform around the prior; one level for all pixels.
* Blur: its width known, estimated, and half as wide again.
* Colour with a grey prior: opponent colours, and each channel by itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from _report import HERE, Report
from jaxtyping import Float
from restoration_quality import busiest_crop, split
from torch import Tensor

import certes
from certes.data.pictures import read_picture
from certes.evaluation.metrics import psnr
from certes.intervals.bounds import Bounds
from certes.restoration import degrade
from certes.restoration.blur_width import estimate_blur_width
from certes.restoration.noise import measure_noise
from certes.restoration.noise_model import NoiseEstimate, SignalNoise
from certes.restoration.signal_noise import measure_signal_noise
from certes.restoration.variance_stabilising import VarianceStabiliser

SIDE, PICTURES = 64, 12
NOMINAL = 15 / 17
SHAPE = (1, SIDE, SIDE)

Answer = tuple[float, float]


def nuclei(data: Path) -> tuple[Tensor, list[Tensor]]:
    """Busiest crops of held-out pictures, and the whole pictures (for estimates)."""
    paths = sorted((data / "nuclei" / "test" / "images").glob("*.png"))
    _, held = split([path.stem for path in paths])
    whole = [read_picture(paths[i]).pixels[:1] for i in held[:PICTURES]]
    return torch.stack([busiest_crop(picture) for picture in whole]), whole


def photographs(data: Path, channels: int) -> Tensor:
    """Busiest crops of photographs."""
    paths = sorted((data / "demo24_cc0").glob("*.png"))[:PICTURES]
    pictures = [read_picture(path).pixels for path in paths]
    tops = [_place(picture.mean(0)) for picture in pictures]
    crops = [p[:, t : t + SIDE, s : s + SIDE] for p, (t, s) in zip(pictures, tops, strict=True)]
    return torch.stack([crop if channels == 3 else crop.mean(0, keepdim=True) for crop in crops])


def _place(grey: Float[Tensor, "h w"]) -> tuple[int, int]:
    spread = grey.unfold(0, SIDE, 16).unfold(1, SIDE, 16).std(dim=(2, 3))
    best = int(spread.argmax())
    return 16 * (best // spread.shape[1]), 16 * (best % spread.shape[1])


def scored(bounds: Bounds, truth: Tensor) -> Answer:
    inside = float(bounds.contains(truth).float().mean())
    return float(psnr(bounds.estimate, truth).mean()), inside


def written(answer: Answer) -> str:
    return f"{answer[0]:.2f} dB, coverage {answer[1]:.3f}"


def noise_known_or_not(report: Report, model: certes.Model, x: Tensor, whole: list[Tensor]) -> None:
    H, level = certes.operators.Denoise(SHAPE), 0.05
    y = degrade(x, H, level, seed=0)
    noisy = [p + level * torch.randn(p.shape, generator=_stream(i)) for i, p in enumerate(whole)]
    estimates = [measure_noise(picture[None]) for picture in noisy]
    estimate = NoiseEstimate(
        torch.cat([e.level for e in estimates]), torch.cat([e.deviation for e in estimates])
    )
    known = scored(certes.restore(y, H, model, noise=level).bounds(), x)
    plain = scored(certes.restore(y, H, model, noise=estimate.level).bounds(), x)
    ours = scored(certes.restore(y, H, model, noise=estimate).bounds(), x)
    report.claim(
        f"denoise .05, noise estimated, its error in the samples (level known: {written(known)}; "
        f"estimated, taken as known: {written(plain)})",
        written(ours), "within .2 dB and .02 of the known level",
        known[0] - ours[0] < 0.2 and abs(known[1] - ours[1]) < 0.02,
    )  # fmt: skip


def noise_of_photons(report: Report, model: certes.Model, x: Tensor) -> None:
    H, law = certes.operators.Denoise(SHAPE), SignalNoise(gain=0.02, read=0.02)
    std = (law.gain * x + law.read**2).sqrt()
    y = x + std * torch.stack([torch.randn(SHAPE, generator=_stream(i)) for i in range(len(x))])
    exact = scored(certes.restore(y, H, model, noise=std).bounds(), x)
    ours = scored(certes.restore(y, H, model, noise=law).bounds(), x)
    found = [certes.restore(v[None], H, model, noise=measure_signal_noise(v)) for v in y]
    estimated = _mean([scored(p.bounds(), t[None]) for p, t in zip(found, x, strict=True)])
    level = float(std.square().mean().sqrt())
    flat = scored(certes.restore(y, H, model, noise=level).bounds(), x)
    stable = VarianceStabiliser(law)
    bounds = certes.restore(stable.forward(y), H, model, noise=stable.sigma).bounds()
    back = (stable.inverse(part) for part in (bounds.lower, bounds.estimate, bounds.upper))
    stabilised = scored(Bounds.ordered(*back), x)
    report.claim(
        "noise that grows with the signal (gain .02, read .02), law known, one level for every "
        f"pixel (levels of the true signal: {written(exact)}; law estimated from the crop: "
        f"{written(estimated)}; stabilising transform: {written(stabilised)}; one level: "
        f"{written(flat)})",
        written(ours), "better than one level for all, and than the transform",
        ours[0] > max(flat[0], stabilised[0]),
    )  # fmt: skip


def blur_known_or_not(report: Report, model: certes.Model, x: Tensor, whole: list[Tensor]) -> None:
    ops, width, level = certes.operators, 2.0, 0.02
    y = degrade(x, ops.Blur(SHAPE, ops.gaussian_kernel(width)), level, seed=0)

    def answer(widths: list[float]) -> Answer:
        parts = [
            certes.restore(v[None], ops.Blur(SHAPE, ops.gaussian_kernel(w)), model, noise=level)
            for v, w in zip(y, widths, strict=True)
        ]
        return _mean([scored(p.bounds(), t[None]) for p, t in zip(parts, x, strict=True)])

    widths = []
    for i, picture in enumerate(whole):
        H = ops.Blur(tuple(picture.shape), ops.gaussian_kernel(width))
        seen = H(picture[None]) + level * torch.randn(picture.shape, generator=_stream(i))
        widths.append(float(estimate_blur_width(seen, torch.tensor([level])).sigma))
    known, ours, wrong = (
        answer([width] * len(x)), answer(widths), answer([1.5 * width] * len(x))
    )  # fmt: skip
    report.claim(
        f"deblur 2 px, width estimated from the whole picture ({min(widths):.2f} to "
        f"{max(widths):.2f}; width known: {written(known)}; half as wide again: {written(wrong)})",
        written(ours), "within 1 dB of the known width", known[0] - ours[0] < 1,
    )  # fmt: skip


def colours(report: Report, model: certes.Model, x: Tensor) -> None:
    ops, shape = certes.operators, (3, SIDE, SIDE)
    for name, H, level in (
        ("denoise .1", ops.Denoise(shape), 0.1),
        ("super-resolve x4, .02", ops.SuperResolution(shape, 4), 0.02),
    ):
        y = degrade(x, H, level, seed=0)
        answers = {
            way: scored(certes.restore(y, H, model, noise=level, colours=way).bounds(), x)
            for way in ("opponent", "separate")
        }
        report.claim(
            f"{name}, colour photographs with a grey prior, opponent colours (each channel by "
            f"itself: {written(answers['separate'])})",
            written(answers["opponent"]), "the better of the two",
            answers["opponent"][0] > answers["separate"][0],
        )  # fmt: skip


def _stream(index: int) -> torch.Generator:
    return torch.Generator().manual_seed(1000 + index)


def _mean(answers: list[Answer]) -> Answer:
    return tuple(torch.tensor(answers).mean(0).tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data")
    parser.add_argument("--photo-model", default="photo-grey")
    arguments = parser.parse_args()
    report, model = Report("own_photo"), certes.load("nuclei")
    x, whole = nuclei(arguments.data)
    noise_known_or_not(report, model, x, whole)
    noise_of_photons(report, model, x)
    blur_known_or_not(report, model, x, whole)
    colours(report, certes.load(arguments.photo_model), photographs(arguments.data, 3))
    report.save()


if __name__ == "__main__":
    main()
