"""From a network to a denoiser: units, noise levels, padding and precision meet here only."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.rates import RateCurve
from certes.diffusion.residuals import ResidualSpectrum, SpectralCovariance
from certes.diffusion.schedules import DiscreteBetas, Schedule
from certes.errors import ModelError
from certes.networks.learned_range import learned_range_variance
from certes.networks.unet import UNet

Head = Literal["residual", "range"]

# exp of more than this is no variance that a normalised residual can have; it only guards overflow.
LOG_VARIANCE_LIMIT = 12.0


def conditioning(schedule: Schedule, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """The number that a network's time embedding is computed from.

    A network of a discrete table was trained on its 0-based indices; ours on ``1000 t``.
    """
    if isinstance(schedule, DiscreteBetas):
        return schedule.index(t).clamp(min=0)
    return 1000 * t


def inference_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the machine computes in it, float32 elsewhere (where it would be emulated)."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():  # pyright: ignore[reportPrivateUsage]
        return torch.bfloat16
    return torch.float32


class NetworkDenoiser(Denoiser):
    r"""A U-Net with a schedule, read as ``E[x_0 | x]`` in image units.

    The network sees :math:`x_t = \alpha z_0 + \sigma e` with :math:`z_0 = (x_0 - center) / scale`.
    Everything around the network is float32 with float64 schedule values.

    Args:
        net: predicts ``channels`` values a pixel and, where it has twice as many outputs, what
            ``head`` says.
        schedule: the process that the network was trained on, in the units of ``z_0``.
        parametrisation: what it predicts.
        center: image value that the network sees as 0.
        scale: image units for one network unit.
        spectrum: measured residual spectrum, if there is one.
        inflation: measured ratio of its errors to its samples' spread.
        head: what the second half of the outputs is: ``residual``, the log-variances of the
            prediction's errors (the default), or ``range``, where between its bounds the variance
            of a reverse step of the table lies (:mod:`certes.networks.learned_range`).
        rates: measured bits that its chains spend, if known; its answers do not depend on them.

    Raises:
        ModelError: if the network's outputs are not one or two for each input channel, or fit no
            such head.
    """

    confined = True

    def __init__(
        self,
        net: UNet,
        schedule: Schedule,
        parametrisation: Parametrisation,
        center: float = 0.5,
        scale: float = 0.5,
        spectrum: ResidualSpectrum | None = None,
        inflation: float = 1.0,
        head: Head | None = None,
        rates: RateCurve | None = None,
    ) -> None:
        self.head = _checked_head(net, schedule, head)
        self.net = net
        self.schedule = schedule
        self.parametrisation = parametrisation
        self.center = center
        self.scale = scale
        self.spectrum = spectrum
        self.inflation = inflation
        self.rates = rates

    @property
    def channels(self) -> int:
        """Colour channels of the pictures."""
        return self.net.config.in_channels

    @property
    def device(self) -> torch.device:
        """Where the network lives; pictures must be there too."""
        return next(self.net.parameters()).device

    def levels(self, sigma: Float[Tensor, " b"]) -> tuple[Tensor, Tensor, Tensor]:
        r"""``(t, alpha, sigma)`` of the schedule at a noise level in image units, float64.

        Levels beyond the schedule's ends are answered at its ends: below the smallest one a picture
        is clean as far as the network can tell.
        """
        ends = self.schedule.noise_level(torch.tensor([0.0, 1.0]))
        low = max(float(ends[0]), 1e-6)
        ratio = (sigma.double() / self.scale).clamp(low, float(ends[1]))
        t = self.schedule.time(-2 * ratio.log())
        return t, self.schedule.alpha(t), self.schedule.sigma(t)

    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        """``E[x_0 | x]`` and, where the network predicts it, the variance of every pixel.

        The answer is part of a graph only if ``x`` asks for gradients.

        Raises:
            ModelError: if the pictures have another number of channels than the network.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
            return self._denoised(x, sigma)

    def _denoised(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        if x.shape[1] != self.channels:
            raise ModelError(
                f"model: trained on {self.channels} channel(s), the picture has {x.shape[1]}; "
                "convert the picture or choose another model"
            )
        t, alpha, noise = self.levels(sigma)
        alpha, noise = (value.to(x.dtype)[:, None, None, None] for value in (alpha, noise))
        x_t = alpha * (x - self.center) / self.scale
        time = conditioning(self.schedule, t).to(torch.promote_types(x.dtype, torch.float32))
        output = evaluate(self.net, x_t, time).to(x.dtype)
        prediction, variance = self.split(output, t)
        z0 = self.parametrisation.x0(x_t, prediction, self.schedule, t)
        mean = self.center + self.scale * z0
        if variance is None:
            return Denoised(mean)
        return Denoised(mean, variance * (self.scale / self._weight(x, t)) ** 2)

    def split(
        self, output: Float[Tensor, "b c_out h w"], t: Float[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"] | None]:
        """The network's answer as a prediction and the variance of its error, in target units.

        Args:
            output: what the network answered.
            t: when; times of the schedule.
        """
        prediction, second = output[:, : self.channels], output[:, self.channels :]
        if self.head is None:
            return prediction, None
        if isinstance(self.schedule, DiscreteBetas) and self.head == "range":
            variance = learned_range_variance(second, self.schedule, t)
            return prediction, variance * self._weight(output, t) ** 2
        return prediction, bounded_exp(second)

    def _weight(self, like: Tensor, t: Float[Tensor, " b"]) -> Float[Tensor, "b 1 1 1"]:
        """How much of ``z_0`` is in the prediction's target."""
        _, b = self.parametrisation.coefficients(self.schedule, t)
        return b.to(like)[:, None, None, None]

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        """``D^(1/2) S D^(1/2)``; see :mod:`certes.diffusion.residuals`.

        Raises:
            ModelError: if the model folder holds no residual spectrum.
        """
        if self.spectrum is None:
            raise ModelError(
                "model: no residual spectrum is stored with it, which this sampler needs; measure "
                "one with certes.training.measure_residuals(model, pictures), or use "
                "covariance='jacobian' (slower) or sampler='ddrm'"
            )
        size = denoised.mean.shape[-2:]
        spectrum = self.spectrum.at(sigma, (size[0], size[1])).to(denoised.mean.dtype)
        variance = denoised.variance
        deviation = spectrum.new_ones(1, 1, 1, 1) if variance is None else variance.sqrt()
        return SpectralCovariance(spectrum, deviation)


def _checked_head(net: UNet, schedule: Schedule, head: Head | None) -> Head | None:
    inputs, outputs = net.config.in_channels, net.config.out_channels
    if outputs not in (inputs, 2 * inputs):
        raise ModelError(
            f"config: out_channels = {outputs} for in_channels = {inputs}; "
            "give as many, or twice as many to predict variances too"
        )
    if head not in (None, *get_args(Head)):
        raise ModelError(f"head: {head!r}; give one of {', '.join(get_args(Head))}")
    if outputs == inputs:
        if head is not None:
            raise ModelError(f"head: {head!r} needs {2 * inputs} outputs, the network has {inputs}")
        return None
    if head == "range" and not isinstance(schedule, DiscreteBetas):
        raise ModelError(
            f"head: 'range' lies between variances of a table, and the {schedule.kind!r} schedule "
            "is none; give 'residual', or a discrete_betas schedule"
        )
    return head or "residual"


def bounded_exp(log_variance: Tensor) -> Tensor:
    """``exp``, safe against the first steps of training and foreign inputs."""
    return log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT).exp()


# Input values that a CPU takes at a time: beyond it, activations leave the cache and the network is
# slower by up to a quarter. A GPU wants to be full.
CACHE_VALUES = 2**16


def evaluate(net: UNet, x: Float[Tensor, "b c h w"], time: Float[Tensor, " b"]) -> Tensor:
    """Run the network in its own dtype on pictures of any size (reflected up to a multiple).

    Raises:
        ModelError: if it has dropout and is in training mode: every call would be another network's
            and an interval would be calibrated for none of them.
    """
    if net.training and net.config.dropout > 0:
        raise ModelError("model: in training mode, with dropout on; call net.eval() first")
    height, width = x.shape[-2:]
    pad_h, pad_w = -height % net.config.multiple, -width % net.config.multiple
    if pad_h or pad_w:
        mode = "reflect" if pad_h < height and pad_w < width else "replicate"
        x = F.pad(x, (0, pad_w, 0, pad_h), mode=mode)
    x = x.to(net.conv_in.weight.dtype).contiguous(memory_format=torch.channels_last)
    count = len(x) if x.is_cuda else max(1, CACHE_VALUES // x[0].numel())
    parts = (slice(first, first + count) for first in range(0, len(x), count))
    return torch.cat([net(x[part], time[part]) for part in parts])[..., :height, :width]
