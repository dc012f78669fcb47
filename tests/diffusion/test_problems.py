"""Problems: closed forms against dense formulas, derivatives, integration and sampling."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal

from certes.diffusion.denoiser import Denoised
from certes.diffusion.problems import GaussianProblem, MixtureProblem
from certes.errors import InputError, ModelError

SHAPE = (1, 2, 3)
SIGMA = torch.tensor([0.05, 0.3, 2.0], dtype=torch.float64)
MATRIX = torch.randn(4, 6, generator=torch.Generator().manual_seed(6), dtype=torch.float64)

Problem = GaussianProblem | MixtureProblem


@pytest.fixture(params=["gaussian", "mixture"])
def problem(request: pytest.FixtureRequest) -> Problem:
    return request.getfixturevalue(request.param)


def noisy(problem: Problem) -> torch.Tensor:
    e = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return problem.sample(3, 8) + SIGMA[:, None, None, None] * e


def observe(x: torch.Tensor) -> torch.Tensor:
    """A linear operator whose measurements have a shape of their own."""
    return (x.flatten(1) @ MATRIX.to(x).T).reshape(-1, 2, 2)


def keep(x: torch.Tensor) -> torch.Tensor:
    """The first four pixels."""
    return x.flatten(1)[:, :4]


def dense(problem: Problem, sigma: float = 0.0) -> list[MultivariateNormal]:
    parts = [problem] if isinstance(problem, GaussianProblem) else problem.components
    noise = sigma**2 * torch.eye(6, dtype=torch.float64)
    return [MultivariateNormal(part.mean.flatten(), part.covariance + noise) for part in parts]


def log_density(problem: Problem, x: torch.Tensor, sigma: float) -> torch.Tensor:
    """The log density by torch's own distributions; x is (..., 6)."""
    logs = torch.stack([part.log_prob(x) for part in dense(problem, sigma)], -1)
    if isinstance(problem, GaussianProblem):
        return logs[..., 0]
    return (logs + problem.weights.log()).logsumexp(-1)


@pytest.mark.parametrize("sigma", [0.0, 0.4])
def test_log_likelihood(problem: Problem, sigma: float) -> None:
    x = noisy(problem)
    expected = log_density(problem, x.flatten(1), sigma)
    torch.testing.assert_close(problem.log_likelihood(x, sigma), expected, rtol=1e-10, atol=1e-10)


def test_every_picture_may_have_its_own_noise(problem: Problem) -> None:
    x = noisy(problem)
    alone = [problem.log_likelihood(x[i : i + 1], float(SIGMA[i])) for i in range(3)]
    torch.testing.assert_close(problem.log_likelihood(x, SIGMA), torch.cat(alone))
    together = problem.denoiser()(x, SIGMA).mean
    for i in range(3):
        one = problem.denoiser()(x[i : i + 1], SIGMA[i : i + 1]).mean
        torch.testing.assert_close(together[i : i + 1], one)


