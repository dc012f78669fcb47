"""Calibrate, then see whether the promise is kept: on fresh pictures, again and again.

The samples come from a prior that is wrong on purpose: it takes the pictures to be calmer than they
are, so that raw intervals are too narrow. Calibration knows nothing of that and repairs it. Its
promise is about the choice of the calibration pictures, so it is made sixty times, with other
ones. The rule `wsr` may break it in 10 % of them; `crc`, narrower, promises an average over
calibrations only, and single ones are above it more often.

Cards also warn of pictures that look unlike theirs, falsely in 1 % of calls: it may happen here.

Writes card.json.
"""

from __future__ import annotations

import torch
from torch import Tensor

import certes

ALPHA, DELTA = 0.1, 0.1
SIDE, NOISE = 8, 0.1
CALIBRATED, FRESH, REPEATS = 100, 400, 60


def field(scale: float) -> certes.problems.GaussianProblem:
    """Smooth random pictures about mid-grey."""
    axis = torch.arange(SIDE, dtype=torch.float64)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1)
    squares = (places[:, None] - places[None]).square().sum(dim=2)
    covariance = scale**2 * torch.exp(-squares / 8)
    return certes.problems.GaussianProblem(torch.full((1, SIDE, SIDE), 0.5), covariance)


def part(bounds: certes.Bounds, chosen: Tensor) -> certes.Bounds:
    """The bounds of some of the pictures."""
    return certes.Bounds(bounds.lower[chosen], bounds.estimate[chosen], bounds.upper[chosen])


def repeated(raw: certes.Bounds, truth: Tensor, rule: str) -> list[float]:
    """Risks on fresh pictures, of calibrations on other ones each."""
    risks: list[float] = []
    for seed in range(REPEATS):
        order = torch.randperm(len(truth), generator=torch.Generator().manual_seed(seed))
        used, fresh = order[:CALIBRATED], order[CALIBRATED : CALIBRATED + FRESH]
        some = part(raw, used)
        card = certes.calibrate(some, truth[used], alpha=ALPHA, delta=DELTA, rule=rule, seed=seed)
        card.save("card.json")
        interval = card(part(raw, fresh))
        risks.append(1 - float(interval.contains(truth[fresh]).float().mean()))
    return risks


def main() -> None:
    """Restore many pictures once; calibrate on a hundred of them, again and again."""
    truth = field(0.12).sample(1000, seed=0).float().clamp(0, 1)
    H = certes.operators.Inpaint(
        (1, SIDE, SIDE), certes.operators.random_mask(SIDE, SIDE, missing=0.5, seed=0)
    )
    y = H(truth + NOISE * torch.randn(truth.shape, generator=torch.manual_seed(1)))
    calm = field(0.06).denoiser()
    raw = certes.restore(y, H, calm, noise=NOISE, samples=16, steps=8, seed=2).bounds(ALPHA)
    print(f"raw: {1 - float(raw.contains(truth).float().mean()):.3f} missed, {ALPHA} wanted")
    for rule in ("crc", "wsr"):
        risks = repeated(raw, truth, rule)
        broken = sum(risk > ALPHA for risk in risks) / REPEATS
        average = sum(risks) / REPEATS
        print(f"{rule}: {average:.3f} missed on average, more than {ALPHA} in {broken:.0%}")
    print(certes.Calibration.load("card.json").guarantee)


if __name__ == "__main__":
    main()
