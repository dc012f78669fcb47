"""Likelihoods by probability flow against the closed forms of Gaussian pairs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from certes.conditional.estimators import Estimator, cde, cdiffe, cmde
from certes.conditional.likelihood import conditional_likelihood, joint_likelihood
from certes.conditional.model import ConditionalModel
from certes.conditional.tasks import Paired
from certes.diffusion.denoiser import ConditionalDenoiser, Denoised, JointlyDenoised
from certes.diffusion.problems import ConditionalGaussian
from certes.diffusion.schedules import VE, VP
from certes.errors import InputError, ModelError

from .conftest import pairs

X = VE(0.002, 60.0)


def model_of(problem: ConditionalGaussian, estimator: Estimator) -> ConditionalModel:
    return ConditionalModel("exact", problem.denoiser(), Paired(), estimator, 1, {}, "exact")


def truth(problem: ConditionalGaussian, x: Tensor, y: Tensor, blur: float) -> Tensor:
    """ln p(x | y) of pictures with the noise that the flow leaves, nats."""
    return problem.log_joint(x, blur, y, 0.0) - problem.log_evidence(y)


@pytest.mark.parametrize("x", [X, VP(0.01, 40.0)], ids=["VE", "VP"])
def test_a_cde_knows_the_density_given_y(x: VE | VP) -> None:
    problem = pairs()
    x0, y = problem.sample(6, seed=0)
    found = conditional_likelihood(
        model_of(problem, cde(x)), x0, y, probes=8, tolerance=1e-6, dequantise=False
    )
    nats = -truth(problem, x0, y, found.levels[0]) / x0[0].numel()
    expected = nats / math.log(2) + 8
    assert found.probe_errors is not None
    allowed = 4 * torch.tensor(found.probe_errors) + 2e-3
    errors = (torch.tensor(found.pictures) - expected).abs()
    assert bool((errors <= allowed).all())
    # Negative control: the density without the condition is another one.
    alone = -problem.problem.log_likelihood(x0, found.levels[0]) / x0[0].numel() / math.log(2) + 8
    assert bool(((torch.tensor(found.pictures) - alone).abs() > allowed).any())


@pytest.mark.parametrize("estimator", [cmde(X, 1.0), cdiffe(X)], ids=["CMDE", "CDiffE"])
def test_what_diffuses_y_refuses(estimator: Estimator) -> None:
    problem = pairs()
    x0, y = problem.sample(2, seed=0)
    with pytest.raises(ModelError, match="p\\(x_t \\| y_t\\)"):
        conditional_likelihood(model_of(problem, estimator), x0, y)


def test_unequal_counts() -> None:
    problem = pairs()
    x0, y = problem.sample(3, seed=0)
    with pytest.raises(InputError, match="2 conditions for 3 pictures"):
        conditional_likelihood(model_of(problem, cde(X)), x0, y[:2])


@pytest.mark.parametrize("sigma_y", [60.0, 200.0], ids=["equal speeds", "y faster"])
def test_the_joint_density(sigma_y: float) -> None:
    problem = pairs()
    x0, y = problem.sample(5, seed=1)
    estimator = replace(cdiffe(X), y=VE(0.002, sigma_y))
    found = joint_likelihood(problem.denoiser(), estimator, x0, y, probes=8, tolerance=1e-6)
    first = [float(s.noise_level(1e-5)) for s in (estimator.x, estimator.y)]
    expected = problem.log_joint(x0, first[0], y, first[1])
    allowed = 4 * found.log_density.std(1) / 8**0.5 + 5e-3
    assert bool(((found.log_density.mean(1) - expected).abs() <= allowed).all())


class OneSpeed(ConditionalDenoiser):
    """Negative control: believes that y diffuses as x does."""

    def __init__(self, right: ConditionalDenoiser) -> None:
        self.right = right

    def __call__(self, x: Tensor, sigma_x: Tensor, y: Tensor, sigma_y: Tensor) -> JointlyDenoised:
        return self.right(x, sigma_x, y, sigma_x)


def test_a_denoiser_that_knows_one_speed_is_found_out() -> None:
    problem = pairs()
    x0, y = problem.sample(5, seed=1)
    estimator = replace(cdiffe(X), y=VE(0.002, 600.0))
    wrong = joint_likelihood(OneSpeed(problem.denoiser()), estimator, x0, y, probes=8)
    expected = problem.log_joint(x0, 0.002, y, 0.002)
    assert float((wrong.log_density.mean(1) - expected).abs().mean()) > 0.3


@pytest.mark.parametrize("sigma_y", [0.01, 0.3, 1.0])
def test_a_slow_y_is_an_error_not_a_number(sigma_y: float) -> None:
    problem = pairs()
    x0, y = problem.sample(2, seed=0)
    with pytest.raises(ModelError, match="y's last noise"):
        joint_likelihood(problem.denoiser(), cmde(X, sigma_y), x0, y)


def test_the_refused_number_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """At sigma_y = .3 the prior is wrong by more than the tolerance of the test above."""
    from certes.conditional import likelihood

    monkeypatch.setattr(likelihood, "_check_prior", lambda name, schedule, block: None)
    problem = pairs()
    x0, y = problem.sample(40, seed=0)
    found = joint_likelihood(problem.denoiser(), cmde(X, 0.3), x0, y, probes=4)
    expected = problem.log_joint(x0, 0.002, y, 0.002)
    assert float((found.log_density.mean(1) - expected).mean().abs()) > 0.05


def test_a_clean_y_has_no_joint_flow() -> None:
    problem = pairs()
    x0, y = problem.sample(2, seed=0)
    with pytest.raises(ModelError, match="does not diffuse"):
        joint_likelihood(problem.denoiser(), cde(X), x0, y)


class Silent(ConditionalDenoiser):
    """Estimates no y."""

    def __call__(self, x: Tensor, sigma_x: Tensor, y: Tensor, sigma_y: Tensor) -> JointlyDenoised:
        return JointlyDenoised(Denoised(x))


def test_a_denoiser_without_y() -> None:
    x0, y = pairs().sample(2, seed=0)
    with pytest.raises(ModelError, match="estimates no y"):
        joint_likelihood(Silent(), cdiffe(X), x0, y)
