"""The shape of an operator network, as its ``config.json`` says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from certes.data.fields import of_kinds
from certes.errors import ModelError
from certes.networks.config import UNetConfig

Convolution = Literal["depthwise", "full"]

CODE_CELLS = 4
"""A code is a coarse map of the function: this many cells along each side of its domain."""

PLACE_CHANNELS = 2
"""Of the grid: where the points around each node lay on average."""

# Beyond these a file is damaged, or wants to fill the memory.
_NODES, _REACH = 4096, 64


@dataclass(frozen=True)
class OperatorConfig:
    """Shape of a network on functions.

    Args:
        unet: keys of the U-Net on the fixed grid (:class:`~certes.networks.config.UNetConfig`); its
            channels in and out are the grid's.
        domain: side of the square domain that functions were trained on, training pixels.
        channels: of the functions.
        outputs: values at each point: as many as channels, or twice as many to predict the
            log-variance of the errors too.
        width: channels of the tokens.
        blocks: token blocks before the grid, and after it.
        reach: farthest offset of their kernels, training pixels.
        spacing: distance of the grid's nodes, training pixels.
        convolution: ``depthwise`` or ``full``.
        latent: numbers in the code of a function, :data:`CODE_CELLS` x :data:`CODE_CELLS` times as
            many as it has channels; 0: there is no encoder.
        encoder: widths of the encoder's levels, the finest first.

    Raises:
        ModelError: for a shape that makes no network.
    """

    unet: dict[str, Any]
    domain: int = 64
    channels: int = 1
    outputs: int = 2
    width: int = 32
    blocks: int = 2
    reach: int = 3
    spacing: float = 2.0
    convolution: Convolution = "depthwise"
    latent: int = 0
    encoder: tuple[int, ...] = field(default=(48, 64, 96))

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoder", tuple(self.encoder))
        unet = self.grid_unet()
        if self.convolution not in get_args(Convolution):
            raise ModelError(
                f"convolution: {self.convolution!r}; give one of {', '.join(get_args(Convolution))}"
            )
        if self.outputs not in (self.channels, 2 * self.channels):
            raise ModelError(
                f"outputs: {self.outputs} for {self.channels} channel(s); give as many, or twice "
                "as many to predict variances too"
            )
        if min(self.width, self.blocks, self.reach, self.spacing) <= 0:
            raise ModelError("config: width, blocks, reach and spacing must be positive")
        if not unet.multiple <= self.domain / self.spacing <= _NODES:
            raise ModelError(
                f"config: domain {self.domain} at spacing {self.spacing}; give from "
                f"{unet.multiple} to {_NODES} nodes a side"
            )
        if max(self.reach, self.blocks) > _REACH:
            raise ModelError(
                f"config: reach {self.reach}, blocks {self.blocks}; give at most {_REACH}"
            )
        if self.latent < 0 or self.latent % CODE_CELLS**2:
            raise ModelError(f"latent: {self.latent}; give a multiple of {CODE_CELLS**2}, or 0")
        wanted = unet.out_channels + PLACE_CHANNELS + self.code_channels
        if unet.in_channels != wanted:
            raise ModelError(
                f"unet: {unet.in_channels} channels in; {wanted} wanted: the {unet.out_channels} "
                f"that it answers, {PLACE_CHANNELS} of the points' places and "
                f"{self.code_channels} of the code"
            )

    @property
    def code_channels(self) -> int:
        """Of a code, seen as a map."""
        return self.latent // CODE_CELLS**2

    def grid_unet(self) -> UNetConfig:
        """The U-Net's shape."""
        return UNetConfig.from_dict(self.unet)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> OperatorConfig:
        """From a ``config.json``.

        Raises:
            ModelError: for keys that are missing or not understood.
        """
        known = {f.name for f in fields(cls)}
        try:
            return of_kinds(cls(**{key: value for key, value in config.items() if key in known}))
        except (TypeError, ValueError) as error:
            raise ModelError(f"config: describes no operator network ({error})") from error

    def to_dict(self) -> dict[str, Any]:
        """For a ``config.json``."""
        return {**asdict(self), "encoder": list(self.encoder)}
