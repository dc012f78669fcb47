r"""Bounds in one pass: a diffusion model's network whose last layer answers otherwise (Conffusion).

Horwitz and Hoshen 2022 (arXiv:2211.09795) turn a diffusion model into bounds by repeating its last
layer and fine-tuning it. What their networks are shown and told is far from what they were trained
on, and what they answer is multiplied by a gain that depends on the step that they are told:
between .016 and 2.8 in their code, so that in some tasks a network must answer with 60 to move a
bound by all of the range of values. Here a **front** shows conditions as nearly as training did,
and the gain goes into the last layer's weights. The network starts where the diffusion model
stands, and what it answers about the base has the pictures' own unit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from certes.data.fields import of_kinds
from certes.errors import ModelError
from certes.networks.conditional import Block, ConditionalNetworkDenoiser, block_from_config
from certes.networks.denoiser import NetworkDenoiser, conditioning, evaluate
from certes.networks.heads import Answer, Head
from certes.networks.unet import UNet

Picture = Float[Tensor, "b c h w"]

KIND = "bounds"
"""Of their model folders."""


class Front(ABC):
    """How a network is shown conditions."""

    kind: ClassVar[str]
    x: Block

    @abstractmethod
    def inputs(self, y: Picture) -> tuple[Picture, Float[Tensor, " b *levels"]]:
        """What the network sees and is told of conditions as tasks show them, image units."""

    @abstractmethod
    def base(self, seen: Picture) -> Picture:
        """What answers are about, network units, in what is seen."""

    @property
    @abstractmethod
    def sees(self) -> int:
        """Channels of the conditions."""

    def to_config(self) -> dict[str, Any]:
        """A JSON-able description that :func:`front_from_config` understands."""
        return {"kind": self.kind, **asdict(self)}  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class PairFront(Front):
    """Of a conditional network: the condition clean, the picture drowned in noise.

    At the largest noise that the network knows x_t carries nothing; its expected value is shown.
    The network's answer is then a CDE's own estimate of the picture. Networks of noisy conditions
    have never seen a clean one beside such an x_t, and start further off.

    Args:
        x: the picture's block.
        y: the condition's block.
        sigma_x: the noise level of x that the network is told, image units.
    """

    kind: ClassVar[str] = "pair"
    x: Block
    y: Block
    sigma_x: float

    def inputs(self, y: Picture) -> tuple[Picture, Float[Tensor, "b 2"]]:
        nothing = y.new_zeros(len(y), self.x.channels, *y.shape[2:])
        levels = y.new_full((len(y),), self.sigma_x), y.new_zeros(len(y))
        told = [block.told(level) for block, level in zip((self.x, self.y), levels, strict=True)]
        return torch.cat([nothing, self.y.seen(y, levels[1])], dim=1), torch.stack(told, dim=1)

    def base(self, seen: Picture) -> Picture:
        return torch.zeros_like(seen[:, : self.x.channels])

    @property
    def sees(self) -> int:
        return self.y.channels

    def gain(self) -> float:
        """Of the velocity in what is read as the picture."""
        ratio = self.sigma_x / self.x.scale
        return -ratio / (1 + ratio**2) ** 0.5


@dataclass(frozen=True)
class PictureFront(Front):
    r"""Of a network of pictures: the condition in place of a noisy picture.

    Args:
        x: the picture's units.
        extra: channels of the condition that are no picture, such as a mask.
        shrink: :math:`\alpha` of the noise level that the network is told.
        through: the part of what is shown that is read as the picture, before any answer.
        told: what it is told of that level.
    """

    kind: ClassVar[str] = "picture"
    x: Block
    extra: int
    shrink: float
    through: float
    told: float

    def inputs(self, y: Picture) -> tuple[Picture, Float[Tensor, " b"]]:
        picture = self.shrink * self.x.normalised(y[:, : self.x.channels])
        seen = torch.cat([picture, y[:, self.x.channels :]], dim=1)
        return seen, y.new_full((len(y),), self.told)

    def base(self, seen: Picture) -> Picture:
        return self.through * seen[:, : self.x.channels]

    @property
    def sees(self) -> int:
        return self.x.channels + self.extra


def front_from_config(config: Mapping[str, Any]) -> Front:
    """The front that :meth:`Front.to_config` described.

    Raises:
        ModelError: for an unknown kind, or other keys than its own, or values that are none.
    """
    fields = {k: v for k, v in config.items() if k not in ("kind", "x", "y")}
    blocks = {k: block_from_config(config[k]) for k in ("x", "y") if k in config}
    try:
        match config["kind"]:
            case PairFront.kind:
                return of_kinds(PairFront(**blocks, **fields))
            case PictureFront.kind:
                return of_kinds(PictureFront(**blocks, **fields))
            case _:
                raise KeyError(config["kind"])
    except (KeyError, TypeError) as error:
        raise ModelError(f"front: {dict(config)} describes none") from error


class OnePassNetwork:
    """A U-Net on conditions, read as lower ends, estimates and upper ends.

    Args:
        net: sees what the front shows; answers what the head reads.
        front: how conditions are shown.
        head: how answers are read.

    Raises:
        ModelError: if the network's channels are others than theirs.
    """

    def __init__(self, net: UNet, front: Front, head: Head) -> None:
        channels = front.x.channels
        shown = front.sees + channels * isinstance(front, PairFront)
        given = (net.config.in_channels, net.config.out_channels)
        if given != (shown, head.outputs * channels):
            raise ModelError(
                f"config: {given[0]} channels in and {given[1]} out; conditions of {front.sees} "
                f"and a head of {head.kind} need {shown} and {head.outputs * channels}"
            )
        self.net, self.front, self.head = net, front, head

    @property
    def device(self) -> torch.device:
        """Where the network lives; conditions must be there too."""
        return next(self.net.parameters()).device

    def split(self, answer: Float[Tensor, "b c_out h w"]) -> Answer:
        """The network's channels as values for each value of a picture."""
        return stacked(answer, self.head.outputs)

    @torch.no_grad()
    def __call__(self, y: Picture) -> Float[Tensor, "b 3 c h w"]:
        """Lower ends, estimates and upper ends of the pictures behind conditions, as they fell.

        Args:
            y: conditions as tasks show them to networks, image units.

        Raises:
            ModelError: if the network is in training mode and has dropout.
        """
        seen, told = self.front.inputs(y)
        answer = evaluate(self.net, seen, told).to(y.dtype)
        return self.head.read(self.split(answer), self.front.base(seen))


