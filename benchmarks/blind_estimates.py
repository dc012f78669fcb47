"""What is told from a picture alone: its noise, how that grows with the signal, its blur.

    python benchmarks/blind_estimates.py [--data ../shared/data]

Held-out pictures, 40 of fluorescence and 24 photographs in colour. The bundled test pictures, which
were looked at when the constants of the noise's standard error were chosen, are left out.
Everything is stored in 8 bits, clipped to [0, 1], as a user's own picture is. Blurred pictures are
cut from a larger scene, and their noise is estimated as well. Noise levels are compared with
scikit-image's (median of wavelet coefficients); the truth is what was added, so that the grain that
a picture came with counts as error.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from _report import HERE, Report
from jaxtyping import Float
from rich.progress import track
from skimage.restoration import estimate_sigma
from torch import Tensor

from certes.data.bundled import bundled_pictures
from certes.data.pictures import find_pictures, read_picture
from certes.errors import InputError
from certes.restoration.blur_width import estimate_blur_width
from certes.restoration.noise import measure_noise
from certes.restoration.operators import Blur, gaussian_kernel
from certes.restoration.signal_noise import measure_signal_noise

COLLECTIONS = {"fluorescence": "nuclei/test/images", "photographs": "demo24_cc0"}
PICTURES, MARGIN, LARGEST = 40, 14, 512
LEVELS = (0.01, 0.02, 0.05, 0.1)
WIDTHS, BLUR_LEVELS = (1.0, 1.5, 2.0, 3.0), (0.01, 0.02, 0.05)
LAWS = ((0.0025, 0.01), (0.01, 0.01), (0.01, 0.03), (0.0, 0.03))
WITHIN = 0.9  # of the truths, to be within two deviations: 95 % if all were Gaussian


def pictures(folder: Path) -> list[Float[Tensor, "1 c h w"]]:
    """Some of a folder's pictures, evenly spaced in the order of their names."""
    seen = {picture.name for picture in bundled_pictures()}
    paths = [path for path in find_pictures([folder]) if path.stem not in seen]
    chosen = [paths[i * len(paths) // PICTURES] for i in range(PICTURES)]
    if len(paths) <= PICTURES:
        chosen = paths
    return [read_picture(path).pixels[None, :, :LARGEST, :LARGEST] for path in chosen]


def stored(y: Tensor) -> Tensor:
    """What an 8-bit file makes of a picture."""
    return ((y.clamp(0, 1) * 255).round() / 255).float()


def noisy(x: Tensor, deviation: float | Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return x + deviation * torch.randn(x.shape, generator=generator)


def exposed(x: Tensor, gain: float, read: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    photons = gain * torch.poisson(x / gain, generator) if gain else x
    return noisy(photons, read, seed + 1)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Blurred and cut, so that what lies outside is the rest of the scene."""
    y = Blur((x.shape[1], x.shape[2], x.shape[3]), gaussian_kernel(sigma))(x)
    return y[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


@dataclass(frozen=True)
class Estimates:
    """Estimates and stated deviations over the truth."""

    ratio: Tensor
    deviation: Tensor

    def within(self, deviations: float) -> float:
        """The share of truths that lie within so many deviations."""
        return float(((self.ratio - 1).abs() <= deviations * self.deviation).double().mean())

    def __str__(self) -> str:
        return spread(self.ratio)


def spread(ratios: Tensor) -> str:
    """The 10 % quantile, the median and the 90 % quantile."""
    return " ".join(f"{float(ratios.quantile(share)):.2f}" for share in (0.1, 0.5, 0.9))


def joined(rows: list[tuple[float, float]]) -> Estimates:
    ratio, deviation = torch.tensor(rows, dtype=torch.float64).T
    return Estimates(ratio, deviation)


def noise_claims(report: Report, kind: str, clean: list[Tensor]) -> None:
    """Level by level: the ratio, the share within two deviations, and scikit-image's ratio."""
    for level in LEVELS:
        ours: list[tuple[float, float]] = []
        theirs: list[float] = []
        for seed, x in enumerate(track(clean, f"{kind}, noise {level}")):
            y = stored(noisy(x, level, seed))
            found = measure_noise(y)
            ours.append((float(found.level) / level, float(found.deviation) / level))
            rival = estimate_sigma(y[0].double().numpy(), channel_axis=0, average_sigmas=True)
            theirs.append(float(rival) / level)
        estimates = joined(ours)
        error = float((estimates.ratio - 1).abs().median())
        rival_error = float((torch.tensor(theirs) - 1).abs().median())
        report.claim(
            f"{kind}, noise {level}: median error, relative; estimates over truth "
            f"(10 %, median, 90 %) {estimates}; scikit-image's median error {rival_error:.3f}",
            round(error, 3), "less than scikit-image's", error < rival_error,
        )  # fmt: skip
        within = estimates.within(2)
        report.claim(
            f"{kind}, noise {level}: share of truths within two stated deviations "
            f"(median deviation {float(estimates.deviation.median()):.3f} of the truth; "
            f"a tenth of it would give {estimates.within(0.2):.2f})",
            round(within, 3), f"at least {WITHIN}", within >= WITHIN,
        )  # fmt: skip


def signal_claims(report: Report, kind: str, clean: list[Tensor]) -> None:
    """The deviation of the noise, at the brightness of the 95th percentile and of the median."""
    for gain, read in LAWS:
        rows: list[tuple[float, float]] = []
        refused = 0
        for seed, x in enumerate(track(clean, f"{kind}, gain {gain}, read noise {read}")):
            try:
                found = measure_signal_noise(stored(exposed(x, gain, read, seed))[0])
            except InputError:
                refused += 1
                continue
            signals = [float(x.flatten()[::7].quantile(share)) for share in (0.95, 0.5)]
            true = [(gain * signal + read**2) ** 0.5 for signal in signals]
            ours = [(found.gain * signal + found.read**2) ** 0.5 for signal in signals]
            rows.append((ours[0] / true[0], ours[1] / true[1]))
        bright, median = torch.tensor(rows, dtype=torch.float64).T
        error = float((bright - 1).abs().median())
        report.claim(
            f"{kind}, gain {gain}, read noise {read}: median relative error of the noise level of "
            f"bright areas; over truth (10 %, median, 90 %) {spread(bright)}, at the median "
            f"brightness {spread(median)}; refused {refused} of {len(clean)}",
            round(error, 3), "at most .05", error <= 0.05,
        )  # fmt: skip


def blur_claims(report: Report, kind: str, clean: list[Tensor]) -> None:
    """Over all widths, and width by width in words."""
    for level in BLUR_LEVELS:
        parts: dict[float, Estimates] = {}
        for sigma in WIDTHS:
            rows: list[tuple[float, float]] = []
            for seed, x in enumerate(track(clean, f"{kind}, blur {sigma}, noise {level}")):
                y = stored(noisy(blurred(x, sigma), level, seed))
                found = estimate_blur_width(y, measure_noise(y).level)
                rows.append((float(found.sigma) / sigma, float(found.deviation) / sigma))
            parts[sigma] = joined(rows)
        ratios = torch.cat([part.ratio for part in parts.values()])
        deviations = torch.cat([part.deviation for part in parts.values()])
        everything = Estimates(ratios, deviations)
        middle, within = float(ratios.median()), everything.within(2)
        each = ", ".join(f"{sigma:g} px: {part}" for sigma, part in parts.items())
        report.claim(
            f"{kind}, blurred, noise {level}: median width over truth; each width (10 %, median, "
            f"90 %) {each}",
            round(middle, 3), "1 within .1", abs(middle - 1) <= 0.1,
        )  # fmt: skip
        report.claim(
            f"{kind}, blurred, noise {level}: share of true widths within two stated deviations "
            f"(median deviation {float(everything.deviation.median()):.2f} of the truth; a fifth "
            f"of it would give {everything.within(0.4):.2f})",
            round(within, 3), f"at least {WITHIN}", within >= WITHIN,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data")
    arguments = parser.parse_args()
    report = Report("blind_estimates")
    for kind, folder in COLLECTIONS.items():
        clean = pictures(arguments.data / folder)
        noise_claims(report, kind, clean)
        signal_claims(report, kind, clean)
        blur_claims(report, kind, clean)
    report.save()


if __name__ == "__main__":
    main()
