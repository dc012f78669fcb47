r"""The diffusion autoencoder: a code for a function, read from any of its coordinates.

The encoder sees the clean function at coordinates of its own, :math:`z = E(x_0(c'))`, by the same
way of tokens and a fixed grid as the operator network, which is then told :math:`z`. In training
the code is withheld from a share of the functions, so that one network is a prior of functions and
a decoder of codes.

Paper: Infinity-Diff, section 4.3, after Preechakul et al. 2022 (Diffusion Autoencoders,
arXiv:2111.15640). There only the operator network is averaged over training; here both are, being
one module.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from certes.function_space.config import CODE_CELLS, PLACE_CHANNELS, OperatorConfig
from certes.function_space.coordinates import Lattice, Points, all_points
from certes.function_space.interpolation import grid_shape, to_grid
from certes.function_space.network import OperatorNetwork
from certes.networks.unet import GroupNorm

Tokens = Float[Tensor, "b l c"]

_GROUPS = 16


class Encoder(nn.Module):
    """From values at coordinates to a code.

    Args:
        config: the network's shape.
    """

    def __init__(self, config: OperatorConfig) -> None:
        super().__init__()
        self.config = config
        first = config.encoder[0]
        self.lift = nn.Linear(config.channels, config.width)
        self.mix = nn.Linear(config.width, first)
        widths = (first + PLACE_CHANNELS, *config.encoder)
        self.levels = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=1 if i == 0 else 2, padding=1)
            for i, (before, after) in enumerate(pairwise(widths))
        )
        self.norms = nn.ModuleList(GroupNorm(_GROUPS, width) for width in config.encoder)
        self.code = nn.Conv2d(config.encoder[-1], config.code_channels, 1)

    def forward(self, values: Tokens, points: Points) -> Float[Tensor, "b z"]:
        """The codes of functions.

        Args:
            values: of the functions, network units.
            points: where.
        """
        spacing = self.config.spacing
        shape = grid_shape(points.lattice.extent, spacing, 2 ** (len(self.levels) - 1))
        tokens = self.mix(F.gelu(self.lift(values)))
        nodes, offsets = to_grid(tokens, points.positions, shape, spacing)
        grid = torch.cat([nodes, offsets], dim=1).contiguous(memory_format=torch.channels_last)
        for convolution, norm in zip(self.levels, self.norms, strict=True):
            grid = F.silu(norm(convolution(grid)))
        return F.adaptive_avg_pool2d(self.code(grid), CODE_CELLS).flatten(1)


class DiffusionAutoencoder(nn.Module):
    """An operator network and, where codes have a length, the encoder that tells it codes.

    Args:
        config: the network's shape.
    """

    def __init__(self, config: OperatorConfig) -> None:
        super().__init__()
        self.config = config
        self.operator = OperatorNetwork(config)
        self.encoder = Encoder(config) if config.latent else None

    def forward(
        self, packed: Float[Tensor, "b channels l 1"], told: Float[Tensor, "b 2"]
    ) -> Float[Tensor, "b outputs l 1"]:
        """What the training loop calls: everything that a step needs, in one array.

        Args:
            packed: made by :func:`pack`.
            told: the time, and 1 where the code shall be told, 0 where it is withheld.
        """
        seen, clean = unpack(packed, self.config)
        code = None if clean is None or self.encoder is None else self.encoder(*clean)
        answer = self.operator(*seen, told[:, 0], code, told[:, 1])
        return answer.transpose(1, 2)[..., None]


Function = tuple[Tokens, Points]
"""Values of functions, and where."""


def pack(seen: Function, clean: Function | None) -> Float[Tensor, "b channels l 1"]:
    """Noisy functions and clean ones at other coordinates as one array, values before positions.

    Args:
        seen: noisy values at some pixels.
        clean: what the encoder sees, at as many.
    """
    functions = [seen] if clean is None else [seen, clean]
    parts = [part for values, points in functions for part in (values, points.positions)]
    return torch.cat(parts, dim=2).transpose(1, 2)[..., None]


def unpack(
    packed: Float[Tensor, "b channels l 1"], config: OperatorConfig
) -> tuple[Function, Function | None]:
    """What :func:`pack` put together, of pixels of the training domain."""
    lattice = Lattice(config.domain, config.domain)
    each = torch.split(packed[..., 0].transpose(1, 2), config.channels + 2, dim=2)
    functions = [
        (part[..., : config.channels].contiguous(), _pixels(lattice, part[..., -2:]))
        for part in each
    ]
    return functions[0], functions[1] if len(functions) > 1 else None


def _pixels(lattice: Lattice, positions: Float[Tensor, "b l 2"]) -> Points:
    whole = positions.shape[1] == len(lattice)
    if whole:
        return all_points(lattice, len(positions), positions.device)
    return Points(lattice, positions.float(), lattice.cells(positions))
