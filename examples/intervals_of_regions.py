"""Ask for the mean of a region: the samples know it far better than the intervals of its pixels.

Errors of neighbouring pixels are related, and those of distant ones are not. Samples are whole
pictures and hold both; the interval of each pixel holds neither. What the samples say of the region
is calibrated like everything else, on pictures whose true mean is known.
"""

from __future__ import annotations

import torch

import certes
from certes.intervals.answers import calibrate_answers
from certes.intervals.measures import mean_intensity

SIDE, NOISE = 12, 0.05
CALIBRATED, FRESH = 200, 800


def main() -> None:
    """Restore pictures with holes; measure the mean of a window that the hole cuts."""
    places = torch.cartesian_prod(*[torch.arange(SIDE, dtype=torch.float64)] * 2)
    covariance = 0.12**2 * torch.exp(-torch.cdist(places, places).square() / 8)
    problem = certes.problems.GaussianProblem(torch.full((1, SIDE, SIDE), 0.5), covariance)
    truth = problem.sample(CALIBRATED + FRESH, seed=0).float().clamp(0, 1)
    H = certes.operators.Inpaint(
        (1, SIDE, SIDE), certes.operators.box_mask(SIDE, SIDE, (3, 3, 6, 6))
    )
    y = H(truth + NOISE * torch.randn(truth.shape, generator=torch.manual_seed(1)))
    posterior = certes.restore(y, H, problem.denoiser(), noise=NOISE, samples=32, steps=8, seed=0)

    window = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
    window[..., 2:8, 2:8] = True
    measure = mean_intensity(window)
    values, true = measure.of_samples(posterior.samples), measure(truth)
    card = calibrate_answers(values[:, :CALIBRATED], true[:CALIBRATED], measure, alpha=0.1)
    answers = card(values[:, CALIBRATED:], measure)

    pixels = posterior.bounds(alpha=0.1)
    low, high = measure(pixels.lower)[CALIBRATED:], measure(pixels.upper)[CALIBRATED:]
    inside = answers.contains(true[CALIBRATED:]).mean()
    held = ((low <= true[CALIBRATED:]) & (true[CALIBRATED:] <= high)).mean()
    print(f"from the samples: {answers.width.mean():.4f} wide, {inside:.3f} inside (90 % promised)")
    print(f"from the bounds of the pixels: {(high - low).mean():.4f} wide, {held:.3f} inside")
    print(answers.guarantee)


if __name__ == "__main__":
    main()
