"""Intervals for measured numbers keep their word, and broken variants are caught."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from certes.errors import CalibrationError, InputError
from certes.intervals import Provenance
from certes.intervals.answers import SCORES, AnswerCalibration, calibrate_answers, smallest_n
from certes.intervals.measures import Measure, mean_intensity
from certes.intervals.probability import binomial_quantile
from certes.problems import GaussianProblem

MADE = Provenance("abc123", "denoise", noise=0.1, samples=16)
ANY = Measure("number", lambda pictures: pictures.mean(dim=(1, 2, 3)).numpy(), 1e-3)
K, ALPHA, DELTA = 16, 0.1, 0.1
REFERENCE = 100_000


def gaussian(
    rng: np.random.Generator, pictures: int, spread: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of samples and truths: exact Gaussian posteriors for a `spread` of 1."""
    mean = rng.standard_normal(pictures)
    deviation = np.exp(0.5 * rng.standard_normal(pictures))
    truth = mean + deviation * rng.standard_normal(pictures)
    return mean + spread * deviation * rng.standard_normal((K, pictures)), truth


def miss_rate(score: str, seed: int, spread: float) -> Callable[[float], float]:
    """Share of new truths outside the interval of a size, from very many of them."""
    values, truth = gaussian(np.random.default_rng(seed), REFERENCE, spread)
    critical = np.sort(SCORES[score].critical(values, truth, ALPHA, ANY.resolution))
    return lambda size: 1 - np.searchsorted(critical, size, side="right") / REFERENCE


def sizes(score: str, n: int, trials: int, spread: float, delta: float | None) -> list[float]:
    rng = np.random.default_rng(n)
    return [
        calibrate_answers(
            *gaussian(rng, n, spread), ANY, alpha=ALPHA, delta=delta, score=score
        ).size
        for _ in range(trials)
    ]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("n", [12, 50])
@pytest.mark.parametrize("spread", [1.0, 0.6])
def test_marginal_coverage_is_neither_too_small_nor_too_large(
    score: str, n: int, spread: float
) -> None:
    """Exactly between 1 - alpha and 1 - alpha + 1 / (n + 1), however bad the sampler is."""
    miss = miss_rate(score, 1, spread)
    risks = np.array([miss(size) for size in sizes(score, n, 1500, spread, None)])
    error = 4 * (risks.std() / math.sqrt(len(risks)) + math.sqrt(0.09 / REFERENCE))
    assert ALPHA - 1 / (n + 1) - error <= risks.mean() <= ALPHA + error


def test_the_same_test_rejects_a_quantile_without_the_extra_picture() -> None:
    """Control: at n = 12 the plain .9 quantile of the scores covers too little."""
    miss, rng = miss_rate("std", 1, 1.0), np.random.default_rng(0)
    risks: list[float] = []
    for _ in range(1500):
        critical = SCORES["std"].critical(*gaussian(rng, 12), ALPHA, ANY.resolution)
        risks.append(miss(float(np.quantile(critical, 1 - ALPHA))))
    error = 4 * (np.std(risks) / math.sqrt(1500) + math.sqrt(0.09 / REFERENCE))
    assert np.mean(risks) > ALPHA + error


def test_the_same_test_rejects_what_a_bad_sampler_says_alone() -> None:
    """Control: order statistics of samples of 0.6 of the spread they should have."""
    assert miss_rate("cqr", 1, 0.6)(0.0) > ALPHA + 0.1
    # Of an exact sampler the extremes of 16 samples miss 2 in 17.
    assert miss_rate("cqr", 1, 1.0)(1e-6) == pytest.approx(2 / 17, abs=0.005)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("n", [30, 100])
def test_a_calibration_is_worse_than_promised_as_seldom_as_promised(score: str, n: int) -> None:
    miss, trials = miss_rate(score, 2, 0.6), 1000
    made = sizes(score, n, trials, 0.6, DELTA)
    failures = sum(miss(size) > ALPHA for size in made)
    most = binomial_quantile(0.999, trials, DELTA)
    assert 0.02 * trials <= failures <= most  # and not vacuous
    # Control: the marginal guarantee does not give this one.
    marginal = sizes(score, n, trials, 0.6, None)
    assert sum(miss(size) > ALPHA for size in marginal) > most