def test_the_denoiser_is_the_gradient_of_the_likelihood(problem: Problem) -> None:
    """Tweedie: mean x + sigma^2 grad log p, covariance sigma^2 (I + sigma^2 hess log p)."""
    x = noisy(problem)
    denoised = problem.denoiser()(x, SIGMA)
    covariance = problem.denoiser().covariance(denoised, SIGMA)
    for i, sigma in enumerate(SIGMA.tolist()):

        def density(flat: torch.Tensor, sigma: float = sigma) -> torch.Tensor:
            return log_density(problem, flat, sigma)

        flat = x[i].flatten()
        gradient = torch.autograd.functional.jacobian(density, flat)
        hessian = torch.autograd.functional.hessian(density, flat)
        mean = flat + sigma**2 * gradient
        matrix = sigma**2 * (torch.eye(6, dtype=torch.float64) + sigma**2 * hessian)
        torch.testing.assert_close(denoised.mean[i].flatten(), mean, rtol=1e-8, atol=1e-9)
        assert denoised.variance is not None
        variance = denoised.variance[i].flatten()
        torch.testing.assert_close(variance, matrix.diagonal(), rtol=1e-7, atol=1e-9)
        units = torch.eye(6, dtype=torch.float64).reshape(6, 1, *SHAPE).expand(-1, 3, *SHAPE)
        columns = torch.stack([covariance.apply(unit)[i].flatten() for unit in units], dim=1)
        torch.testing.assert_close(columns, matrix, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(covariance.diagonal()[i].flatten(), variance)


@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_gaussian_posterior_in_information_form(gaussian: GaussianProblem, noise: float) -> None:
    y = observe(gaussian.sample(2, 1)) + noise
    mean, covariance = gaussian.posterior(y, observe, noise)
    prior = gaussian.covariance.inverse()
    expected = (prior + MATRIX.T @ MATRIX / noise**2).inverse()
    torch.testing.assert_close(covariance, expected, rtol=1e-8, atol=1e-12)
    pulled = prior @ gaussian.mean.flatten() + y.flatten(1) @ MATRIX / noise**2
    torch.testing.assert_close(mean.flatten(1), pulled @ expected, rtol=1e-8, atol=1e-10)
    assert mean.shape == (2, *SHAPE)


def test_noiseless_measurements_are_reproduced(problem: Problem) -> None:
    y = observe(problem.sample(2, 1))
    if isinstance(problem, GaussianProblem):
        means, covariances = problem.posterior(y, observe, 0.0)
        covariances = covariances[None]
    else:
        known = problem.posterior(y, observe, 0.0)
        means, covariances = known.means.flatten(0, 1), known.covariances
        y = y.repeat_interleave(3, 0)
    torch.testing.assert_close(observe(means), y, rtol=1e-9, atol=1e-10)
    assert (MATRIX @ covariances @ MATRIX.T).abs().max() < 1e-14


def test_redundant_noiseless_measurements_are_no_trouble(gaussian: GaussianProblem) -> None:
    def twice(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([keep(x), keep(x)], 1)

    x = gaussian.sample(2, 1)
    once_mean, once_covariance = gaussian.posterior(keep(x), keep, 0.0)
    mean, covariance = gaussian.posterior(twice(x), twice, 0.0)
    torch.testing.assert_close(mean, once_mean, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(covariance, once_covariance, rtol=1e-9, atol=1e-12)


def test_mixture_posterior_by_importance_sampling(mixture: MixtureProblem) -> None:
    """Prior samples weighted by the likelihood of the measurement, for a broad measurement."""
    noise = 0.5
    y = observe(mixture.sample(1, 12))
    x = mixture.sample(200_000, 13)
    log_weight = -((observe(x) - y) ** 2).sum((1, 2)) / (2 * noise**2)
    weight = log_weight.softmax(0)
    error = float((weight**2).sum().sqrt())  # of a mean, in units of the spread
    known = mixture.posterior(y, observe, noise)
    mean = (weight[:, None] * x.flatten(1)).sum(0)
    deviation = x.flatten(1) - mean
    covariance = deviation.T @ (weight[:, None] * deviation)
    spread = covariance.diagonal().max().sqrt()
    assert error < 0.01
    assert (known.mean().flatten() - mean).abs().max() < 5 * error * spread
    assert (known.covariance()[0] - covariance).abs().max() < 10 * error * spread**2


def test_mixture_posterior_by_bayes_rule(mixture: MixtureProblem) -> None:
    """log posterior - log prior - log likelihood is the same at every picture."""
    noise, y = 0.1, observe(mixture.sample(1, 12))
    known = mixture.posterior(y, observe, noise)
    posterior = MixtureProblem(known.weights[0], known.means[0], known.covariances)
    x = known.mean() + 0.05 * mixture.sample(20, 13)
    fit = -((observe(x) - y) ** 2).sum((1, 2)) / (2 * noise**2)
    evidence = mixture.log_likelihood(x) + fit - posterior.log_likelihood(x)
    torch.testing.assert_close(evidence, evidence[:1].expand(20), rtol=1e-8, atol=1e-8)


def test_posterior_samples_have_the_posterior_moments(mixture: MixtureProblem) -> None:
    noise, count, y = 0.3, 20_000, observe(mixture.sample(2, 3))
    known = mixture.posterior(y, observe, noise)
    samples = mixture.posterior_sample(y, observe, noise, count, seed=4)
    assert samples.shape == (count, 2, *SHAPE)
    for i in range(2):
        found = samples[:, i].flatten(1)
        spread = known.covariance()[i].diagonal().sqrt()
        bias = (found.mean(0) - known.mean()[i].flatten()).abs() / spread
        assert bias.max() < 5 / count**0.5
        difference = (found.T.cov() - known.covariance()[i]) / torch.outer(spread, spread)
        assert difference.abs().max() < 10 / count**0.5
    again = mixture.posterior_sample(y[:1], observe, noise, count, seed=4)
    torch.testing.assert_close(again[:, 0], samples[:, 0])


def test_samples_have_the_moments_of_the_problem(problem: Problem) -> None:
    count = 20_000
    found = problem.sample(count, 0).flatten(1)
    everything = torch.tensor([[0.0]], dtype=torch.float64)
    if isinstance(problem, GaussianProblem):
        mean, covariance = problem.mean.flatten(), problem.covariance
    else:
        prior = problem.posterior(everything, lambda x: 0 * x[:, :1, 0, 0], 1.0)
        torch.testing.assert_close(prior.weights[0], problem.weights)
        mean, covariance = prior.mean().flatten(), prior.covariance()[0]
    spread = covariance.diagonal().sqrt()
    assert ((found.mean(0) - mean) / spread).abs().max() < 5 / count**0.5
    difference = (found.T.cov() - covariance) / torch.outer(spread, spread)
    assert difference.abs().max() < 10 / count**0.5
    assert torch.equal(problem.sample(2, 0), problem.sample(2, 0))
    assert not torch.equal(problem.sample(2, 0), problem.sample(2, 1))


def test_answers_come_in_the_precision_of_the_question(problem: Problem) -> None:
    x, sigma = noisy(problem).float(), SIGMA.float()
    denoised = problem.denoiser()(x, sigma)
    assert denoised.mean.dtype == torch.float32
    assert denoised.variance is not None
    assert denoised.variance.dtype == torch.float32
    assert problem.denoiser().covariance(denoised, sigma).apply(x).dtype == torch.float32
    assert problem.log_likelihood(x, 0.1).dtype == torch.float32
    exact = problem.denoiser()(x.double(), sigma.double()).mean
    torch.testing.assert_close(denoised.mean, exact.float(), rtol=1e-6, atol=1e-7)


def test_the_mixture_covariance_needs_the_mixture_answer(mixture: MixtureProblem) -> None:
    with pytest.raises(ModelError, match="denoised"):
        mixture.denoiser().covariance(Denoised(noisy(mixture)), SIGMA)


@pytest.mark.parametrize(
    "covariance",
    [torch.eye(5), -torch.eye(6), torch.eye(6) + torch.ones(6, 6).triu(1)],
    ids=["size", "negative", "asymmetric"],
)
def test_what_is_no_covariance_is_refused(covariance: torch.Tensor) -> None:
    with pytest.raises(InputError, match="covariance"):
        GaussianProblem(torch.zeros(SHAPE), covariance)


def test_single_precision_covariances_are_accepted() -> None:
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    problem = GaussianProblem(torch.zeros(SHAPE), x @ x.T)  # rank 3
    assert (problem.eigenvalues >= 0).all()


@pytest.mark.parametrize("weights", [[1.0], [1.0, -0.1], [0.0, 0.0]])
def test_impossible_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(InputError, match="weights"):
        MixtureProblem(torch.tensor(weights), torch.zeros(2, *SHAPE), torch.eye(6).expand(2, 6, 6))


def test_negative_noise_is_refused(gaussian: GaussianProblem) -> None:
    with pytest.raises(InputError, match="noise"):
        gaussian.posterior(keep(gaussian.sample(1, 0)), keep, -0.1)
