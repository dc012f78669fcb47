r"""Is the progressive codec worth its bits? Against the ideal, and against what people use.

    python benchmarks/codec.py

(a) Gaussian pictures, of which the rate-distortion function and the exact denoiser are known: bits
of whole files beside the sum of the steps' KL divergences, and beside what an ideal chain of
infinitely short steps needs for the same error. (b) The bundled model ``nuclei`` on the 128 x 128
centres of the eight bundled test pictures (none used for training): files of certes, JPEG, WebP,
JPEG 2000 and AVIF at the same error, and without loss. Every size is that of the file, header
included; the model, which sender and receiver share, is not counted. (c) 64 x 64 pieces of 100
pictures, without loss, bit by bit, and the seconds that a picture takes.

With ``../shared/data/nuclei/test`` the 100 pictures are its held-out ones; else pieces of the
bundled ones.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import Report
from jaxtyping import Float
from PIL import Image, features
from torch import Tensor

import certes
from certes.data.bundled import bundled_pictures
from certes.data.pictures import find_pictures, read_picture
from certes.diffusion.bases import CosineBasis
from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.residuals import SpectralCovariance
from certes.evaluation.metrics import psnr
from certes.generation import codec
from certes.training.rates import measure_rates

HELD_OUT = Path(__file__).parents[2] / "shared" / "data" / "nuclei" / "test" / "images"
SIDE, SEEN, PIECE, PIECES = 64, 128, 64, 100
TARGET = 1.35
RATES = (0.5, 0.8, 1.2)  # bits per value of Gaussian pictures
BUDGETS = (0.15, 0.3, 0.5)  # bits per pixel of real ones
PEERS = ("JPEG", "WEBP", "JPEG2000", *(("AVIF",) if features.check("avif") else ()))


class Field(Denoiser):
    r"""Gaussian pictures about mid-grey whose power falls as :math:`1 / f^2`: exact, at any size.

    Args:
        side: of the pictures, pixels.
        deviation: of a pixel, image units.
    """

    def __init__(self, side: int, deviation: float = 0.18) -> None:
        f = torch.arange(side, dtype=torch.float64)
        power = 1 / (1 + f[:, None] ** 2 + f**2)
        self.power = (power * deviation**2 / power.mean())[None, None]
        self.basis = CosineBasis()

    def sample(self, count: int, seed: int) -> Float[Tensor, "b 1 h w"]:
        generator = torch.Generator().manual_seed(seed)
        shape = (count, *self.power.shape[1:])
        e = torch.randn(shape, generator=generator, dtype=torch.float64)
        return 0.5 + self.basis.inverse(self.power.sqrt() * e)

    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        noise = sigma.double().reshape(-1, 1, 1, 1) ** 2
        shrink = self.power / (self.power + noise)
        mean = 0.5 + self.basis.inverse(shrink * self.basis.forward(x.double() - 0.5))
        return Denoised(mean.to(x))

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        noise = sigma.double().reshape(-1, 1, 1, 1) ** 2
        one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        return SpectralCovariance(self.power * noise / (self.power + noise), one)

    def ideal_rate(self, mse: float) -> float:
        """Bits per value that an ideal chain needs until the estimate has this error."""
        levels = torch.logspace(-3.5, 1.5, 5000, dtype=torch.float64)[:, None] ** 2
        power = self.power.flatten()
        errors = (power * levels / (power + levels)).mean(dim=1)
        rates = torch.log2(1 + power / levels).mean(dim=1) / 2
        return float(np.interp(mse, errors.numpy(), rates.numpy()))


def gaussian_source(report: Report) -> None:
    """Files of Gaussian pictures at several rates."""
    field = Field(SIDE)
    rates = measure_rates(field, field.sample(16, seed=0))
    pictures = field.sample(3, seed=1).clamp(0, 1).float()
    for rate in RATES:
        rows: list[tuple[float, float, float, float]] = []
        for picture in pictures:
            sent = codec.encode(picture, field, rates=rates, bits_per_pixel=rate, dtype="float32")
            mse = float((sent.estimate - picture).double().square().mean())
            bits = 8 * len(sent.data) / SIDE**2
            rows.append((bits, sent.ideal_bits / SIDE**2, field.ideal_rate(mse), mse))
        bits, ideal, least, mse = np.mean(rows, axis=0)
        report.claim(
            f"Gaussian source, {bits:.3f} bits/dim, error {255 * mse**0.5:.2f} grey levels: bits "
            f"over the sum of KLs, {ideal:.3f} (over an ideal chain's {least:.3f} for that error: "
            f"{bits / least:.2f})",
            round(bits / ideal, 3),
            f"at most {TARGET} above 0.3 bits/dim",
            bits <= TARGET * ideal,
        )


@dataclass(frozen=True)
class Size:
    """A file of a peer: bits per pixel, and the quality setting that gave it."""

    bits: float
    setting: object


def grey_levels(x: Float[Tensor, "1 h w"]) -> Image.Image:
    return Image.fromarray((x[0] * 255).round().to(torch.uint8).numpy())


def saved(image: Image.Image, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def error(data: bytes, image: Image.Image) -> float:
    """PSNR of a file, dB."""
    got, true = (
        np.asarray(i.convert("L"), dtype=float) for i in (Image.open(io.BytesIO(data)), image)
    )
    mse = np.square((got - true) / 255).mean()
    return math.inf if mse == 0 else -10 * math.log10(mse)


def settings_of(kind: str) -> list[dict[str, Any]]:
    """From the smallest file to the largest; the last of WebP and JPEG 2000 is without loss."""
    if kind == "JPEG":
        return [{"quality": q, "optimize": True} for q in range(1, 101)]
    if kind == "WEBP":
        lossy = [{"quality": q, "method": 6} for q in range(1, 101)]
        return [*lossy, {"lossless": True, "quality": 100, "method": 6}]
    if kind == "AVIF":
        return [{"quality": q, "speed": 2} for q in range(30, 101)]
    # Without the box around it: the header counts.
    plain: dict[str, Any] = {"no_jp2": True, "irreversible": True, "quality_mode": "dB"}
    lossy = [{**plain, "quality_layers": [30 + q / 4]} for q in range(120)]
    return [*lossy, {"no_jp2": True}]


def smallest(image: Image.Image, kind: str, least: float) -> Size:
    """The first setting whose PSNR is at least ``least`` (found by bisection)."""
    options = settings_of(kind)
    low, high = 0, len(options) - 1
    while low < high:
        middle = (low + high) // 2
        good = error(saved(image, kind, **options[middle]), image) >= least
        low, high = (low, middle) if good else (middle + 1, high)
    return Size(8 * len(saved(image, kind, **options[low])) / math.prod(image.size), options[low])


def real_pictures(report: Report) -> None:
    """The bundled test pictures at several budgets, and without loss."""
    model = certes.load("nuclei")
    pictures = [centre(p.pixels[:1], SEEN) for p in bundled_pictures()]
    for budget in BUDGETS:
        rows: list[tuple[float, ...]] = []
        for x in pictures:
            sent = codec.encode(x, model, bits_per_pixel=budget)
            got = codec.decode(sent.data, model).estimate
            quality = float(psnr((got[None] * 255).round() / 255, x[None]))
            beside = (smallest(grey_levels(x), kind, quality).bits for kind in PEERS)
            bits = 8 * len(sent.data) / x.numel()
            rows.append((bits, sent.ideal_bits / x.numel(), quality, *beside))
        bits, ideal, quality, *beside = (float(v) for v in np.mean(rows, axis=0))
        named = dict(zip(PEERS, beside, strict=True))
        words = ", ".join(f"{kind} {value:.3f}" for kind, value in named.items())
        report.claim(
            f"nuclei, {quality:.2f} dB: bits per pixel ({words} at that PSNR or just above)",
            round(bits, 3),
            "fewer than JPEG and WebP",
            bits < min(named["JPEG"], named["WEBP"]),
        )
        report.claim(
            f"nuclei, {quality:.2f} dB: bits of the file over the sum of KLs, {ideal:.3f}",
            round(bits / ideal, 3),
            f"at most {TARGET} above 0.3 bits/dim",
            bits <= TARGET * ideal,
        )
    lossless(report, model, pictures)


def lossless(report: Report, model: certes.Model, pictures: list[Tensor]) -> None:
    rows: list[tuple[float, float, float]] = []
    for x in pictures:
        data = codec.encode(x, model).data
        png, webp = (
            saved(grey_levels(x), "PNG", optimize=True),
            saved(grey_levels(x), "WEBP", lossless=True, quality=100, method=6),
        )
        rows.append(tuple(8 * len(file) / x.numel() for file in (data, png, webp)))  # type: ignore
    bits, png, webp = (float(v) for v in np.mean(rows, axis=0))
    report.claim(
        f"nuclei without loss: bits per pixel (PNG {png:.3f}, WebP {webp:.3f})",
        round(bits, 3),
        "fewer than PNG and WebP",
        bits < min(png, webp),
    )


def centre(x: Float[Tensor, "1 h w"], side: int) -> Float[Tensor, "1 side side"]:
    top, left = ((n - side) // 2 for n in x.shape[1:])
    return x[:, top : top + side, left : left + side]


def hundred_pieces() -> list[Float[Tensor, "1 h w"]]:
    """The centres of held-out pictures, or pieces of the bundled ones."""
    if HELD_OUT.is_dir():
        pictures = [read_picture(path).pixels[:1] for path in find_pictures([HELD_OUT])]
        found = [centre(x, PIECE) for x in pictures]
        return found[:PIECES]
    print("../shared/data/nuclei is not there: pieces of the bundled pictures", flush=True)
    tiles = [
        p.pixels[:1].unfold(1, PIECE, PIECE).unfold(2, PIECE, PIECE) for p in bundled_pictures()
    ]
    return [t[:, i, j] for t in tiles for i in range(4) for j in range(4)][:PIECES]


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def bit_by_bit(report: Report) -> None:
    """A hundred real pictures there and back."""
    model, pieces = certes.load("nuclei"), hundred_pieces()
    equal, seconds = 0, np.zeros(2)
    for x in pieces:
        sent, there = timed(lambda x=x: codec.encode(x, model))
        got, back = timed(lambda sent=sent: codec.decode(sent.data, model))
        equal += got.exact and torch.equal(got.estimate, x)
        seconds += (there, back)
    report.claim(
        f"{PIECE} x {PIECE} pieces of {len(pieces)} real pictures without loss: equal bit by bit",
        equal,
        len(pieces),
        equal == len(pieces),
    )
    encoding, decoding = seconds / len(pieces)
    report.claim(
        "seconds for one of them, there and back",
        f"{encoding:.1f} and {decoding:.1f}",
        "told",
        True,
    )


def main() -> None:
    report = Report("codec")
    gaussian_source(report)
    real_pictures(report)
    bit_by_bit(report)
    report.save()


if __name__ == "__main__":
    main()
