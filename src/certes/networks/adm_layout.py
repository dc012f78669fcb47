"""What the names and shapes of a guided-diffusion state dict show, and today's names for them.

Its blocks are numbered through: ``input_blocks.0`` is the first convolution, then each level has
its residual blocks (child 0, with attention as child 1, if any) and a block that halves the
picture; ``output_blocks`` mirrors that, with the doubling as the last child of each level's last
block. A residual block that halves looks like any other: levels end where doublings are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from certes.errors import ModelError

_TOP = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding",
    "input_blocks.0.0": "conv_in",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_WITHIN = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
    "norm": "group_norm",
    "proj_out": "to_out.0",
    "op": "conv",
}
_RISE = re.compile(r"output_blocks\.(\d+)\.[12]\.(in_layers\.2|conv)\.weight")
_PART = re.compile(
    r"(?P<part>(?:in|out)put_blocks\.\d+\.\d+|middle_block\.\d|time_embed\.\d|out\.\d|label_emb)"
    r"(?:\.(?P<within>.+))?\.(?P<leaf>weight|bias)"
)


@dataclass(frozen=True)
class Layout:
    """What is seen.

    Args:
        in_channels, out_channels: of the network.
        channels: of each level, the finest first.
        attends: whether each level has attention.
        blocks: residual blocks of a level, on the way down.
        time_channels: width of the sinusoids.
        embedding: width of the time embedding.
        resnet_resampling: whether residual blocks resample, not convolutions.
        scale_shift: whether time scales activations, not only shifts them.
        classes: how many it was told apart, if any.
    """

    in_channels: int
    out_channels: int
    channels: tuple[int, ...]
    attends: tuple[bool, ...]
    blocks: int
    time_channels: int
    embedding: int
    resnet_resampling: bool
    scale_shift: bool
    classes: int | None

    @property
    def attention_levels(self) -> tuple[int, ...]:
        """Levels with attention, 0 the finest."""
        return tuple(level for level, attends in enumerate(self.attends) if attends)

    def parts(self) -> dict[str, str]:
        """Today's name of every numbered part."""
        names, each = dict(_TOP), self.blocks + 1
        for level, attends in enumerate(self.attends):
            down, up = f"down_blocks.{level}", f"up_blocks.{len(self.channels) - 1 - level}"
            first, first_up = 1 + level * each, (len(self.channels) - 1 - level) * each
            for i in range(each):
                names[f"input_blocks.{first + i}.0"] = f"{down}.resnets.{i}"
                names[f"input_blocks.{first + i}.1"] = f"{down}.attentions.{i}"
                names[f"output_blocks.{first_up + i}.0"] = f"{up}.resnets.{i}"
                names[f"output_blocks.{first_up + i}.1"] = f"{up}.attentions.{i}"
            names[f"input_blocks.{first + self.blocks}.0"] = f"{down}.downsamplers.0"
            names[f"output_blocks.{first_up + self.blocks}.{1 + attends}"] = f"{up}.upsamplers.0"
        return names


def read_layout(state: Mapping[str, Tensor], source: Path) -> Layout:
    """What a state dict shows.

    Args:
        state: the content of the checkpoint.
        source: its file, for what is said of it.

    Raises:
        ModelError: if it is no unconditional or class-conditional diffusion model of that layout.
    """
    _check_kind(state, source)
    try:
        return _layout(state)
    except (KeyError, IndexError, AttributeError) as error:
        raise ModelError(
            f"model: {source} is not laid out as guided-diffusion does ({error} not found)"
        ) from error


def _check_kind(state: Mapping[str, Tensor], source: Path) -> None:
    if "time_embed.0.weight" not in state or "input_blocks.0.0.weight" not in state:
        raise ModelError(
            f"model: {source} is no guided-diffusion checkpoint (its names are others); "
            "give a model folder, or the weights file inside one"
        )
    if "output_blocks.0.0.in_layers.2.weight" not in state:
        raise ModelError(f"model: {source} is a classifier, not a diffusion model")
    inputs = state["input_blocks.0.0.weight"].shape[1]
    if inputs > 4:
        raise ModelError(
            f"model: {source} takes {inputs} input channels: an upsampler, which needs a small "
            "picture beside the noisy one; only models of pictures alone can be used"
        )


def _layout(state: Mapping[str, Tensor]) -> Layout:
    rises = sorted(int(found[1]) for found in map(_RISE.fullmatch, state) if found)
    numbers = {int(name.split(".")[1]) for name in state if name.startswith("output_blocks.")}
    blocks = rises[0] if rises else max(numbers)
    first = [f"input_blocks.{1 + level * (blocks + 1)}" for level in range(len(rises) + 1)]
    channels = tuple(len(state[f"{block}.0.out_layers.3.weight"]) for block in first)
    time = state["time_embed.0.weight"]
    classes = state.get("label_emb.weight")
    return Layout(
        in_channels=state["input_blocks.0.0.weight"].shape[1],
        out_channels=len(state["out.2.weight"]),
        channels=channels,
        attends=tuple(f"{block}.1.qkv.weight" in state for block in first),
        blocks=blocks,
        time_channels=time.shape[1],
        embedding=len(time),
        resnet_resampling=f"input_blocks.{blocks + 1}.0.op.weight" not in state,
        scale_shift=len(state["input_blocks.1.0.emb_layers.1.weight"]) == 2 * channels[0],
        classes=None if classes is None else len(classes),
    )


def renamed(
    state: Mapping[str, Tensor], layout: Layout, heads: Callable[[int], int], new_order: bool
) -> dict[str, Tensor]:
    """The parameters by today's names, q, k and v apart.

    Args:
        state: the content of the checkpoint.
        layout: of it.
        heads: how many an attention of so many channels has.
        new_order: whether (q, k, v) are outermost in its projections, not the heads.
    """
    parts, result = layout.parts(), dict[str, Tensor]()
    for name, value in state.items():
        found = _PART.fullmatch(name)
        if found is None or found["part"] not in parts:
            result[name] = value  # which will not fit, and be named
            continue
        part, within, leaf = parts[found["part"]], found["within"], found["leaf"]
        value = value.squeeze(-1) if value.ndim == 3 else value  # its dense layers are convolutions
        if within == "qkv":
            groups = 1 if new_order else heads(len(value) // 3)
            for letter, matrix in zip("qkv", _apart(value, groups), strict=True):
                result[f"{part}.to_{letter}.{leaf}"] = matrix
        else:
            path = part if within is None else f"{part}.{_WITHIN.get(within, within)}"
            result[f"{path}.{leaf}"] = value
    return result


def _apart(qkv: Tensor, groups: int) -> tuple[Tensor, ...]:
    """Rows ordered (group, q k v, channel) as three blocks of rows (group, channel)."""
    by_letter = qkv.reshape(groups, 3, -1, *qkv.shape[1:]).transpose(0, 1)
    return tuple(by_letter.reshape(3, len(qkv) // 3, *qkv.shape[1:]).clone())
