"""certes.restore without an operator: exact posteriors, streams, intervals, errors in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import certes
from certes.conditional.estimators import Estimator, cde, cmde
from certes.conditional.model import ConditionalModel
from certes.conditional.restore import provenance_given
from certes.conditional.tasks import ConditionalTask, Denoising, Inpainting, SuperResolving
from certes.diffusion.denoiser import ConditionalDenoiser
from certes.diffusion.problems import ConditionalGaussian, GaussianProblem
from certes.diffusion.schedules import VE
from certes.errors import CalibrationError, InputError
from certes.restoration.operators import Denoise, SuperResolution

SHAPE = (1, 4, 4)
NOISE = 0.1
X = VE(0.002, 28.0)


def problem() -> GaussianProblem:
    """Pictures whose neighbours are alike."""
    places = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0)).double()
    covariance = 0.04 * torch.exp(-torch.cdist(places, places) / 2)
    return GaussianProblem(torch.full(SHAPE, 0.5, dtype=torch.float64), covariance)


def noisy(noise: float = NOISE) -> ConditionalGaussian:
    return ConditionalGaussian(problem(), Denoise(SHAPE), noise)


def model(
    denoiser: ConditionalDenoiser | None = None,
    estimator: Estimator | None = None,
    task: ConditionalTask | None = None,
    digest: str = "exact",
) -> ConditionalModel:
    """An exact model, of pictures with noise unless another is given."""
    return ConditionalModel(
        "exact",
        noisy().denoiser() if denoiser is None else denoiser,
        Denoising(noise=NOISE) if task is None else task,
        cde(X) if estimator is None else estimator,
        1,
        {},
        digest,
    )


def drawn(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures in [0, 1] and their conditions."""
    x, y = noisy().sample(count, seed)
    return x.clamp(0, 1).float(), y.float()


def misfit(posterior: Any, y: Tensor) -> tuple[float, float]:
    """Of the samples' means, standard errors; of their spread, relative."""
    mean, covariance = problem().posterior(y.double(), Denoise(SHAPE), NOISE)
    spread = covariance.diagonal().sqrt().reshape(SHAPE)
    off = (posterior.mean.double() - mean) / (spread / len(posterior.samples) ** 0.5)
    return float(off.square().mean().sqrt()), float((posterior.std.double() / spread).mean() - 1)


def test_samples_are_those_of_the_posterior() -> None:
    _, y = drawn(2)
    answers = certes.restore(y, model=model(), samples=400, steps=20)
    means, spread = misfit(answers, y)
    assert means < 2
    assert abs(spread) < 0.05
    # Negative control: a model that was trained on conditions with more noise.
    other = certes.restore(y, model=model(noisy(2 * NOISE).denoiser()), samples=400, steps=20)
    means, spread = misfit(other, y)
    assert means > 2
    assert abs(spread) > 0.05


def test_a_smaller_picture_is_a_condition() -> None:
    """Its form decides the size of the answer, and repeats of it are what the model sees."""
    H = SuperResolution(SHAPE, 2, "bicubic")
    repeated = ConditionalGaussian(problem(), lambda x: SuperResolving(factor=2).shown(H(x)), 0.05)
    asked = model(repeated.denoiser(), task=SuperResolving(factor=2))
    x, y = problem().sample(3, 0), H(problem().sample(3, 0))
    answers = certes.restore(y.float(), model=asked, samples=64)
    assert answers.samples.shape == (64, 3, *SHAPE)
    assert (answers.mean - x).square().mean() < 0.7 * x.var()


@pytest.mark.parametrize("policy", ["fixed", "fresh", "path"])
def test_answers_do_not_depend_on_batch_mates(policy: str) -> None:
    asked = model(estimator=cmde(X, 0.3))
    _, y = drawn(3)
    settings: dict[str, Any] = {"model": asked, "samples": 4, "steps": 6, "policy": policy}
    settings |= {"sampler": "ancestral", "seed": 7}
    together = certes.restore(y, **settings).samples
    for i in range(3):
        alone = certes.restore(y[i : i + 1], **settings).samples
        torch.testing.assert_close(alone[:, 0], together[:, i], atol=1e-5, rtol=0)
    one_by_one = certes.restore(y, batch_size=1, **settings).samples
    torch.testing.assert_close(one_by_one, together, atol=1e-5, rtol=0)
    assert not torch.allclose(certes.restore(y, **settings | {"seed": 8}).samples, together)


def test_streamed_samples_have_the_same_bounds() -> None:
    _, y = drawn(2)
    settings: dict[str, Any] = {"model": model(), "samples": 12, "steps": 4, "alpha": 0.2}
    kept = certes.restore(y, **settings)
    streamed = certes.restore(y, keep_samples=False, **settings)
    torch.testing.assert_close(streamed.mean, kept.mean)
    torch.testing.assert_close(streamed.std, kept.std)
    for name in ("lower", "estimate", "upper"):
        one, other = (getattr(p.bounds(0.2), name) for p in (kept, streamed))
        torch.testing.assert_close(one, other)
    assert kept.bounds(0.2).provenance == streamed.bounds(0.2).provenance


