r"""The operator network: functions in, functions out, at any coordinates.

.. code-block:: text

    x_t(c) -> lift -> token blocks -> fixed grid -> U-Net -> back to c -> token blocks -> f(c)
                          |__________________ skip ___________________________|

Tokens are compact, (b, l, c): a norm or a dense layer costs what there are points; only
convolutions look at the lattice. The grid has the same nodes however many points there are, so that
the U-Net's cost is fixed and sees the same function at every resolution.

Paper: Infinity-Diff, section 4.2 and figure 4.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from certes.function_space.config import CODE_CELLS, OperatorConfig
from certes.function_space.coordinates import Points
from certes.function_space.interpolation import from_grid, grid_shape, to_grid
from certes.function_space.neighbours import Neighbours, Scattered, neighbours_of
from certes.function_space.sparse_convolution import DepthwiseConvolution, FullConvolution
from certes.networks.unet import TimeEmbedding, UNet, initialise, timestep_embedding

Tokens = Float[Tensor, "b l c"]

_SINUSOIDS, _EMBEDDING = 64, 128


class Modulation(nn.Module):
    """A layer norm whose scale and shift depend on the time and the code.

    Args:
        width: channels of the tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.told = nn.Linear(_EMBEDDING, 2 * width)

    def forward(self, tokens: Tokens, told: Float[Tensor, "b e"]) -> Tokens:
        scale, shift = self.told(F.silu(told))[:, None].chunk(2, dim=2)
        return torch.addcmul(shift, self.norm(tokens), 1 + scale)


class TokenBlock(nn.Module):
    """Convolution among neighbours, then two dense layers at each point, both residual.

    Args:
        config: the network's shape.
    """

    def __init__(self, config: OperatorConfig) -> None:
        super().__init__()
        width = config.width
        kind = DepthwiseConvolution if config.convolution == "depthwise" else FullConvolution
        self.modulate1, self.modulate2 = Modulation(width), Modulation(width)
        self.convolution = kind(width, config.reach)
        self.mix = nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, tokens: Tokens, told: Tensor, neighbours: Neighbours) -> Tokens:
        tokens = tokens + self.mix(self.convolution(self.modulate1(tokens, told), neighbours))
        return tokens + self.contract(F.gelu(self.expand(self.modulate2(tokens, told))))


class OperatorNetwork(nn.Module):
    """Predicts a function of the same coordinates as its input.

    Args:
        config: its shape.
    """

    def __init__(self, config: OperatorConfig) -> None:
        super().__init__()
        self.config = config
        unet = config.grid_unet()
        self.time = TimeEmbedding(_SINUSOIDS, _EMBEDDING)
        self.code = nn.Linear(config.latent, _EMBEDDING) if config.latent else None
        self.lift = nn.Linear(config.channels, config.width)
        self.before = nn.ModuleList(TokenBlock(config) for _ in range(config.blocks))
        self.to_grid = nn.Linear(config.width, unet.out_channels)
        self.unet = UNet(unet)
        self.context = nn.Linear(_EMBEDDING, unet.embedding)
        self.from_grid = nn.Linear(unet.out_channels, config.width)
        self.skip = nn.Linear(2 * config.width, config.width)
        self.after = nn.ModuleList(TokenBlock(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.project = nn.Linear(config.width, config.outputs)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Residual branches and the answer start at zero, as those of the U-Net."""
        initialise(self.unet)
        nn.init.xavier_uniform_(self.unet.conv_out.weight)
        ends = [self.project, *(block.contract for block in self._blocks())]
        for layer in (*ends, *(block.mix for block in self._blocks())):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def _blocks(self) -> list[TokenBlock]:
        return [cast(TokenBlock, block) for block in (*self.before, *self.after)]

    def forward(
        self,
        values: Tokens,
        points: Points,
        time: Float[Tensor, " b"],
        code: Float[Tensor, "b z"] | None = None,
        coded: Float[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b l outputs"]:
        """What the network was trained to predict, at the points.

        Args:
            values: of the functions there.
            points: where.
            time: what the time embedding is computed from.
            code: of each function, if there are codes.
            coded: 1 where the code shall count, 0 where not; default: everywhere.
        """
        if code is not None and coded is not None:
            code = code * coded[:, None]
        told = self._told(time, code, coded, values.dtype)
        # Full kernels know dense lattices only.
        ways = neighbours_of if self.config.convolution == "depthwise" else Scattered
        neighbours = ways(points, self.config.reach)
        tokens = self.lift(values)
        for block in self.before:
            tokens = block(tokens, told, neighbours)
        grid = self._on_grid(tokens, points, time, told, code)
        tokens = self.skip(torch.cat([tokens, self.from_grid(grid)], dim=2))
        for block in self.after:
            tokens = block(tokens, told, neighbours)
        return self.project(self.norm(tokens))

    def _told(
        self, time: Tensor, code: Tensor | None, coded: Tensor | None, dtype: torch.dtype
    ) -> Float[Tensor, "b e"]:
        features = timestep_embedding(time, _SINUSOIDS, 0, True)
        told = self.time(features.to(dtype))
        if self.code is None or code is None:
            return told
        shown = self.code(code.to(dtype))
        return told + (shown if coded is None else shown * coded.to(dtype)[:, None])

    def _on_grid(
        self, tokens: Tokens, points: Points, time: Tensor, told: Tensor, code: Tensor | None
    ) -> Tokens:
        """Global context at the points, by way of the fixed grid."""
        spacing, unet = self.config.spacing, self.unet
        shape = grid_shape(points.lattice.extent, spacing, unet.config.multiple)
        nodes, offsets = to_grid(self.to_grid(tokens), points.positions, shape, spacing)
        shown = torch.cat([nodes, offsets, *self._map(code, nodes)], dim=1)
        # The U-Net may compute in bfloat16; sums over points, and what goes around it, do not.
        precision = unet.conv_in.weight.dtype
        shown = shown.to(precision).contiguous(memory_format=torch.channels_last)
        answer: Tensor = unet(shown, time, self.context(F.silu(told)).to(precision))
        return from_grid(answer.to(nodes), points.positions, spacing)

    def _map(
        self, code: Float[Tensor, "b z"] | None, nodes: Float[Tensor, "b c h w"]
    ) -> list[Float[Tensor, "b zc h w"]]:
        """The code as a map of the domain, at the nodes; zero where there is none."""
        channels = self.config.code_channels
        if not channels:
            return []
        if code is None:
            return [nodes.new_zeros(len(nodes), channels, *nodes.shape[2:])]
        coarse = code.view(-1, channels, CODE_CELLS, CODE_CELLS).to(nodes)
        return [F.interpolate(coarse, nodes.shape[2:], mode="bilinear", align_corners=False)]
