r"""The second stage: a diffusion of codes, so that functions can be drawn without a picture.

The codes of the training pictures, in all their orientations, are standardised and a small network
learns to denoise them; a code is drawn first, then a function with that code
(:mod:`certes.function_space.sampling`). The network is a row of dense layers, each of which sees
the noisy code again beside the layer before (the idea of the ``MLPSkipNet`` of Preechakul et al.
2022, arXiv:2111.15640, appendix A) and is told the time. It predicts v of a cosine schedule. Codes
have a mean here; in the original it is set to 0.

Paper: Infinity-Diff (arXiv:2303.18242), section 4.3.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from certes.data.files import write_json
from certes.data.tensors import write_tensors
from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.schedules import Schedule, schedule_from_config
from certes.diffusion.solvers.sampling import ReverseChain, draw_samples
from certes.errors import ModelError
from certes.networks.files import filled, read_json, read_tensors
from certes.networks.unet import TimeEmbedding, timestep_embedding

LATENT, LATENT_CONFIG = "latent.safetensors", "latent.json"

Codes = Float[Tensor, "b z 1 1"]

_SINUSOIDS, _EMBEDDING = 64, 128
_LEAST = 1e-6


@dataclass(frozen=True)
class LatentShape:
    """Shape of a network on codes.

    Args:
        latent: numbers in a code.
        width: of the hidden layers.
        layers: how many.
    """

    latent: int
    width: int = 256
    layers: int = 4

    def __post_init__(self) -> None:
        if min(self.latent, self.width, self.layers) < 1:
            raise ModelError(f"latent: {asdict(self)}; give at least 1 of each")


class LatentNetwork(nn.Module):
    """Dense layers, each with a skip connection to the input.

    Args:
        shape: how many, how wide.
    """

    def __init__(self, shape: LatentShape) -> None:
        super().__init__()
        self.shape = shape
        inputs = [shape.latent] + [shape.width + shape.latent] * (shape.layers - 1)
        self.time = TimeEmbedding(_SINUSOIDS, _EMBEDDING)
        self.layers = nn.ModuleList(nn.Linear(before, shape.width) for before in inputs)
        self.told = nn.ModuleList(nn.Linear(_EMBEDDING, 2 * shape.width) for _ in inputs)
        self.norms = nn.ModuleList(nn.LayerNorm(shape.width) for _ in inputs)
        self.project = nn.Linear(shape.width + shape.latent, shape.latent)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, codes: Codes, time: Float[Tensor, " b"]) -> Codes:
        """What is predicted of noisy standardised codes.

        Args:
            codes: pictures of one pixel, as the training loop hands them out.
            time: what the embedding is computed from.
        """
        code = codes.flatten(1)
        told = F.silu(self.time(timestep_embedding(time, _SINUSOIDS, 0, True).to(code)))
        hidden = code
        for i, (layer, to, norm) in enumerate(zip(self.layers, self.told, self.norms, strict=True)):
            seen = hidden if i == 0 else torch.cat([hidden, code], dim=1)
            scale, shift = to(told).chunk(2, dim=1)
            hidden = F.silu(norm(layer(seen)) * (1 + scale) + shift)
        return self.project(torch.cat([hidden, code], dim=1))[..., None, None]


class LatentPrior(Denoiser):
    r"""What is known of codes: a denoiser of standardised codes, :math:`(z - m) / s`.

    Args:
        net: predicts v.
        schedule: its process.
        mean, deviation: :math:`m` and :math:`s` of each number of a code.
    """

    def __init__(
        self,
        net: LatentNetwork,
        schedule: Schedule,
        mean: Float[Tensor, " z"],
        deviation: Float[Tensor, " z"],
    ) -> None:
        self.net, self.schedule = net, schedule
        self.mean, self.deviation = mean, deviation
        self.parametrisation = Parametrisation("v")

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self.net.project.weight.device

    def __call__(self, x: Codes, sigma: Float[Tensor, " b"]) -> Denoised:
        """``E[z | x]`` of standardised codes with noise of these levels."""
        ends = self.schedule.noise_level(torch.tensor([0.0, 1.0]))
        level = sigma.double().clamp(max(float(ends[0]), _LEAST), float(ends[1]))
        t = self.schedule.time(-2 * level.log())
        x_t = self.schedule.alpha(t).to(x)[:, None, None, None] * x
        with torch.no_grad():
            v = self.net(x_t, (1000 * t).to(x))
        return Denoised(self.parametrisation.x0(x_t, v, self.schedule, t))

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        """Nobody measures it.

        Raises:
            ModelError: always.
        """
        raise ModelError("model: codes are drawn, not restored; their covariance is not known")

    def sample(
        self, count: int, seed: int = 0, chain: ReverseChain | None = None
    ) -> Float[Tensor, "count z"]:
        """Draw codes; code i depends on ``seed`` and i alone.

        Args:
            count: how many.
            seed: of the noise.
            chain: how it is walked; default: :class:`ReverseChain` of 50 steps.
        """
        noise = NoiseSource(stream_seeds(seed, [f"code/{i}" for i in range(count)]), self.device)
        shape = (self.net.shape.latent, 1, 1)
        chain = chain or ReverseChain(steps=50)
        *_, last = draw_samples(self, shape, noise, chain, center=0.0)
        return self.codes(last.x)

    def codes(self, standardised: Codes) -> Float[Tensor, "b z"]:
        """Codes as an encoder gives them."""
        flat = standardised.flatten(1)
        return self.mean.to(flat) + self.deviation.to(flat) * flat

    def standardised(self, codes: Float[Tensor, "b z"]) -> Codes:
        """Codes as the network sees them."""
        return ((codes - self.mean.to(codes)) / self.deviation.to(codes))[..., None, None]


def save_latent(folder: Path, prior: LatentPrior) -> None:
    """Write what is known of codes beside the model whose codes they are.

    Args:
        folder: of the model.
        prior: what is known.
    """
    tensors = {f"net.{name}": value for name, value in prior.net.state_dict().items()}
    tensors |= {"mean": prior.mean, "deviation": prior.deviation}
    write_tensors(folder / LATENT, tensors)
    config = {"shape": asdict(prior.net.shape), "schedule": prior.schedule.to_config()}
    write_json(folder / LATENT_CONFIG, config)


def load_latent(folder: Path, device: torch.device | str = "cpu") -> LatentPrior:
    """Read what :func:`save_latent` wrote.

    Raises:
        ModelError: if it is missing or damaged.
    """
    config, tensors = read_json(folder / LATENT_CONFIG), read_tensors(folder / LATENT)
    try:
        shape = LatentShape(**config["shape"])
        schedule = schedule_from_config(config["schedule"])
        mean, deviation = tensors.pop("mean"), tensors.pop("deviation")
    except (KeyError, TypeError) as error:
        raise ModelError(f"model {folder}: {LATENT_CONFIG} describes no codes ({error})") from error
    state: dict[str, Any] = {name.removeprefix("net."): value for name, value in tensors.items()}
    net = filled(LatentNetwork(shape), folder / LATENT, state)
    return LatentPrior(net.to(device).eval(), schedule, mean.to(device), deviation.to(device))