def test_every_step_is_told() -> None:
    _, y = drawn(2)
    seen: list[float] = []
    settings: dict[str, Any] = {"samples": 3, "steps": 5, "batch_size": 2}
    posterior = certes.restore(y, model=model(), callback=lambda s: seen.append(s.t), **settings)
    assert len(seen) == 3 * 5
    assert posterior.nfe == 5


def test_intervals_hold_once_calibrated() -> None:
    """Of a model that is too sure of itself: its conditions are noisier than it thinks."""
    sure = model(noisy(NOISE / 3).denoiser(), digest="sure")

    def bounds(y: Tensor) -> Any:
        return certes.restore(y, model=sure, samples=10, steps=8).bounds(0.2)

    x, y = drawn(200)
    card = certes.calibrate(bounds(y), x, alpha=0.2, delta=0.1)
    x, y = drawn(400, seed=1)
    raw = bounds(y)
    assert certes.evaluate(raw, x)["risk"] > 0.3
    assert certes.evaluate(card(raw), x)["risk"] < 0.2
    assert card(raw).guarantee == card.guarantee


def test_a_card_holds_for_one_model_task_and_policy() -> None:
    x, y = drawn(8)
    asked = model(estimator=cmde(X, 0.3))
    few: dict[str, Any] = {"samples": 3, "steps": 3}
    card = certes.calibrate(
        certes.restore(y, model=asked, **few).bounds(0.5), x, alpha=0.5, delta=0.4
    )
    made = provenance_given(asked, None, "fresh")
    assert card.provenance is not None
    for name in ("model", "operator", "noise", "sampler"):
        assert getattr(card.provenance, name) == getattr(made, name)
    assert (card.provenance.steps, card.provenance.samples, card.provenance.alpha) == (3, 3, 0.5)
    assert card(certes.restore(y, model=asked, **few).bounds(0.5)).guarantee
    others: list[tuple[dict[str, Any], str]] = [
        ({"model": model(estimator=cmde(X, 0.3), digest="other")}, "model: 'exact', not 'other'"),
        ({"model": model(estimator=cmde(X, 0.3), task=Denoising(noise=0.2))}, "operator: 'given"),
        ({"policy": "fixed"}, "sampler: 'unipc_3/fresh', not 'unipc_3/fixed'"),
        ({"sampler": "ddim"}, "sampler: 'unipc_3/fresh', not 'ddim/fresh'"),
        ({"steps": 4}, "steps: 3, not 4"),
    ]
    for change, message in others:
        bounds = certes.restore(y, **({"model": asked, **few} | change)).bounds(0.5)
        with pytest.raises(CalibrationError, match=message):
            card(bounds)


def test_policies_are_nothing_to_a_model_of_clean_conditions() -> None:
    assert provenance_given(model(), None, "path") == provenance_given(model(), None, "fixed")
    _, y = drawn(1)
    one, other = (
        certes.restore(y, model=model(), samples=2, steps=3, policy=policy).samples
        for policy in ("path", "fixed")
    )
    assert torch.equal(one, other)


GIVEN = torch.full((1, *SHAPE), 0.5)
ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "operator": ({"operator": Denoise(SHAPE)}, "operator: given, but exact is conditional"),
    "noise": ({"noise": 0.1}, "noise: given, but exact is conditional"),
    "no model": ({"model": None}, "model: none given"),
    "no operator": ({"model": problem().denoiser()}, "operator: none given; only a conditional"),
    "no noise": (
        {"model": problem().denoiser(), "operator": Denoise(SHAPE)},
        "noise: none given; only a conditional",
    ),
    "no batch": ({"y": GIVEN[0]}, r"y: shape \(1, 4, 4\); wanted a batch"),
    "nothing": ({"y": GIVEN[:0]}, "wanted a batch"),
    "integers": ({"y": GIVEN.int()}, "y: torch.int32; wanted float"),
    "holes": ({"y": GIVEN * float("nan")}, "y: not finite; only 'inpaint' marks"),
    "sampler": ({"sampler": "pinned"}, "sampler: 'pinned'; a conditional model takes ancestral"),
    "policy": ({"policy": "fluid"}, "policy: 'fluid'; give one of fixed, fresh, path"),
    "samples": ({"samples": 0}, "samples, batch_size: 0, None; give at least 1"),
    "batch size": ({"batch_size": 0}, "samples, batch_size: 16, 0"),
    "steps": ({"steps": 0}, "steps: 0"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case: str) -> None:
    change, message = ERRORS[case]
    with pytest.raises(InputError, match=message) as caught:
        certes.restore(**({"y": GIVEN, "model": model()} | change))
    assert "\n" not in str(caught.value)


def test_holes_are_what_a_model_of_holes_is_given() -> None:
    class Echo(ConditionalDenoiser):
        """Answers with what it was shown."""

        confined = True

        def __call__(self, x: Tensor, sigma_x: Tensor, y: Tensor, sigma_y: Tensor) -> Any:
            shown.append(y)
            return noisy().denoiser()(x, sigma_x, y[:, :1], sigma_y)

    shown: list[Tensor] = []
    y = GIVEN.clone()
    y[..., 1, 2] = torch.nan
    certes.restore(y, model=model(Echo(), task=Inpainting()), samples=1, steps=1)
    filled, known = shown[0][0]
    assert torch.equal(filled, y[0, 0].nan_to_num(0.0))
    assert torch.equal(known, y[0, 0].isfinite().float())
