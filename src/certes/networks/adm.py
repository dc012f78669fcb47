"""Checkpoints of guided-diffusion (Dhariwal & Nichol 2021, arXiv:2105.05233), known as ADM.

A ``.pt`` holds parameters only. Its configuration is read from their names and shapes as far as
they show it (:mod:`certes.networks.adm_layout`). What they do not show (attention heads, the order
of q, k and v, the noise schedule, the size of the pictures) is known of the published shapes:

===================================  ==========================================
channels of a level, blocks          files
===================================  ==========================================
192 x (1, 2, 3, 4), 3                64x64_diffusion
256 x (1, 1, 2, 3, 4), 2             128x128_diffusion
256 x (1, 1, 2, 2, 4, 4), 2          256x256_diffusion(_uncond), lsun_*
256 x (1/2, 1, 1, 2, 2, 4, 4), 2     512x512_diffusion
128 x (1, 1, 2, 2, 4, 4), 1          FFHQ at 256 x 256, of DPS and P2 weighting
===================================  ==========================================

Of any other shape the user says it: in a file ``NAME.json`` beside ``NAME.pt``, with the names that
the flags have in guided-diffusion.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.schedules import DiscreteBetas
from certes.errors import ModelError
from certes.networks.adm_layout import Layout, read_layout, renamed
from certes.networks.classes import at_label
from certes.networks.denoiser import NetworkDenoiser
from certes.networks.files import read_json, read_network, read_tensors
from certes.networks.foreign import read_schedule

SUFFIXES = (".pt", ".pth")


@dataclass(frozen=True)
class Flags:
    """What a state dict does not show; names and defaults are those of guided-diffusion.

    Args:
        image_size: side of the pictures.
        num_heads: of every attention, unless ``num_head_channels`` is given.
        num_head_channels: channels of one head; -1: see ``num_heads``.
        use_new_attention_order: (q, k, v) outermost, not the heads.
        noise_schedule: ``linear`` or ``cosine``.
        diffusion_steps: length of its table.
    """

    image_size: int = 64
    num_heads: int = 4
    num_head_channels: int = -1
    use_new_attention_order: bool = False
    noise_schedule: str = "linear"
    diffusion_steps: int = 1000

    def heads(self, channels: int) -> int:
        """Of an attention block.

        Raises:
            ModelError: if they would not share the channels evenly.
        """
        each = self.num_head_channels
        if each > 0 and channels % each == 0:
            return channels // each
        if each <= 0 and self.num_heads > 0 and channels % self.num_heads == 0:
            return self.num_heads
        raise ModelError(
            f"flags: num_heads = {self.num_heads}, num_head_channels = {each} do not share "
            f"{channels} channels evenly"
        )

    def schedule(self) -> DiscreteBetas:
        """The table; a linear one is scaled so that its ends do not depend on its length."""
        names = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
        if self.noise_schedule not in names or self.diffusion_steps < 1:
            raise ModelError(
                f"flags: noise_schedule = {self.noise_schedule!r}, diffusion_steps = "
                f"{self.diffusion_steps!r}; give 'linear' or 'cosine', and at least one step"
            )
        scale = 1000 / self.diffusion_steps
        return read_schedule(
            {
                "num_train_timesteps": self.diffusion_steps,
                "beta_schedule": names[self.noise_schedule],
                "beta_start": scale * 1e-4,
                "beta_end": scale * 0.02,
            }
        )


# Width of the sinusoids, channels of each level, blocks a level, levels with attention.
_Shape = tuple[int, tuple[int, ...], int, tuple[int, ...]]
_PUBLISHED: dict[_Shape, Flags] = {
    (192, (192, 384, 576, 768), 3, (1, 2, 3)): Flags(
        64, num_head_channels=64, use_new_attention_order=True, noise_schedule="cosine"
    ),
    (256, (256, 256, 512, 768, 1024), 2, (2, 3, 4)): Flags(128, num_heads=4),
    (256, (256, 256, 512, 512, 1024, 1024), 2, (3, 4, 5)): Flags(256, num_head_channels=64),
    (256, (128, 256, 256, 512, 512, 1024, 1024), 2, (4, 5, 6)): Flags(512, num_head_channels=64),
    (128, (128, 128, 256, 256, 512, 512), 1, (4,)): Flags(256, num_head_channels=64),
}


def read_adm(weights: Path, label: int | None) -> tuple[NetworkDenoiser, dict[str, Any]]:
    """Read a checkpoint of guided-diffusion.

    Args:
        weights: the ``.pt``, which the user named.
        label: of a class-conditional one.

    Returns:
        The denoiser, and what a ``certes.json`` would say of it.

    Raises:
        ModelError: if it is none, or one whose shape was not published and has no flags beside it.
    """
    state = read_tensors(weights)
    layout = read_layout(state, weights)
    flags = read_flags(layout, weights)
    parameters = renamed(state, layout, flags.heads, flags.use_new_attention_order)
    net = read_network(*at_label(unet_config(layout, flags), weights, parameters, label))
    head = "range" if net.config.out_channels == 2 * net.config.in_channels else None
    denoiser = NetworkDenoiser(net, flags.schedule(), Parametrisation("noise"), head=head)
    return denoiser, {"kind": "unconditional", "name": weights.stem, "source": "guided-diffusion"}


def read_flags(layout: Layout, weights: Path) -> Flags:
    """What was published of this shape, or what the file beside the weights says.

    Raises:
        ModelError: if there is neither, or the file says what is not understood.
    """
    beside = weights.with_suffix(".json")
    if beside.is_file():
        return _written_flags(beside)
    levels = layout.attention_levels
    shape = (layout.time_channels, layout.channels, layout.blocks, levels)
    if shape in _PUBLISHED and layout.resnet_resampling and layout.scale_shift:
        return _PUBLISHED[shape]
    raise ModelError(
        f"model: {weights} is of no published shape (channels {layout.channels}, {layout.blocks} "
        f"blocks a level, attention at levels {levels}), and weights do not show their heads and "
        f"schedule; write the flags it was trained with into {beside.name} beside it: "
        f"{', '.join(_names())}"
    )


def _written_flags(path: Path) -> Flags:
    written = read_json(path)
    unknown = sorted(set(written) - set(_names()))
    wrong = [
        key
        for key, value in written.items()
        if key not in unknown and type(value) is not type(getattr(Flags(), key))
    ]
    if unknown or wrong:
        raise ModelError(
            f"model: {path} says {', '.join(unknown + wrong)}; understood are "
            f"{', '.join(_names())}, as guided-diffusion has them"
        )
    return Flags(**written)


def _names() -> list[str]:
    return [field.name for field in fields(Flags)]


def unet_config(layout: Layout, flags: Flags) -> dict[str, Any]:
    """The ``config.json`` of this network."""
    resample = "resnet" if layout.resnet_resampling else "conv"
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
    if not layout.resnet_resampling:
        plain = ("DownBlock2D", "UpBlock2D")
    down = ["AttnDownBlock2D" if attends else plain[0] for attends in layout.attends]
    up = ["AttnUpBlock2D" if attends else plain[1] for attends in reversed(layout.attends)]
    return {
        "sample_size": flags.image_size,
        "in_channels": layout.in_channels,
        "out_channels": layout.out_channels,
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": list(layout.channels),
        "layers_per_block": layout.blocks,
        "attention_head_dim": _head_dims(layout, flags),
        "attn_norm_num_groups": 32,
        "resnet_time_scale_shift": "scale_shift" if layout.scale_shift else "default",
        "downsample_type": resample,
        "upsample_type": resample,
        "time_proj_dim": layout.time_channels,
        "time_embedding_dim": layout.embedding,
        "num_class_embeds": layout.classes,
    }


def _head_dims(layout: Layout, flags: Flags) -> int | list[int]:
    """One number where all attentions agree, else one for every level."""
    attending = {*layout.attention_levels, len(layout.channels) - 1}  # the middle always does
    dims = {i: layout.channels[i] // flags.heads(layout.channels[i]) for i in attending}
    if len(set(dims.values())) == 1:
        return next(iter(dims.values()))
    return [dims.get(i, channels) for i, channels in enumerate(layout.channels)]
