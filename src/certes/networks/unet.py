r"""The U-Net of DDPM (Ho et al. 2020, appendix B), with the names that diffusers gives its parts.

Configuration keys and parameter names are those of ``diffusers.UNet2DModel``, so that its folders
load and save unchanged. What that class cannot express is added: a pixel-unshuffle stem (``stem``:
a picture of side ``s`` is seen as ``stem**2`` channels of side ``s / stem``, which makes CPU training
and sampling several times faster at equal width).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from certes.errors import ModelError

DOWN_BLOCKS = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D")
UP_BLOCKS = ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D")


@dataclass(frozen=True)
class UNetConfig:
    """Shape of a U-Net. Keys and defaults are those of ``diffusers.UNet2DModel`` except ``stem``.

    ``stem`` is the factor of the pixel-unshuffle before ``conv_in`` and of the pixel-shuffle after
    ``conv_out`` (1: none).
    """

    sample_size: int | None = None
    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownBlock2D",) * 4
    up_block_types: tuple[str, ...] = ("UpBlock2D",) * 4
    block_out_channels: tuple[int, ...] = (128, 256, 256, 256)
    layers_per_block: int = 2
    dropout: float = 0.0
    attention_head_dim: int | None = 8
    norm_num_groups: int = 32
    attn_norm_num_groups: int | None = None
    norm_eps: float = 1e-5
    freq_shift: int = 0
    flip_sin_to_cos: bool = True
    downsample_padding: int = 1
    downsample_type: str = "conv"
    upsample_type: str = "conv"
    resnet_time_scale_shift: str = "default"
    add_attention: bool = True
    mid_block_scale_factor: float = 1.0
    stem: int = 1

    def __post_init__(self) -> None:
        levels = len(self.block_out_channels)
        if len(self.down_block_types) != levels or len(self.up_block_types) != levels:
            raise ModelError(
                f"config: {len(self.down_block_types)} down and {len(self.up_block_types)} up blocks "
                f"for {levels} entries of block_out_channels; all three must be equally long"
            )
        unknown = set(self.down_block_types) - set(DOWN_BLOCKS)
        unknown |= set(self.up_block_types) - set(UP_BLOCKS)
        if unknown:
            raise ModelError(f"config: block types {sorted(unknown)} are not supported")

    @property
    def multiple(self) -> int:
        """Picture sides must be multiples of this."""
        return self.stem * 2 ** (len(self.block_out_channels) - 1)

    @property
    def has_attention(self) -> bool:
        """Whether answers depend on the whole picture at once (so that big pictures need tiles)."""
        blocks = self.down_block_types + self.up_block_types
        return self.add_attention or any(name.startswith("Attn") for name in blocks)

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> UNetConfig:
        """From a ``config.json``; keys that do not change the network are ignored."""
        known = {f.name for f in fields(cls)}
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in known}
        _refuse_unsupported(config)
        return cls(**values)


# Keys of UNet2DModel whose other values would change the network, and the values that do not.
_PLAIN = {
    "act_fn": ("silu", "swish"),
    "time_embedding_type": ("positional",),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "center_input_sample": (False,),
    "mid_block_type": ("UNetMidBlock2D",),
    "time_embedding_dim": (None,),
}


def _refuse_unsupported(config: dict[str, Any]) -> None:
    for key, plain in _PLAIN.items():
        if key in config and config[key] not in plain:
            raise ModelError(f"config: {key} = {config[key]!r} is not supported; expected {plain[0]!r}")


def timestep_embedding(
    t: Float[Tensor, " b"], width: int, freq_shift: float, flip_sin_to_cos: bool
) -> Float[Tensor, "b width"]:
    """Sinusoids of ``t`` at geometrically spaced frequencies (Vaswani et al. 2017)."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * torch.exp(-math.log(10000) * steps / (half - freq_shift))
    parts = (angles.cos(), angles.sin()) if flip_sin_to_cos else (angles.sin(), angles.cos())
    return torch.cat(parts, dim=1)


