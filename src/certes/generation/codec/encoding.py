"""From a picture to a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from certes.data.raster import SampleType
from certes.diffusion.denoiser import Denoiser
from certes.diffusion.rates import RateCurve
from certes.errors import InputError
from certes.generation.codec.chain import ChainState, walk
from certes.generation.codec.container import Container, Header, overhead
from certes.generation.codec.limits import Limit
from certes.generation.codec.plan import PlannedStep
from certes.generation.codec.sender import Sender
from certes.generation.codec.setting import Setting, make_setting

_OFF_GRID = 1e-3  # grey levels by which float32 pixels may miss a whole one
_LONGEST = 2**27  # a number as long as any in a header

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Encoded:
    """A compressed picture.

    Args:
        data: the file.
        ideal_bits: what ideal channels would have needed for the same: the sum of the steps'
            KL divergences, and of the lossless tail's code lengths.
        level: the noise level that the chain reached, image units; infinite if it made no step.
        steps: of the chain, each a network call.
        estimate: what a receiver gets by default, (c, h, w) in [0, 1].
        exact: whether that is the picture itself.
    """

    data: bytes
    ideal_bits: float
    level: float
    steps: int
    estimate: Float[Tensor, "c h w"]
    exact: bool


def encode(
    picture: Float[Tensor, "c h w"],
    model: str | Denoiser,
    *,
    bits_per_pixel: float | None = None,
    quality: float | None = None,
    dtype: SampleType = "uint8",
    rates: RateCurve | None = None,
    callback: Progress | None = None,
) -> Encoded:
    """Compress a picture: without loss, or as far as a limit says.

    Args:
        picture: grey or RGB, values in [0, 1].
        model: a model name or folder, a loaded model, or any denoiser; the receiver needs the same.
        bits_per_pixel: the most that the file may take, header and all; what fits in it is sent.
        quality: the PSNR of the receiver's estimate, in dB, at which to stop; where the chain does
            not reach it, the picture is sent without loss.
        dtype: sample type of the picture's file. Only 8-bit pictures can be sent without loss.
        rates: of the model, where none are stored with it.
        callback: called after every step with its number and that of the whole chain's steps.

    Raises:
        InputError: for a picture or a limit that makes no sense.
        ModelError: if the model does not fit the picture, or has no rates.
    """
    limit = Limit(bits_per_pixel, quality)
    _check(picture, dtype, limit)
    channels, height, width = picture.shape
    shared = make_setting(model, rates, (channels, height, width))
    job = _Job(picture.detach().cpu(), dtype, limit, shared, callback)
    return job.lossless() if limit.lossless else job.limited()


@dataclass(frozen=True)
class _Job:
    """A picture to be sent; fields as the arguments of :func:`encode`."""

    picture: Float[Tensor, "c h w"]
    dtype: SampleType
    limit: Limit
    shared: Setting
    callback: Progress | None

    def limited(self) -> Encoded:
        """As far as the limit says: if need be, the picture itself."""
        steps, sender = self.shared.plan.steps, self._sender()
        state = self._walk(sender, steps)
        sent = self._packed(sender, state, exact=False)
        if state.steps < len(steps) or self._enough(sender, state):
            return sent
        whole = self.lossless() if self.dtype == "uint8" else sent
        if not whole.exact and self.limit.quality is not None:
            raise InputError(
                f"quality: {self.limit.quality} dB is more than this model's chain can give; "
                "ask for less, or save the picture with 8 bits"
            )
        return whole if whole.exact else sent

    def lossless(self) -> Encoded:
        """The picture itself, or less where the limit forbids it."""
        plan, sender = self.shared.plan, self._sender()
        state = self._walk(sender, plan.steps[: plan.lossless])
        exact = state.steps == plan.lossless and sender.pixels(state)
        return self._packed(sender, state, exact)

    def _sender(self) -> Sender:
        pixels, around = self.picture[0].numel(), overhead(self._header(_LONGEST, _LONGEST, True))
        return Sender(self.picture.double().numpy().ravel(), self.limit.budget(pixels, around))

    def _walk(self, sender: Sender, steps: Sequence[PlannedStep]) -> ChainState:
        """Send steps; the last state."""
        states = walk(self.shared.denoiser(), steps, sender)
        state = next(states)
        while not self._enough(sender, state):
            following = next(states, None)
            if following is None:
                break
            state = following
            if self.callback is not None:
                self.callback(state.steps, len(steps))
        return state

    def _enough(self, sender: Sender, state: ChainState) -> bool:
        error = float(np.square(state.opinion.mean - sender.x0).mean())
        return self.limit.reached(error)

    def _header(self, steps: int, length: int, tail: bool) -> Header:
        channels, height, width = self.picture.shape
        identity = self.shared.identity
        return Header(self.dtype, channels, height, width, steps, tail, length, identity)

    def _packed(self, sender: Sender, state: ChainState, exact: bool) -> Encoded:
        stream = sender.writer.finish().rstrip(b"\0")
        header = self._header(state.steps, len(stream), exact)
        estimate = state.estimate.reshape(self.picture.shape).clamp(0, 1)
        return Encoded(
            data=Container(header, stream).pack(),
            ideal_bits=sender.ideal,
            level=state.level,
            steps=state.steps,
            estimate=(self.picture if exact else estimate).float(),
            exact=exact,
        )


def _check(picture: Float[Tensor, "c h w"], dtype: SampleType, limit: Limit) -> None:
    if picture.ndim != 3 or picture.shape[0] not in (1, 3) or picture.numel() == 0:
        raise InputError(f"picture: shape {tuple(picture.shape)}; give (1, h, w) or (3, h, w)")
    low, high = (float(v) for v in picture.aminmax())
    if not 0 <= low <= high <= 1:
        raise InputError(f"picture: values from {low:.3g} to {high:.3g}; give them in [0, 1]")
    if dtype != "uint8":
        if limit.lossless:
            raise InputError(
                f"dtype: {dtype} pictures cannot be sent without loss; give bits_per_pixel or "
                "quality, or save the picture with 8 bits"
            )
        return
    levels = picture.double() * 255
    if float((levels - levels.round()).abs().max()) > _OFF_GRID:
        raise InputError(
            "picture: values are not whole multiples of 1/255; give dtype='float32', or round them"
        )