def stacked(values: Float[Tensor, "b kc h w"], count: int) -> Answer:
    """Channels as ``count`` pictures, one after the other."""
    return values.reshape(len(values), count, -1, *values.shape[2:])


def narrow(denoiser: ConditionalNetworkDenoiser, sigma_x: float, head: Head) -> OnePassNetwork:
    """A conditional network with another last layer; its estimates are at first its own.

    Args:
        denoiser: a trained conditional network; it is copied.
        sigma_x: the largest noise of x that it was trained on, image units.
        head: what it shall answer.

    Returns:
        A float32 network, ready to answer.
    """
    front = PairFront(denoiser.x, denoiser.y, sigma_x)
    net = _with_head(denoiser.net, head, 0, front.gain())
    return OnePassNetwork(net.to(denoiser.device), front, head)


def general(denoiser: NetworkDenoiser, sigma: float, extra: int, head: Head) -> OnePassNetwork:
    """A network of pictures that sees conditions; its estimates are at first its own.

    Args:
        denoiser: a trained network; it is copied.
        sigma: the noise level that it is told, image units.
        extra: channels of conditions that are no picture. Their weights start at zero.
        head: what it shall answer.

    Returns:
        A float32 network, ready to answer.
    """
    t, alpha, _ = denoiser.levels(torch.tensor([sigma], dtype=torch.float64))
    a, b = (float(v) for v in denoiser.parametrisation.coefficients(denoiser.schedule, t))
    x = Block(denoiser.channels, denoiser.center, denoiser.scale)
    told = float(conditioning(denoiser.schedule, t))
    front = PictureFront(x, extra, float(alpha), -a / b, told)
    net = _with_head(denoiser.net, head, extra, 1 / b)
    return OnePassNetwork(net.to(denoiser.device), front, head)


def _with_head(net: UNet, head: Head, extra: int, gain: float) -> UNet:
    """A copy with ``extra`` more inputs, whose last layer answers ``gain`` times as much."""
    channels, area = head.x.channels, net.config.stem**2
    shape = replace(
        net.config,
        in_channels=net.config.in_channels + extra,
        out_channels=head.outputs * channels,
    )
    copy, state = UNet(shape), {k: v.detach().float() for k, v in net.state_dict().items()}
    first = state["conv_in.weight"]
    blind = first.new_zeros(len(first), extra * area, *first.shape[2:])
    state["conv_in.weight"] = torch.cat([first, blind], dim=1)
    rows, others = channels * area, (head.outputs - head.copies) * channels * area
    for name, start in (("conv_out.weight", 0.0), ("conv_out.bias", head.start)):
        own = gain * state[name][:rows]  # x's answers come first
        fresh = own.new_full((others, *own.shape[1:]), start)
        state[name] = torch.cat([own] * head.copies + [fresh])
    copy.load_state_dict(state)
    return copy.eval()