class TimeEmbedding(nn.Module):
    """Two dense layers on the sinusoids."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


class ResnetBlock(nn.Module):
    """norm, swish, conv, time, norm, swish, dropout, conv, plus a shortcut; may resample by 2."""

    def __init__(
        self, c_in: int, c_out: int, hidden: int, config: UNetConfig, resample: str | None = None
    ) -> None:
        super().__init__()
        self.resample = resample
        self.scale_shift = config.resnet_time_scale_shift == "scale_shift"
        groups, eps = config.norm_num_groups, config.norm_eps
        self.norm1 = nn.GroupNorm(groups, c_in, eps)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time_emb_proj = nn.Linear(hidden, 2 * c_out if self.scale_shift else c_out)
        self.norm2 = nn.GroupNorm(groups, c_out, eps)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = F.silu(self.norm1(x))
        x, h = _resample(x, self.resample), _resample(h, self.resample)
        h = self.conv1(h)
        time = self.time_emb_proj(F.silu(time))[:, :, None, None]
        if self.scale_shift:
            scale, shift = time.chunk(2, dim=1)
            h = F.silu(self.norm2(h) * (1 + scale) + shift)
        else:
            h = F.silu(self.norm2(h + time))
        return self.conv_shortcut(x) + self.conv2(self.dropout(h))


def _resample(x: Tensor, how: str | None) -> Tensor:
    if how == "up":
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    return F.avg_pool2d(x, 2) if how == "down" else x


class AttentionBlock(nn.Module):
    """Self-attention over all positions, with a residual connection."""

    def __init__(self, channels: int, head_dim: int | None, groups: int, eps: float) -> None:
        super().__init__()
        self.heads = channels // (head_dim or channels)
        self.group_norm = nn.GroupNorm(groups, channels, eps)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        tokens = self.group_norm(x).reshape(b, c, height * width).transpose(1, 2)
        q, k, v = (
            layer(tokens).reshape(b, -1, self.heads, c // self.heads).transpose(1, 2)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, -1, c)
        return x + self.to_out[0](mixed).transpose(1, 2).reshape(b, c, height, width)


class Downsample(nn.Module):
    """Stride-2 convolution. Padding 0 is TensorFlow's SAME: one row and column at the far end."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.asymmetric = padding == 0
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.asymmetric else x)