def grouped(
    rng: np.random.Generator, groups: int, each: int = 8
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Pictures of a group share most of their error, which the samples know nothing of."""
    shared = np.repeat(rng.standard_normal(groups), each)
    truth = shared + 0.1 * rng.standard_normal(groups * each)
    values = 0.5 * rng.standard_normal((K, groups * each))
    return values, truth, np.repeat(np.arange(groups), each).tolist()


@pytest.mark.parametrize("delta", [None, DELTA])
def test_groups_are_the_units(delta: float | None) -> None:
    rng, trials = np.random.default_rng(5), 250
    values, truth, _ = grouped(rng, 12_500)
    critical = np.sort(SCORES["std"].critical(values, truth, ALPHA, ANY.resolution))

    def risks(as_groups: bool) -> np.ndarray:
        found: list[float] = []
        for seed in range(trials):
            values, truth, labels = grouped(rng, 40)
            card = calibrate_answers(
                values, truth, ANY, delta=delta, groups=labels if as_groups else None, seed=seed
            )
            assert card.n == (40 if as_groups else 320)
            found.append(1 - np.searchsorted(critical, card.size, side="right") / len(critical))
        return np.array(found)

    sound, broken = risks(as_groups=True), risks(as_groups=False)
    if delta is None:
        assert sound.mean() <= ALPHA + 4 * sound.std() / math.sqrt(trials) + 0.005
        assert sound.mean() < broken.mean()
    else:
        most = binomial_quantile(0.999, trials, DELTA)
        assert (sound > ALPHA).sum() <= most < (broken > ALPHA).sum()


def test_exact_posteriors_of_pictures() -> None:
    """The whole way: pictures, exact posterior samples, mean intensity of a region."""
    side, count = 4, 60
    distance = (torch.arange(16)[:, None] - torch.arange(16)[None]).abs().double()
    covariance = 0.01 * torch.exp(-distance / 3)
    problem = GaussianProblem(torch.full((1, side, side), 0.5), covariance)
    truth, noise = problem.sample(2 * count, seed=0), 0.1
    generator = torch.Generator().manual_seed(1)
    y = truth + noise * torch.randn(truth.shape, generator=generator)
    gain = torch.linalg.solve(covariance + noise**2 * torch.eye(16).double(), covariance).T
    mean = 0.5 + (y.double().flatten(1) - 0.5) @ gain.T
    root = torch.linalg.cholesky(covariance - gain @ covariance)
    drawn = torch.randn(K, 2 * count, 16, generator=generator).double() @ root.T
    samples = (mean + drawn).float().reshape(K, 2 * count, 1, side, side)
    region = torch.zeros(2 * count, 1, side, side).bool()
    region[:, :, :2] = True

    def part(start: int) -> tuple[Measure, np.ndarray, np.ndarray]:
        chosen = slice(start, start + count)
        measure = replace(mean_intensity(region[chosen]), limits=(-math.inf, math.inf))
        return measure, measure.of_samples(samples[:, chosen]), measure(truth[chosen])

    measure, values, known = part(0)
    card = calibrate_answers(values, known, measure, provenance=MADE)
    measure, values, new = part(count)
    answers = card(values, measure, MADE)
    assert 0.8 <= answers.contains(new).mean() < 1
    # Student's t with 15 degrees of freedom: 1.75 standard deviations to each side.
    assert card.size == pytest.approx(1.8, abs=0.5)
    assert answers.guarantee == card.guarantee
    assert answers.width == pytest.approx(2 * card.size * values.std(axis=0, ddof=1))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-5, 5), min_size=K, max_size=K),
    st.floats(-6, 6),
    st.sampled_from(sorted(SCORES)),
)
def test_an_interval_covers_from_its_critical_size_on(
    numbers: list[float], truth: float, name: str
) -> None:
    score, values, y = SCORES[name], np.array(numbers)[:, None], np.array([truth])
    critical = float(score.critical(values, y, ALPHA, ANY.resolution)[0])
    for size, inside in ((critical, True), (critical + 1, True), (critical - 1e-6, False)):
        low, _, high = score.interval(values, size, ALPHA, ANY.resolution)
        if inside or truth != pytest.approx(float(np.median(values)), abs=1e-5):
            assert (low[0] <= truth <= high[0]) == inside or (not inside and size < 0)


def test_sizes_are_order_statistics() -> None:
    values, truth = gaussian(np.random.default_rng(0), 57)
    critical = np.sort(SCORES["std"].critical(values, truth, ALPHA, ANY.resolution))
    marginal = calibrate_answers(values, truth, ANY).size
    assert marginal == pytest.approx(critical[math.ceil(58 * 0.9) - 1], rel=1e-6)
    sure = calibrate_answers(values, truth, ANY, delta=DELTA).size
    assert sure == pytest.approx(critical[binomial_quantile(1 - DELTA, 57, 1 - ALPHA)], rel=1e-6)


@pytest.mark.parametrize(("delta", "wanted"), [(None, 9), (0.1, 22), (0.01, 44)])
def test_too_few_pictures_are_refused(delta: float | None, wanted: int) -> None:
    assert smallest_n(0.1, delta) == wanted
    rng = np.random.default_rng(0)
    with pytest.raises(
        CalibrationError, match=f"{wanted - 1} independent .* at least {wanted} are"
    ):
        calibrate_answers(*gaussian(rng, wanted - 1), ANY, delta=delta)
    assert calibrate_answers(*gaussian(rng, wanted), ANY, delta=delta).n == wanted


def test_limits_cut_intervals() -> None:
    values, truth = gaussian(np.random.default_rng(0), 40)
    share = replace(ANY, limits=(0, 1))
    values, truth = values.clip(0, 1), truth.clip(0, 1)
    answers = calibrate_answers(values, truth, share)(values, share)
    assert answers.lower.min() == 0
    assert answers.upper.max() == 1
    assert (answers.lower <= answers.estimate).all()
    assert (answers.estimate <= answers.upper).all()
    with pytest.raises(
        InputError, match="truth: not everywhere in the limits of the measure, 0 to"
    ):
        calibrate_answers(values, truth + 1, share)


def test_samples_that_agree_are_not_believed_beyond_the_resolution() -> None:
    truth = np.arange(30) / 30
    values = np.zeros((K, 30))
    count = replace(ANY, resolution=0.5)
    answers = calibrate_answers(values, truth, count)(values, count)
    assert answers.width == pytest.approx(2 * truth[math.ceil(31 * 0.9) - 1] * np.ones(30))


def test_guarantees_in_words() -> None:
    values, truth = gaussian(np.random.default_rng(0), 60)
    marginal = calibrate_answers(values, truth, ANY, alpha=0.2)
    assert "contains the true number with probability at least 0.8" in marginal.guarantee
    assert "60 pictures used for calibration" in marginal.guarantee
    sure = calibrate_answers(values, truth, ANY, alpha=0.2, delta=0.05)
    assert sure.guarantee.startswith("With probability at least 0.95 over the choice of the 60 pic")
    assert "no more than 20 % of new pictures" in sure.guarantee
    labels = [i // 2 for i in range(60)]
    both = calibrate_answers(values, truth, ANY, alpha=0.2, groups=labels)
    assert (both.n, both.pictures, both.grouped) == (30, 60, True)
    assert "a picture of a new group" in both.guarantee
    assert "30 groups of pictures" in both.guarantee


@pytest.mark.parametrize("delta", [None, 0.1])
def test_a_card_survives_the_disk(tmp_path: Path, delta: float | None) -> None:
    values, truth = gaussian(np.random.default_rng(0), 60)
    card = calibrate_answers(values, truth, ANY, delta=delta, provenance=MADE)
    card.save(tmp_path / "card.json")
    assert AnswerCalibration.load(tmp_path / "card.json") == card
    content = json.loads((tmp_path / "card.json").read_text())
    assert (content["lambda"], content["guarantee"]) == (card.size, card.guarantee)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"measure": replace(ANY, name="other")}, "measure: 'number', not 'other'"),
        ({"measure": replace(ANY, resolution=1.0)}, "resolution: 0.001, not 1.0"),
        ({"provenance": replace(MADE, noise=0.2)}, "noise: 0.1, not 0.2"),
        ({"provenance": None}, "provenance: .*, not None"),
        ({"drop": 1}, "samples: 16, not 15"),
    ],
)
def test_a_card_holds_for_its_own_kind_only(change: dict[str, object], said: str) -> None:
    values, truth = gaussian(np.random.default_rng(0), 60)
    card = calibrate_answers(values, truth, ANY, provenance=MADE)
    settings = {"measure": ANY, "provenance": MADE, **change}
    values = values[int(settings.pop("drop", 0)) :]  # pyright: ignore[reportArgumentType]
    with pytest.raises(CalibrationError, match=said):
        card(values, **settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"alpha": 1.5}, "alpha: 1.5 is not between 0 and 1"),
        ({"delta": 0.0}, "delta: 0.0 is not between 0 and 1"),
        ({"score": "median"}, "score: 'median' is unknown, known are std, cqr"),
        ({"groups": [1, 2]}, "groups: one label per image is wanted, 2 for 30 images"),
        ({"truth": np.zeros(3)}, "truth: one number per picture is wanted"),
        ({"truth": np.full(30, np.nan)}, "truth: not everywhere in the limits"),
        ({"values": np.zeros((1, 30))}, "values: .samples, pictures. is wanted, with at least 2"),
        ({"values": np.full((4, 30), np.inf)}, "values: some are not finite"),
    ],
)
def test_senseless_arguments(change: dict[str, object], said: str) -> None:
    values, truth = gaussian(np.random.default_rng(0), 30)
    arguments = {"values": values, "truth": truth, "measure": ANY, **change}
    with pytest.raises(InputError, match=said):
        calibrate_answers(**arguments)  # pyright: ignore[reportArgumentType]


def broken(**changes: object) -> str:
    values, truth = gaussian(np.random.default_rng(0), 30)
    card = calibrate_answers(values, truth, ANY)
    content = {"format": "certes answers 1", "lambda": card.size, **card.__dict__}
    return json.dumps({k: v for k, v in {**content, **changes}.items() if v != "gone"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "3",
        broken(format="certes calibration 1"),
        broken(alpha="0.1"),
        broken(alpha=2),
        broken(delta=True),
        broken(**{"lambda": None}),
        broken(**{"lambda": float("nan")}),
        broken(n=31),
        broken(score="median"),
        broken(provenance={"pixels": []}),
        broken(measure="gone"),
    ],
)
def test_a_damaged_card_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(CalibrationError, match="not a readable card of answers") as caught:
        AnswerCalibration.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_undamaged_card_of_the_test_above_is_read(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(broken())
    assert AnswerCalibration.load(tmp_path / "card.json").n == 30
