"""Pictures of a folder in batches of one size, for networks that look at them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from certes.data.pictures import read_picture
from certes.errors import InputError
from certes.evaluation.features import with_channels

BATCH = 32
FITS = ("tiles", "resize")


@dataclass(frozen=True)
class PictureFiles:
    """Files to look at as pictures of one size and number of channels.

    `fit` says what happens to a picture of another size: None is an error, "tiles" cuts it into as
    many parts of that size as it has, "resize" scales it (bilinear, antialiased). Alpha is dropped,
    grey pictures are repeated to the wanted number of channels.

    Raises: InputError for an unknown `fit`.
    """

    paths: Sequence[Path]
    size: tuple[int, int]
    channels: int
    fit: str | None = None

    def __post_init__(self) -> None:
        if self.fit not in (None, *FITS):
            raise InputError(f"fit: {self.fit!r}; give one of {', '.join(FITS)}")

    def batches(
        self, advance: Callable[[float], None] = lambda files: None
    ) -> Generator[Float[Tensor, "b c h w"], None, None]:
        """Read them, a batch at a time; `advance` is told of every file read.

        Raises: InputError for a file that cannot be read, or does not fit.
        """
        waiting: list[Tensor] = []
        for picture in self._pictures(advance):
            waiting.append(picture)
            if len(waiting) == BATCH:
                yield torch.stack(waiting)
                waiting.clear()
        if waiting:
            yield torch.stack(waiting)

    def _pictures(self, advance: Callable[[float], None]) -> Iterator[Float[Tensor, "c h w"]]:
        for path in self.paths:
            yield from self._fitted(path, read_picture(path).pixels)
            advance(1)

    def _fitted(
        self, path: Path, pixels: Float[Tensor, "c h w"]
    ) -> Iterable[Float[Tensor, "c h w"]]:
        try:
            pixels = with_channels(pixels, self.channels)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        height, width = pixels.shape[-2:]
        if (height, width) == self.size:
            return [pixels]
        if self.fit == "resize":
            return F.interpolate(
                pixels[None], self.size, mode="bilinear", align_corners=False, antialias=True
            )
        if self.fit == "tiles" and height >= self.size[0] and width >= self.size[1]:
            return _tiles(pixels, self.size)
        raise InputError(
            f"{path}: {width} x {height} pixels, the generated pictures have "
            f"{self.size[1]} x {self.size[0]}: sets of different sizes cannot be compared. "
            "Give --fit tiles to cut larger real pictures, or --fit resize to scale them"
        )


def _tiles(pixels: Float[Tensor, "c h w"], size: tuple[int, int]) -> Float[Tensor, "n c h2 w2"]:
    """Parts that do not overlap, from the top left; what is left over is not looked at."""
    tiles = pixels.unfold(1, size[0], size[0]).unfold(2, size[1], size[1])
    return tiles.movedim(0, 2).flatten(0, 1)
