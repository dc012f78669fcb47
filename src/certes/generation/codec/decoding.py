"""From a file, or the beginning of one, to a picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from certes.data.raster import SampleType
from certes.diffusion.denoiser import Denoiser
from certes.diffusion.rates import RateCurve
from certes.errors import InputError, ModelError
from certes.generation.codec.chain import ChainState, walk
from certes.generation.codec.container import Header, unpack
from certes.generation.codec.encoding import Progress
from certes.generation.codec.knowledge import Knowledge
from certes.generation.codec.receiver import Receiver
from certes.generation.codec.setting import Setting, make_setting
from certes.generation.codec.symbols import SymbolReader
from certes.generation.codec.tail import GREY


@dataclass(frozen=True)
class Decoded:
    """What a stream told.

    Args:
        estimate: the picture expected after it, of least squared error, (c, h, w) in [0, 1].
        dtype: sample type of the picture's file.
        level: the noise level that the chain reached, image units; infinite if it made no step.
        steps: of the chain that were read.
        sent: of the chain in the whole stream.
        complete: whether nothing of the stream was missing.
        exact: whether the estimate is the picture that was sent, bit by bit.
        knowledge: from which samples can be drawn.
    """

    estimate: Float[Tensor, "c h w"]
    dtype: SampleType
    level: float
    steps: int
    sent: int
    complete: bool
    exact: bool
    knowledge: Knowledge


def decode(
    data: bytes,
    model: str | Denoiser,
    *,
    rates: RateCurve | None = None,
    callback: Progress | None = None,
) -> Decoded:
    """Read a file, or as much of it as there is: what is cut off makes the picture coarser.

    Args:
        data: the file's bytes, from its first on.
        model: that of the sender.
        rates: of the model, where none are stored with it.
        callback: called after every step with its number and that of all steps in the stream.

    Raises:
        InputError: if this is no such file, it is cut in its header, or damaged.
        ModelError: if it was sent with another model.
    """
    container = unpack(data)
    header = container.header
    shared = make_setting(model, rates, (header.channels, header.height, header.width))
    _check_model(shared, header)
    receiver = Receiver(SymbolReader(container.stream, header.length))
    states = walk(shared.denoiser(), shared.plan.steps[: header.steps], receiver)
    state = next(states)
    for state in states:
        if callback is not None:
            callback(state.steps, header.steps)
    pixels, known = state.estimate.clamp(0, 1).float(), torch.zeros(shared.shape, dtype=torch.bool)
    if header.tail and state.steps == header.steps:
        pixels, known = _with_pixels(receiver, state, pixels, known)
    knowledge = Knowledge(shared.prior, shared.hash, _noisy(state), state.level, pixels, known)
    return Decoded(
        estimate=pixels.reshape(shared.picture),
        dtype=header.dtype,
        level=state.level,
        steps=state.steps,
        sent=header.steps,
        complete=container.complete,
        exact=bool(known.all()),
        knowledge=knowledge,
    )


def _noisy(state: ChainState) -> Float[Tensor, "b c h w"]:
    return torch.as_tensor(state.x).reshape(state.estimate.shape).float()


def _with_pixels(
    receiver: Receiver,
    state: ChainState,
    pixels: Float[Tensor, "b c h w"],
    known: Bool[Tensor, "b c h w"],
) -> tuple[Float[Tensor, "b c h w"], Bool[Tensor, "b c h w"]]:
    """The estimate with the pixels that the lossless tail fixes, and which these are."""
    where, levels = (torch.as_tensor(v) for v in receiver.pixels(state))
    flat, fixed = pixels.flatten().clone(), known.flatten().clone()
    flat[where] = levels.float() / GREY
    fixed[where] = True
    return flat.reshape(pixels.shape), fixed.reshape(known.shape)


def _check_model(shared: Setting, header: Header) -> None:
    if header.model != shared.identity:
        raise ModelError(
            f"model: the stream was made with model {header.model.hex()} (hash of model and "
            f"rates), but {shared.name} is {shared.identity.hex()}; decode it with the sender's"
        )
    if header.steps > len(shared.plan.steps):
        raise ModelError(
            f"model: the stream has {header.steps} steps, but the chain of {shared.name} has "
            f"{len(shared.plan.steps)}; decode it with the sender's version of the program"
        )
    if header.tail and header.steps != shared.plan.lossless:
        raise InputError(
            f"stream: a lossless end after {header.steps} steps, where it would begin after "
            f"{shared.plan.lossless}: its header is damaged; transfer the file again"
        )
