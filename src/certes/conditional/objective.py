r"""The loss of a conditional estimator: denoising score matching of pairs, block by block.

.. math:: \frac{1}{n} \sum_b \lambda_b(t)\, \| s_b + e_b / \sigma_b(t) \|^2, \qquad n = \sum_b n_b

over the predicted blocks (Batzolis et al. 2021, sections 2.1 to 2.3). Written for errors of the
velocity, of which the score's are :math:`1 / (\sigma_b \sqrt{1 + \rho_b^2})` times as large, so
that nothing is divided by a small noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from certes.conditional.estimators import Estimator
from certes.diffusion.schedules import Schedule, Still
from certes.networks.conditional import Block, ConditionalNetworkDenoiser
from certes.training.levels import LevelMoments
from certes.training.noising import NoisyBatch
from certes.training.objectives import Losses
from certes.training.times import Drawn

Picture = Float[Tensor, "b c h w"]
Scalars = Float[Tensor, " b"]


@dataclass(frozen=True)
class NoisyPairs(NoisyBatch):
    """A batch of pairs, in network units: x's channels first, then y's.

    Args:
        errors: weight of the squared errors of each channel's velocity, broadcastable to
            ``target``.
    """

    errors: Float[Tensor, "b c 1 1"]


def noisy_pairs(
    denoiser: ConditionalNetworkDenoiser,
    estimator: Estimator,
    pair: tuple[Picture, Picture],
    drawn: Drawn,
    generator: torch.Generator,
) -> NoisyPairs:
    """Add noise to pairs in image units.

    Both blocks are at the same time. The noise of x is drawn first, and that of y whether it is
    used or not, so that estimators with the same generator see the same noise.

    Args:
        denoiser: knows the blocks' units.
        estimator: how each of them diffuses.
        pair: pictures and conditions.
        drawn: their times.
        generator: of the noise, on the device of the pictures.
    """
    parts = [
        _noisy(block, schedule, estimator, share, x0, drawn.t, generator)
        for block, schedule, share, x0 in zip(
            (denoiser.x, denoiser.y),
            (estimator.x, estimator.y),
            (1.0, estimator.y_share),
            pair,
            strict=True,
        )
    ]
    predicted = parts if estimator.predicts_y else parts[:1]
    return NoisyPairs(
        z0=torch.cat([part.z0 for part in parts], dim=1),
        x_t=torch.cat([part.x_t for part in parts], dim=1),
        target=torch.cat([part.target for part in predicted], dim=1),
        conditioning=torch.stack([part.conditioning for part in parts], dim=1),
        t=drawn.t,
        weight=drawn.weight,
        errors=torch.cat([part.errors for part in predicted], dim=1),
    )


def _noisy(
    block: Block,
    schedule: Schedule,
    estimator: Estimator,
    share: float,
    x0: Picture,
    t: Scalars,
    generator: torch.Generator,
) -> NoisyPairs:
    noise = torch.randn(x0.shape, generator=generator, device=generator.device).to(x0)
    level = schedule.noise_level(t)
    x = x0 + level.to(x0)[:, None, None, None] * noise
    target = block.velocity(x0, noise, level)
    still = isinstance(schedule, Still)
    weight = torch.zeros_like(t) if still else velocity_weight(estimator, schedule, block, t)
    errors = share * weight.to(x0)[:, None, None, None].expand(-1, x0.shape[1], -1, -1)
    told = block.told(level).to(x0)
    return NoisyPairs(block.normalised(x0), block.seen(x, level), target, told, t, t, errors)


def velocity_weight(estimator: Estimator, schedule: Schedule, block: Block, t: Scalars) -> Scalars:
    r""":math:`\lambda / (\sigma^2 (1 + \rho^2))`: from :math:`\Lambda` to velocities; float64."""
    weight = estimator.weighting(schedule, block, t)
    ratio = block.ratio(schedule.noise_level(t))
    return weight / (schedule.sigma(t) ** 2 * (1 + ratio**2))


class ScoreMatching:
    """The loss of pairs; see above.

    Args:
        denoiser: knows which channels are x's.
    """

    moments: LevelMoments | None = None

    def __init__(self, denoiser: ConditionalNetworkDenoiser) -> None:
        self.denoiser = denoiser

    def __call__(self, output: Float[Tensor, "b c_out h w"], batch: NoisyBatch) -> Losses:
        """The losses of a batch."""
        assert isinstance(batch, NoisyPairs)  # the recipe makes no others
        squared = (output.float() - batch.target) ** 2
        each = (batch.errors * squared).mean(dim=(1, 2, 3))
        channels = self.denoiser.x.channels
        simple = squared[:, :channels].detach().mean(dim=(1, 2, 3))
        return Losses(each, simple, torch.zeros_like(simple))

    def learn(self, t: Scalars, simple: Scalars) -> None:
        """Nothing: the weights are known beforehand."""
