"""From a network to E[x_0 | x]: exact networks give exact denoisers, whatever they predict."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.problems import GaussianProblem
from certes.diffusion.schedules import EDM, VE, VP, Cosine, Schedule, SubVP, linear_betas
from certes.errors import ModelError
from certes.networks import NetworkDenoiser, UNet, UNetConfig
from certes.networks.denoiser import conditioning, evaluate, inference_dtype

CENTER, SCALE = 0.1, 0.2
SCHEDULES = [Cosine(), VP(), SubVP(), VE(0.01, 50.0), EDM(), linear_betas()]
LEVELS = torch.tensor([0.02, 0.05, 0.15], dtype=torch.float64)  # below EDM's end, SCALE


class ExactNet(nn.Module):
    """What a perfectly trained network answers on Gaussian pictures, variance included.

    It works in the network's own units and is told nothing but ``x_t`` and the conditioning.
    """

    def __init__(self, problem: GaussianProblem, schedule: Schedule, prediction: str) -> None:
        super().__init__()
        self.config = SimpleNamespace(in_channels=1, out_channels=2, multiple=1, dropout=0.0)
        self.conv_in = nn.Conv2d(1, 1, 1, dtype=torch.float64)
        self.schedule, self.prediction = schedule, prediction
        mean = (problem.mean - CENTER) / SCALE
        self.latent = GaussianProblem(mean, problem.covariance / SCALE**2)

    def forward(self, x_t: Tensor, time: Tensor) -> Tensor:
        steps = getattr(self.schedule, "steps", None)
        t = (time.double() + 1) / steps if steps else time.double() / 1000
        alpha, sigma = (
            f(t)[:, None, None, None] for f in (self.schedule.alpha, self.schedule.sigma)
        )
        answer = self.latent.denoiser()(x_t / alpha, (sigma / alpha).flatten())
        z0, factor = answer.mean, 1.0
        e = (x_t - alpha * z0) / sigma
        match self.prediction:
            case "x0":
                prediction, factor = z0, 1.0
            case "noise":
                prediction, factor = e, alpha / sigma
            case "score":
                prediction, factor = -e / sigma, alpha / sigma**2
            case _:
                prediction, factor = alpha * e - sigma * z0, sigma + alpha**2 / sigma
        log_variance = (answer.variance * factor**2).log().expand_as(z0)
        return torch.cat([prediction, log_variance], dim=1)


@pytest.fixture(scope="module")
def gaussian() -> GaussianProblem:
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    mean = 0.1 + 0.05 * torch.randn(1, 2, 3, generator=generator, dtype=torch.float64)
    return GaussianProblem(mean, 0.01 * (a @ a.T / 6 + 0.1 * torch.eye(6, dtype=torch.float64)))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
@pytest.mark.parametrize("prediction", ["noise", "x0", "v", "score"])
def test_exact_network_is_an_exact_denoiser(
    gaussian: GaussianProblem, schedule: Schedule, prediction: str
) -> None:
    net = ExactNet(gaussian, schedule, prediction)
    denoiser = NetworkDenoiser(net, schedule, Parametrisation(prediction), CENTER, SCALE)
    x = gaussian.sample(3, seed=0) + LEVELS[:, None, None, None]
    expected = gaussian.denoiser()(x, LEVELS)
    answer = denoiser(x, LEVELS)
    # The conditioning is float32, which moves the noise level by up to 1e-5 of itself.
    torch.testing.assert_close(answer.mean, expected.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(answer.variance, expected.variance.expand_as(x), rtol=2e-4, atol=0)


def test_wrong_parametrisation_shows(gaussian: GaussianProblem) -> None:
    """The tolerance above tells a right reading from a wrong one."""
    net = ExactNet(gaussian, Cosine(), "v")
    x = gaussian.sample(3, seed=0) + LEVELS[:, None, None, None]
    expected = gaussian.denoiser()(x, LEVELS).mean
    for prediction in ("noise", "x0", "score"):
        denoiser = NetworkDenoiser(net, Cosine(), Parametrisation(prediction), CENTER, SCALE)
        assert (denoiser(x, LEVELS).mean - expected).abs().max() > 1e-2


def test_conditioning_is_what_each_kind_was_trained_on() -> None:
    t = torch.tensor([0.001, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(conditioning(Cosine(), t), 1000 * t)
    expected = torch.tensor([0.0, 499.0, 999.0], dtype=torch.float64)  # 0-based indices
    torch.testing.assert_close(conditioning(linear_betas(1000), t), expected)
    assert conditioning(linear_betas(1000), torch.zeros(1)) == 0  # between clean and the first


def test_levels_beyond_the_schedule_are_answered_at_its_ends(gaussian: GaussianProblem) -> None:
    schedule = VE(0.5, 2.0)
    denoiser = NetworkDenoiser(
        ExactNet(gaussian, schedule, "x0"), schedule, Parametrisation("x0"), CENTER, SCALE
    )
    t, alpha, sigma = denoiser.levels(torch.tensor([0.0, 1e-9, 0.2, 1e3]))
    torch.testing.assert_close(t, torch.tensor([0.0, 0.0, 0.5, 1.0], dtype=torch.float64))
    torch.testing.assert_close(sigma, torch.tensor([0.5, 0.5, 1.0, 2.0], dtype=torch.float64))
    assert alpha.dtype == torch.float64


@pytest.mark.parametrize("size", [(16, 16), (15, 17), (1, 5), (33, 2)])
def test_any_picture_size(
    make_denoiser: Callable[..., NetworkDenoiser], size: tuple[int, int]
) -> None:
    denoiser = make_denoiser(out_channels=2)
    x = torch.rand(2, 1, *size)
    answer = denoiser(x, torch.tensor([0.1, 0.2]))
    assert answer.mean.shape == answer.variance.shape == x.shape
    assert bool((answer.variance > 0).all())
    assert bool(torch.isfinite(answer.mean).all())


def test_padding_is_reflection_at_the_far_sides(
    make_denoiser: Callable[..., NetworkDenoiser],
) -> None:
    net, t = make_denoiser(stem=4).net.double(), torch.tensor([500.0])
    x = torch.rand(1, 1, 13, 16, dtype=torch.float64)
    padded = torch.cat([x, x[:, :, [11, 10, 9]]], dim=2)
    with torch.no_grad():
        torch.testing.assert_close(evaluate(net, x, t), net(padded, t)[:, :, :13])


def test_answers_do_not_depend_on_batch_mates(
    make_denoiser: Callable[..., NetworkDenoiser],
) -> None:
    denoiser = make_denoiser()
    denoiser.net.double()
    x, sigma = torch.rand(3, 1, 16, 16).double(), torch.tensor([0.01, 0.1, 1.0]).double()
    together = denoiser(x, sigma).mean
    for i in range(3):
        alone = denoiser(x[i : i + 1], sigma[i : i + 1]).mean
        torch.testing.assert_close(alone, together[i : i + 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bfloat16_stays_inside_the_network(
    make_denoiser: Callable[..., NetworkDenoiser], dtype: torch.dtype
) -> None:
    denoiser, sigma = make_denoiser(out_channels=2), torch.tensor([0.01])
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    exact = denoiser(x, sigma).mean
    denoiser.net.to(torch.bfloat16)
    answer = denoiser(x, sigma)
    assert answer.mean.dtype == answer.variance.dtype == dtype
    # x_t itself never passes through bfloat16 (2^-9 relative) on its way to the estimate: only the
    # network's answer does, which at low noise hardly counts.
    error = (answer.mean - exact).abs().max()
    assert 0 < error < 2**-9 * 0.1


def test_precision_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for supported, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda s=supported: s)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda s=supported: s)
        assert inference_dtype(cpu) == inference_dtype(cuda) == dtype
    assert inference_dtype(torch.device("meta")) == torch.float32


def test_covariance_needs_a_spectrum(make_denoiser: Callable[..., NetworkDenoiser]) -> None:
    x, sigma = torch.rand(2, 1, 12, 10), torch.tensor([0.1, 0.2])
    bare = make_denoiser(spectrum=False)
    with pytest.raises(ModelError, match="measure_residuals"):
        bare.covariance(bare(x, sigma), sigma)
    for outputs in (1, 2):  # without and with a variance of its own
        denoiser = make_denoiser(out_channels=outputs)
        answer = denoiser(x, sigma)
        covariance = denoiser.covariance(answer, sigma)
        assert covariance.apply(x).shape == x.shape
        expected = denoiser.spectrum.at(sigma, (12, 10)).mean(dim=(2, 3), keepdim=True)
        expected = expected if answer.variance is None else expected * answer.variance
        torch.testing.assert_close(covariance.diagonal(), expected)


def test_wrong_channels(make_denoiser: Callable[..., NetworkDenoiser]) -> None:
    with pytest.raises(ModelError, match=r"1 channel.*picture has 3"):
        make_denoiser()(torch.rand(1, 3, 8, 8), torch.tensor([0.1]))
    with pytest.raises(ModelError, match="out_channels = 3"):
        make_denoiser(out_channels=3)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_is_not_left_on(dropout: float) -> None:
    """Without dropout training mode changes nothing, and is not refused."""
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    widths = {"block_out_channels": (8,), "norm_num_groups": 4}
    config = UNetConfig(in_channels=1, out_channels=1, dropout=dropout, **blocks, **widths)
    denoiser = NetworkDenoiser(UNet(config).train(), Cosine(), Parametrisation("x0"))
    x, sigma = torch.rand(1, 1, 8, 8), torch.tensor([0.1])
    if dropout:
        with pytest.raises(ModelError, match=r"training mode, with dropout on; call net.eval\(\)"):
            denoiser(x, sigma)
        denoiser.net.eval()
    assert torch.equal(denoiser(x, sigma).mean, denoiser(x, sigma).mean)
