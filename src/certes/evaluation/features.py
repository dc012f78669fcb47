"""Networks that turn pictures into features, whose distributions are then compared.

Nothing is ever downloaded. Published scores (FID, KID, Inception score) need the weights file of
one Inception network, which the user gives; any other network serves too, a certes model among
them, and its scores then carry its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from certes.errors import InputError, ModelError
from certes.networks.model import Model

POSITIONS = 17
SPATIAL_VALUES = 2048
"""Spatial features have as many numbers a picture as those of sFID: 7 channels of 17 x 17."""


@dataclass(frozen=True)
class Features:
    """What a network says of pictures; None where it has nothing to say.

    `vectors` are the features, `spatial` features that still know where things are, `logits` the
    classes that it sees.
    """

    vectors: Float[Tensor, "b d"]
    spatial: Float[Tensor, "b m"] | None = None
    logits: Float[Tensor, "b k"] | None = None


@dataclass(frozen=True)
class FeatureNetwork:
    """A network that looks at pictures of `channels` channels in [0, 1].

    `name` is what its scores are labelled with. `published` tells that it is the very network of
    published scores, with their weights: only then is a Frechet distance an FID.
    """

    name: str
    extract: Callable[[Float[Tensor, "b c h w"]], Features]
    channels: int = 3
    published: bool = False

    def __call__(self, pictures: Float[Tensor, "b c h w"]) -> Features:
        """Look at pictures in [0, 1]; grey ones are repeated if the network wants colours.

        Raises: InputError for colour pictures and a network that knows grey ones only.
        """
        with torch.no_grad():
            return self.extract(with_channels(pictures, self.channels))


def with_channels(
    pictures: Float[Tensor, "*b c h w"], channels: int
) -> Float[Tensor, "*b channels h w"]:
    """Repeat a grey channel as often as wanted.

    Raises: InputError when there are several channels and another number is wanted.
    """
    given = pictures.shape[-3]
    if given not in (1, channels):
        raise InputError(
            f"pictures: {given} channels for a feature network of {channels}: "
            "convert the pictures to grey, or choose another network"
        )
    return pictures.expand(*pictures.shape[:-3], channels, *pictures.shape[-2:])


def to_bytes(pictures: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
    """Round pictures in [0, 1] to the nearest of 256 grey levels, as 8-bit files hold them."""
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)


def of_maps(maps: Float[Tensor, "b d h w"]) -> Features:
    """The mean of every channel over the picture, and the spatial features beside it."""
    return Features(maps.mean(dim=(2, 3)), flattened(maps))


def flattened(maps: Float[Tensor, "b d h w"]) -> Float[Tensor, "b m"]:
    """As many whole channels as make 2048 numbers, at no more than 17 x 17 positions.

    Of Inception's maps these are the 2023 numbers of sFID. Source: Nash et al., Generating images
    with sparse representations (ICML 2021).
    """
    height, width = (min(side, POSITIONS) for side in maps.shape[-2:])
    count = SPATIAL_VALUES // (height * width)
    return F.adaptive_avg_pool2d(maps[:, :count], (height, width)).flatten(1)


def custom_features(
    name: str, network: Callable[[Float[Tensor, "b c h w"]], Tensor], channels: int = 3
) -> FeatureNetwork:
    """Any function from pictures in [0, 1] to (b, d) vectors or (b, d, h, w) maps.

    Args:
        name: what scores are labelled with.
        network: the function; a module must be in evaluation mode, and takes pictures as they are.
        channels: of the pictures that it takes.

    Raises: ModelError, when it is called, for an answer of another shape.
    """

    def extract(pictures: Float[Tensor, "b c h w"]) -> Features:
        answer = network(pictures)
        if answer.ndim not in (2, 4) or len(answer) != len(pictures):
            raise ModelError(
                f"features {name}: answered {tuple(answer.shape)} to {len(pictures)} pictures, "
                "wanted (b, d) vectors or (b, d, h, w) maps"
            )
        return Features(answer) if answer.ndim == 2 else of_maps(answer)

    return FeatureNetwork(name, extract, channels)


def model_features(model: Model, level: int | None = None, sigma: float = 0.05) -> FeatureNetwork:
    """What a diffusion model's own network sees in clean pictures: no file is needed for it.

    The inner activations of such networks separate kinds of pictures about as well as those of
    classifiers do (Baranchuk et al., Label-efficient semantic segmentation with diffusion models,
    ICLR 2022). A model is blind to its own mistakes, though: compare several models by the features
    of one that is not among them.

    Args:
        model: the model.
        level: after which level on the way down to look, 0 being the finest; None is the middle.
        sigma: the noise level, in image units, that the network is told; no noise is added.

    Raises: ModelError for a level that the network does not have.
    """
    net = model.denoiser.net
    if level is not None and not 0 <= level < len(net.down_blocks):
        raise ModelError(f"level: {level}, the network has 0 to {len(net.down_blocks) - 1}")
    block = net.mid_block if level is None else net.down_blocks[level]
    place = "mid-block" if level is None else f"level {level}"

    def maps(pictures: Float[Tensor, "b c h w"]) -> Tensor:
        seen: list[Tensor] = []
        levels = pictures.new_full((len(pictures),), sigma)
        handle = block.register_forward_hook(lambda _block, _inputs, out: seen.append(out.float()))
        try:
            model(pictures.to(model.device), levels.to(model.device))
        finally:
            handle.remove()
        return torch.cat(seen)

    return custom_features(f"{model.name} {place}", maps, model.channels)
