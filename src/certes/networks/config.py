"""The shape of a U-Net, as its ``config.json`` says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from certes.data.fields import of_kinds
from certes.errors import ModelError

DOWN_BLOCKS = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D")
UP_BLOCKS = ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D")

# Keys whose other values would make another network, and the values that are understood.
_UNDERSTOOD: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "downsample_padding": (1, 0),
    "downsample_type": ("conv", "resnet"),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2D",),
    "num_class_embeds": (None,),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "time_embedding_type": ("positional",),
    "upsample_type": ("conv", "resnet"),
}
# Keys that diffusers does not know; written only where they say something.
OWN = ("noise_levels", "stem", "time_proj_dim")

# What no U-Net has come near to; beyond it a file is damaged, or wants to fill the memory.
_MOST = {
    "levels": 16,
    "layers_per_block": 32,
    "stem": 64,
    "noise_levels": 16,
    **dict.fromkeys(("norm_num_groups", "attn_norm_num_groups"), 2**16),
    **dict.fromkeys(("in_channels", "out_channels", "block_out_channels"), 2**16),
    **dict.fromkeys(("time_embedding_dim", "time_proj_dim"), 2**16),
}


@dataclass(frozen=True)
class UNetConfig:
    """Keys and defaults are those of ``diffusers.UNet2DModel``, whose documentation tells them.

    What that class cannot express:

    * ``attention_head_dim`` may list one width for each level, the finest first;
    * ``time_proj_dim`` is the width of the sinusoids (``None``: ``block_out_channels[0]``);
    * ``noise_levels`` is how many numbers the network is told about its input: one for each block
      of channels with a noise level of its own (1: the time);
    * ``stem`` is the factor of a pixel-unshuffle before ``conv_in`` and of the pixel-shuffle after
      ``conv_out`` (1: none).

    Raises:
        ModelError: for a value that is not understood, or lists of unequal lengths.
    """

    sample_size: int | None = None
    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownBlock2D", *("AttnDownBlock2D",) * 3)
    up_block_types: tuple[str, ...] = (*("AttnUpBlock2D",) * 3, "UpBlock2D")
    block_out_channels: tuple[int, ...] = (224, 448, 672, 896)
    layers_per_block: int = 2
    dropout: float = 0.0
    attention_head_dim: int | tuple[int, ...] | None = 8
    norm_num_groups: int = 32
    attn_norm_num_groups: int | None = None
    norm_eps: float = 1e-5
    freq_shift: int = 0
    flip_sin_to_cos: bool = True
    downsample_padding: int = 1
    downsample_type: str = "conv"
    upsample_type: str = "conv"
    resnet_time_scale_shift: str = "default"
    time_embedding_dim: int | None = None
    add_attention: bool = True
    time_proj_dim: int | None = None
    stem: int = 1
    noise_levels: int = 1

    def __post_init__(self) -> None:
        _check_understood(asdict(self))
        levels = len(self.block_out_channels)
        if not levels == len(self.down_block_types) == len(self.up_block_types):
            raise ModelError(
                f"config: {len(self.down_block_types)} down and {len(self.up_block_types)} up "
                f"blocks for {levels} block_out_channels; all three must be equally long"
            )
        _check_sizes({**asdict(self), "levels": levels})
        if not (0 < self.norm_eps < 1 and 0 <= self.dropout < 1):
            raise ModelError(
                f"config: norm_eps = {self.norm_eps}, dropout = {self.dropout}; expected shares"
            )
        if 2 * self.freq_shift >= self.sinusoids:
            raise ModelError(
                f"config: freq_shift = {self.freq_shift} of {self.sinusoids} sinusoids; expected "
                "less than half as many"
            )
        unknown = {*self.down_block_types} - {*DOWN_BLOCKS} | {*self.up_block_types} - {*UP_BLOCKS}
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

    @property
    def sinusoids(self) -> int:
        """Width of the sinusoidal embedding of time."""
        return self.time_proj_dim or self.block_out_channels[0]

    @property
    def embedding(self) -> int:
        """Width of the learned embedding of time that every block is given."""
        return self.time_embedding_dim or 4 * self.block_out_channels[0]

    def head_dim(self, level: int) -> int:
        """Channels of one attention head at a level (0: the finest)."""
        by_level = self.attention_head_dim
        if by_level is None:
            return self.block_out_channels[level]
        return by_level[level] if isinstance(by_level, tuple) else by_level

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> UNetConfig:
        """From a ``config.json``; keys that do not change the network are ignored.

        Raises:
            ModelError: for values of other kinds than its own, too.
        """
        _check_understood(config)
        known = {f.name for f in fields(cls)}
        values = {key: _frozen(value) for key, value in config.items() if key in known}
        if isinstance(values.get("sample_size"), tuple):
            values["sample_size"] = min(values["sample_size"])
        try:
            return of_kinds(cls(**values))
        except (TypeError, ValueError) as error:
            raise ModelError(f"config: makes no network ({error})") from error

    def to_dict(self) -> dict[str, Any]:
        """For a ``config.json``: what :meth:`from_dict` and diffusers understand."""
        told = {**asdict(self), "act_fn": "silu"}
        return {k: v for k, v in told.items() if k not in OWN or k in self.differences()}

    def differences(self) -> dict[str, Any]:
        """What differs from the defaults: unchanged by keys that later versions may add."""
        values = asdict(self)
        return {f.name: values[f.name] for f in fields(self) if values[f.name] != f.default}


def _check_understood(config: Mapping[str, Any]) -> None:
    for key, values in _UNDERSTOOD.items():
        if key in config and config[key] not in values:
            raise ModelError(
                f"config: {key} = {config[key]!r} is not supported; expected {values[0]!r}"
            )


def _check_sizes(config: Mapping[str, Any]) -> None:
    for key, most in _MOST.items():
        sizes = config[key] if isinstance(config[key], tuple) else (config[key],)
        if not all(size is None or 1 <= size <= most for size in sizes):
            raise ModelError(f"config: {key} = {config[key]!r}; expected numbers from 1 to {most}")


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
