"""The U-Net of DDPM (Ho et al. 2020, appendix B), with the names that diffusers gives its parts.

Parameter names are those of ``diffusers.UNet2DModel``, so that its folders load and save unchanged;
:mod:`certes.networks.config` says what is added. The one addition with a body here is the stem: a
picture of side ``s`` is seen as ``stem**2`` channels of side ``s / stem``, which makes training and
sampling on a CPU several times faster at equal width.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from certes.errors import ModelError
from certes.networks.config import UNetConfig
from certes.networks.cpu_kernels import Dropout, attend, upsampled_conv

_MANY_PIXELS = 1024

Network = TypeVar("Network", bound=nn.Module)


def timestep_embedding(
    t: Float[Tensor, " b"], width: int, freq_shift: float, flip_sin_to_cos: bool
) -> Float[Tensor, "b width"]:
    """Sinusoids of ``t`` at geometrically spaced frequencies (Vaswani et al. 2017)."""
    half = width // 2
    steps = torch.arange(half, dtype=t.dtype, device=t.device)
    angles = t[:, None] * torch.exp(-math.log(10000) * steps / (half - freq_shift))
    parts = (angles.cos(), angles.sin()) if flip_sin_to_cos else (angles.sin(), angles.cos())
    return torch.cat(parts, dim=1)


class GroupNorm(nn.GroupNorm):
    """The same as torch's; on a CPU sooner, and blind to who else is in the batch.

    Torch's kernel for channels-last bfloat16 takes three to eight times as long as that for float32
    (with both conversions): backward always, forward where there are fewer pixels than it calls
    many. Where there are many it deals all pixels of a batch out to its threads, so that a picture
    may be summed in one piece or in two depending on how many others there are, and is rounded
    otherwise. Answers must not depend on that: pictures are normalised one by one.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not input.is_cpu:
            return super().forward(input)
        many = input.shape[-2] * input.shape[-1] >= _MANY_PIXELS
        if input.dtype == torch.bfloat16 and (input.requires_grad or not many):
            weight, bias = self.weight.float(), self.bias.float()
            return F.group_norm(input.float(), self.num_groups, weight, bias, self.eps).bfloat16()
        if input.requires_grad or not many or len(input) == 1:
            return super().forward(input)
        one_by_one = (super(GroupNorm, self).forward(input[i : i + 1]) for i in range(len(input)))
        return torch.cat(list(one_by_one))


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
        self, c_in: int, c_out: int, config: UNetConfig, resample: str | None = None
    ) -> None:
        super().__init__()
        self.resample = resample
        self.scale_shift = config.resnet_time_scale_shift == "scale_shift"
        groups, eps = config.norm_num_groups, config.norm_eps
        self.norm1 = GroupNorm(groups, c_in, eps)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time_emb_proj = nn.Linear(config.embedding, c_out * (1 + self.scale_shift))
        self.norm2 = GroupNorm(groups, c_out, eps)
        self.dropout = Dropout(config.dropout)
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
    """Self-attention over all positions, with a residual connection.

    Raises:
        ModelError: if the heads do not share the channels evenly.
    """

    def __init__(self, channels: int, head_dim: int, groups: int | None, eps: float) -> None:
        super().__init__()
        if channels % head_dim:
            raise ModelError(
                f"config: attention_head_dim = {head_dim} does not divide {channels} channels"
            )
        self.heads = channels // head_dim
        self.group_norm = GroupNorm(groups, channels, eps) if groups else nn.Identity()
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        # In the channels-last layout, pixels are tokens as they lie.
        tokens = self.group_norm(x).permute(0, 2, 3, 1).reshape(b, height * width, c)
        q, k, v = (
            layer(tokens).reshape(b, -1, self.heads, c // self.heads).transpose(1, 2)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        mixed = attend(q, k, v).transpose(1, 2).reshape(b, -1, c)
        return x + self.to_out[0](mixed).reshape(b, height, width, c).permute(0, 3, 1, 2)


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
        return upsampled_conv(x, self.conv)


def _attentions(count: int, channels: int, level: int, config: UNetConfig) -> nn.ModuleList:
    head_dim, groups, eps = config.head_dim(level), config.norm_num_groups, config.norm_eps
    return nn.ModuleList(AttentionBlock(channels, head_dim, groups, eps) for _ in range(count))


class DownBlock(nn.Module):
    """Residual blocks (each followed by attention if any), then downsampling except at the end."""

    def __init__(self, level: int, config: UNetConfig) -> None:
        super().__init__()
        kind, count = config.down_block_types[level], config.layers_per_block
        widths, attends = config.block_out_channels, kind == "AttnDownBlock2D"
        c_in, c_out = widths[max(level - 1, 0)], widths[level]
        self.resnets = nn.ModuleList(
            ResnetBlock(c_in if i == 0 else c_out, c_out, config) for i in range(count)
        )
        # Absent parts are None, not empty lists: None has no place in a state dict.
        self.attentions = _attentions(count, c_out, level, config) if attends else None
        self.downsamplers = None
        if level < len(widths) - 1:
            self.downsamplers = nn.ModuleList([_downsampler(kind, c_out, config)])

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


def _downsampler(kind: str, channels: int, config: UNetConfig) -> nn.Module:
    attends = kind == "AttnDownBlock2D"
    if kind == "ResnetDownsampleBlock2D" or (attends and config.downsample_type == "resnet"):
        return ResnetBlock(channels, channels, config, "down")
    return Downsample(channels, config.downsample_padding)


class UpBlock(nn.Module):
    """Mirror of :class:`DownBlock`: each residual block also sees one stored activation."""

    def __init__(self, level: int, config: UNetConfig) -> None:
        super().__init__()
        kind, count = config.up_block_types[-1 - level], config.layers_per_block + 1
        widths, attends = config.block_out_channels, kind == "AttnUpBlock2D"
        c_out = widths[level]
        before = [widths[min(level + 1, len(widths) - 1)]] + [c_out] * (count - 1)
        skipped = [c_out] * (count - 1) + [widths[max(level - 1, 0)]]
        self.resnets = nn.ModuleList(
            ResnetBlock(a + b, c_out, config) for a, b in zip(before, skipped, strict=True)
        )
        self.attentions = _attentions(count, c_out, level, config) if attends else None
        self.upsamplers = None
        if level > 0:
            self.upsamplers = nn.ModuleList([_upsampler(kind, c_out, config)])

    def forward(self, x: Tensor, time: Tensor, skips: list[Tensor]) -> Tensor:
        for i, resnet in enumerate(self.resnets):
            x = resnet(torch.cat((x, skips.pop()), dim=1), time)
            if self.attentions is not None:
                x = self.attentions[i](x)
        return x if self.upsamplers is None else self.upsamplers[0](x, time)


def _upsampler(kind: str, channels: int, config: UNetConfig) -> nn.Module:
    attends = kind == "AttnUpBlock2D"
    if kind == "ResnetUpsampleBlock2D" or (attends and config.upsample_type == "resnet"):
        return ResnetBlock(channels, channels, config, "up")
    return Upsample(channels)


class MidBlock(nn.Module):
    """Residual block, attention (if any), residual block."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        channels, eps = config.block_out_channels[-1], config.norm_eps
        self.resnets = nn.ModuleList(ResnetBlock(channels, channels, config) for _ in range(2))
        groups = config.attn_norm_num_groups
        # With scale and shift, diffusers normalises here only if told the number of groups.
        if groups is None and config.resnet_time_scale_shift == "default":
            groups = config.norm_num_groups
        self.attentions = None
        if config.add_attention:
            attention = AttentionBlock(channels, config.head_dim(-1), groups, eps)
            self.attentions = nn.ModuleList([attention])

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        x = self.resnets[0](x, time)
        if self.attentions is not None:
            x = self.attentions[0](x)
        return self.resnets[1](x, time)


class UNet(nn.Module):
    """The network. It knows nothing of processes, noise levels or image units.

    Raises:
        ModelError: for a configuration that makes no network.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        try:
            self._build(config)
        except (TypeError, ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
            raise ModelError(f"config: makes no network ({error})") from error

    def _build(self, config: UNetConfig) -> None:
        width, area = config.block_out_channels[0], config.stem**2
        levels = range(len(config.block_out_channels))
        self.conv_in = nn.Conv2d(config.in_channels * area, width, 3, padding=1)
        self.time_embedding = TimeEmbedding(config.sinusoids, config.embedding)
        self.level_embeddings = nn.ModuleList(
            TimeEmbedding(config.sinusoids, config.embedding)
            for _ in range(config.noise_levels - 1)
        )
        self.down_blocks = nn.ModuleList(DownBlock(level, config) for level in levels)
        self.mid_block = MidBlock(config)
        self.up_blocks = nn.ModuleList(UpBlock(level, config) for level in reversed(levels))
        self.conv_norm_out = GroupNorm(config.norm_num_groups, width, config.norm_eps)
        self.conv_out = nn.Conv2d(width, config.out_channels * area, 3, padding=1)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        t: Float[Tensor, " b *levels"],
        context: Float[Tensor, "b embedding"] | None = None,
    ) -> Float[Tensor, "b c_out h w"]:
        """Predict whatever the network was trained to predict.

        Args:
            x: network inputs, of the network's dtype; sides are multiples of ``config.multiple``.
            t: what the time embedding is computed from, one number an item, or a row of
                ``config.noise_levels`` of them.
            context: what else every block shall be told; added to the embedding.
        """
        config = self.config
        time = self._embedded(t, x.dtype)
        time = time if context is None else time + context
        x = self.conv_in(F.pixel_unshuffle(x, config.stem) if config.stem > 1 else x)
        skips = [x]
        for block in self.down_blocks:
            x = block(x, time, skips)
        x = self.mid_block(x, time)
        for block in self.up_blocks:
            x = block(x, time, skips)
        x = self.conv_out(F.silu(self.conv_norm_out(x)))
        return F.pixel_shuffle(x, config.stem) if config.stem > 1 else x

    def _embedded(self, t: Float[Tensor, " b *levels"], dtype: torch.dtype) -> Tensor:
        """The sum of the embeddings of all numbers that the network is told."""
        config = self.config
        embeddings = (self.time_embedding, *self.level_embeddings)
        total = torch.zeros((), dtype=dtype, device=t.device)
        for embedding, level in zip(embeddings, t.reshape(len(t), -1).unbind(1), strict=True):
            features = timestep_embedding(
                level, config.sinusoids, config.freq_shift, config.flip_sin_to_cos
            )
            total = total + embedding(features.to(dtype))
        return total


def channels_last(net: Network) -> Network:
    """The same network, its weights in the layout that convolutions like best."""
    cast(Any, net).to(memory_format=torch.channels_last)  # no overload in torch's types
    return net


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
