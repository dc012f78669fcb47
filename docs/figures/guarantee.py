"""The figure and the tables of the page on the guarantee, from fresh calibrations of known risk.

    python docs/figures/guarantee.py

Images with errors of known law (`certes.intervals.populations.Lognormal`), so that the true risk of
every calibration is known exactly. Takes a minute or two.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from certes.data.files import atomic_path, write_text
from certes.intervals.critical import CriticalValues
from certes.intervals.populations import Lognormal, smallest_size
from certes.intervals.rules import RULES, certify

DOCS = Path(__file__).parents[1]
PAGE, FIGURE = DOCS / "guarantee.md", DOCS / "img" / "guarantee.png"
BEGIN, END = "<!-- tables: docs/figures/guarantee.py -->", "<!-- end of tables -->"

ALPHA = DELTA = 0.1
PICTURES, TRIALS = 200, 2000
SPREAD = 0.3
COUNTS = (30, 50, 100, 200, 500, 1000)
LEVELS = ((0.2, 0.1), (0.1, 0.1), (0.1, 0.05), (0.05, 0.1), (0.05, 0.05), (0.02, 0.1), (0.01, 0.1))
SHOWN = ("wsr", "hb", "hoeffding", "crc")

Sizes = Callable[[Float64[ndarray, "n m"]], float]


def by_pictures(rule: str) -> Sizes:
    """Calibration as it should be: a picture is a unit."""
    return lambda values: certify(CriticalValues.of_images(values), rule, ALPHA, DELTA)


def by_pixels(values: Float64[ndarray, "n m"]) -> float:
    """As published: every pixel is a unit."""
    return certify(CriticalValues.of_images(values.reshape(-1, 1)), "hb", ALPHA, DELTA)


def calibrations(sizes: Sizes, n: int, trials: int, spread: float) -> Float64[ndarray, " trials"]:
    """Interval sizes of fresh calibrations on n pictures each."""
    population, found = Lognormal(spread), np.empty(trials)
    for trial in range(trials):
        found[trial] = sizes(population.draw(np.random.default_rng([n, trial]), n))
    return found


def least_table() -> str:
    """The smallest number of pictures with which anything can be promised."""
    head = "| alpha | delta | " + " | ".join(SHOWN) + " |\n|---" * 1
    lines = [head + "|---" * (1 + len(SHOWN)) + "|"]
    for alpha, delta in LEVELS:
        counts = (RULES[rule].smallest_n(alpha, delta) for rule in SHOWN)
        lines.append(f"| {alpha:g} | {delta:g} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def widths() -> dict[str, list[float]]:
    """Mean interval width over that of somebody who knows the risk, by number of pictures."""
    oracle = smallest_size(Lognormal(SPREAD).risk, ALPHA)
    trials = {n: max(60, 20000 // n) for n in COUNTS}
    return {
        rule: [
            float(calibrations(by_pictures(rule), n, trials[n], SPREAD).mean() / oracle)
            for n in COUNTS
        ]
        for rule in ("wsr", "hb")
    }


def width_table(wide: dict[str, list[float]]) -> str:
    """What more pictures buy."""
    lines = [
        "| pictures | " + " | ".join(map(str, COUNTS)) + " |",
        "|---" * (1 + len(COUNTS)) + "|",
    ]
    for rule, ratios in wide.items():
        lines.append(f"| `{rule}` | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    return "\n".join(lines)


def draw(wide: dict[str, list[float]]) -> dict[str, float]:
    """Write the figure; returns the share of calibrations that broke the promise."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    population = Lognormal(0.5)
    risks = {
        "pictures are the units (certes)": by_pictures("wsr"),
        "pixels are the units (published code)": by_pixels,
    }
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=(1.5, 1))
    broken: dict[str, float] = {}
    for (name, sizes), colour in zip(risks.items(), ("tab:green", "tab:red"), strict=True):
        found = calibrations(sizes, PICTURES, TRIALS, 0.5)
        risk = np.array([population.risk(float(size)) for size in found])
        broken[name] = float((risk > ALPHA).mean())
        label = f"{name}: {broken[name]:.1%} above alpha"
        left.hist(risk, np.linspace(0.06, 0.14, 81), alpha=0.6, color=colour, label=label)
    left.axvline(ALPHA, color="black", linewidth=1)
    left.set(
        xlabel="true risk of the card (share of pixels missed, new pictures)",
        ylabel=f"cards of {TRIALS}",
        title=f"{TRIALS} cards, each from {PICTURES} pictures, alpha = delta = .1",
    )
    left.legend(loc="upper left", fontsize=8, frameon=False)
    left.set_ylim(0, left.get_ylim()[1] * 1.25)
    for (rule, ratios), colour in zip(wide.items(), ("tab:green", "tab:blue"), strict=True):
        right.plot(COUNTS, ratios, "o-", color=colour, label=rule)
    right.set(
        xscale="log", xlabel="calibration pictures", title="Width over the narrowest possible"
    )
    right.set_xticks(COUNTS, [str(n) for n in COUNTS], minor=False)
    right.minorticks_off()
    right.axhline(1, color="black", linewidth=1)
    right.legend(frameon=False)
    figure.tight_layout()
    with atomic_path(FIGURE) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    return broken


def main() -> None:
    """Draw the figure and put the tables between their marks."""
    wide = widths()
    broken = draw(wide)
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    tables = f"{least_table()}\n\n{width_table(wide)}"
    write_text(PAGE, f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.split(END)[1]}")
    print(tables, broken, sep="\n")


if __name__ == "__main__":
    main()