class Upsample(nn.Module):
    """Nearest neighbour by 2, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.conv(_resample(x, "up"))


def _attention(channels: int, config: UNetConfig, groups: int) -> AttentionBlock:
    return AttentionBlock(channels, config.attention_head_dim, groups, config.norm_eps)


def _optional(modules: Sequence[nn.Module]) -> nn.ModuleList | None:
    # Blocks without attention or resampling must not own an empty list: state dicts stay equal.
    return nn.ModuleList(modules) if modules else None


class DownBlock(nn.Module):
    """Residual blocks (each followed by attention if any), then downsampling except at the end."""

    def __init__(
        self, kind: str, c_in: int, c_out: int, hidden: int, config: UNetConfig, last: bool
    ) -> None:
        super().__init__()
        count = config.layers_per_block
        self.resnets = nn.ModuleList(
            ResnetBlock(c_in if i == 0 else c_out, c_out, hidden, config) for i in range(count)
        )
        attends = kind == "AttnDownBlock2D"
        groups = config.norm_num_groups
        self.attentions = _optional([_attention(c_out, config, groups)] * 0 if not attends else
                                    [_attention(c_out, config, groups) for _ in range(count)])
        by_resnet = kind == "ResnetDownsampleBlock2D" or (
            attends and config.downsample_type == "resnet"
        )
        self.downsamplers = _optional([] if last else [
            ResnetBlock(c_out, c_out, hidden, config, "down")
            if by_resnet
            else Downsample(c_out, config.downsample_padding)
        ])

    def forward(self, x: Tensor, time: Tensor, skips: list[Tensor]) -> Tensor:
        for i, resnet in enumerate(self.resnets):
            x = resnet(x, time)
            if self.attentions is not None:
                x = self.attentions[i](x)
            skips.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x, time)
            skips.append(x)
        return x


class UpBlock(nn.Module):
    """Mirror of :class:`DownBlock`: each residual block also sees one stored activation."""

    def __init__(
        self, kind: str, c_prev: int, c_out: int, c_skip: int, hidden: int, config: UNetConfig,
        last: bool,
    ) -> None:
        super().__init__()
        count = config.layers_per_block + 1
        self.resnets = nn.ModuleList(
            ResnetBlock(
                (c_prev if i == 0 else c_out) + (c_skip if i == count - 1 else c_out),
                c_out, hidden, config,
            )
            for i in range(count)
        )
        attends = kind == "AttnUpBlock2D"
        groups = config.norm_num_groups
        self.attentions = _optional(
            [_attention(c_out, config, groups) for _ in range(count)] if attends else []
        )
        by_resnet = kind == "ResnetUpsampleBlock2D" or (attends and config.upsample_type == "resnet")
        self.upsamplers = _optional([] if last else [
            ResnetBlock(c_out, c_out, hidden, config, "up") if by_resnet else Upsample(c_out)
        ])

    def forward(self, x: Tensor, time: Tensor, skips: list[Tensor]) -> Tensor:
        for i, resnet in enumerate(self.resnets):
            x = resnet(torch.cat((x, skips.pop()), dim=1), time)
            if self.attentions is not None:
                x = self.attentions[i](x)
        return x if self.upsamplers is None else self.upsamplers[0](x, time)


class MidBlock(nn.Module):
    """Residual block, attention (if any), residual block."""

    def __init__(self, channels: int, hidden: int, config: UNetConfig) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(channels, channels, hidden, config) for _ in range(2)
        )
        groups = config.attn_norm_num_groups or config.norm_num_groups
        self.attentions = _optional(
            [_attention(channels, config, groups)] if config.add_attention else []
        )

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        x = self.resnets[0](x, time)
        if self.attentions is not None:
            x = self.attentions[0](x)
        return self.resnets[1](x, time)


class UNet(nn.Module):
    """The network. It knows nothing of processes, noise levels or image units."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, hidden = config.block_out_channels, 4 * config.block_out_channels[0]
        area = config.stem**2
        levels = len(widths)
        self.conv_in = nn.Conv2d(config.in_channels * area, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], hidden)
        self.down_blocks = nn.ModuleList(
            DownBlock(kind, widths[max(i - 1, 0)], widths[i], hidden, config, i == levels - 1)
            for i, kind in enumerate(config.down_block_types)
        )
        self.mid_block = MidBlock(widths[-1], hidden, config)
        rev = widths[::-1]
        self.up_blocks = nn.ModuleList(
            UpBlock(
                kind, rev[max(i - 1, 0)], rev[i], rev[min(i + 1, levels - 1)], hidden, config,
                i == levels - 1,
            )
            for i, kind in enumerate(config.up_block_types)
        )
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[0], config.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels * area, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"]
    ) -> Float[Tensor, "b c_out h w"]:
        """Predict whatever the network was trained to predict.

        Args:
            x: network inputs, of the network's dtype; sides are multiples of ``config.multiple``.
            t: what the time embedding is computed from, one number an item.
        """
        config = self.config
        features = timestep_embedding(
            t, config.block_out_channels[0], config.freq_shift, config.flip_sin_to_cos
        )
        time = self.time_embedding(features.to(x.dtype))
        x = self.conv_in(F.pixel_unshuffle(x, config.stem) if config.stem > 1 else x)
        skips = [x]
        for block in self.down_blocks:
            x = block(x, time, skips)
        x = self.mid_block(x, time)
        for block in self.up_blocks:
            x = block(x, time, skips)
        x = self.conv_out(F.silu(self.conv_norm_out(x)))
        return F.pixel_shuffle(x, config.stem) if config.stem > 1 else x


@torch.no_grad()
def initialise(net: UNet) -> None:
    """DDPM's initialisation: uniform fan-average everywhere, zero where a branch ends.

    Source: ``variance_scaling(fan_avg, uniform)``; the last convolution of each residual block, the
    output projection of attention and ``conv_out`` start at zero (1e-10 in the original).
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in net.modules():
        if isinstance(module, ResnetBlock):
            nn.init.zeros_(module.conv2.weight)
        if isinstance(module, AttentionBlock):
            nn.init.zeros_(module.to_out[0].weight)  # pyright: ignore[reportArgumentType]
    nn.init.zeros_(net.conv_out.weight)
