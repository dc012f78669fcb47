"""Files read as conditions, in the form that a conditional model's task tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from certes.apps.asking import GivenModel, check_settled
from certes.apps.options import Asked, SamplingOptions
from certes.apps.origins import Given, settled_noise
from certes.apps.sources import Reader, Source
from certes.apps.tasks import read_mask
from certes.conditional.tasks import Inpainting, Labels, Paired
from certes.data.pairs import label_channels, read_labels
from certes.data.pictures import MIN_SIDE, read_picture
from certes.data.raster import check_size
from certes.errors import InputError
from certes.restoration.operators import Inpaint


@dataclass(frozen=True)
class ConditionReader(Reader[Given]):
    """Reads files as conditions of a model.

    Args:
        model: what they are for.
        mask: of a model that fills holes: where pixels are known.
    """

    model: GivenModel
    mask: Path | None = None

    @property
    def name(self) -> str:
        return self.model.task.kind

    @property
    def noise(self) -> float | None:
        return settled_noise(self.model.task)

    @property
    def estimates_noise(self) -> bool:
        return False

    def nominal(self) -> Given:
        return Given(self.model)

    def check(self, asked: Asked, sampling: SamplingOptions) -> None:
        """Refuse what no condition could be restored with.

        Raises: InputError for options that the model has settled, or holes that nobody told of.
        """
        fills = isinstance(self.model.task, Inpainting)
        check_settled(asked, sampling, self.model, ("mask",) if fills else ())
        if fills and self.mask is None:
            raise InputError(
                f"mask: {self.model.name} fills holes: give --mask PNG, white where pixels are "
                "known, black elsewhere"
            )

    def __call__(self, path: Path) -> Source[Given]:
        picture = read_picture(path, noisy=True, smallest=self._smallest())
        y = self._labels(path) if isinstance(self.model.task, Labels) else picture.pixels
        y = self._with_holes(self._in_channels(path, y))[None]
        _, height, width = self.model.task.picture_shape(y, self.model.channels)
        check_size(path, width, height)
        return Source(picture, y, Given(self.model))

    def _smallest(self) -> int:
        """Side of the smallest condition of a picture that is not too small, pixels."""
        _, enlarged, _ = self.model.task.picture_shape(torch.empty(1, 1, 1, 1), 1)
        return max(1, MIN_SIDE // enlarged)

    def _labels(self, path: Path) -> Float[Tensor, "2 h w"]:
        return label_channels(read_labels(path)) / 255

    def _in_channels(self, path: Path, y: Float[Tensor, "c h w"]) -> Float[Tensor, "c2 h w"]:
        """Grey is often saved as colours; and a drawing in grey is one in colours, too."""
        task = self.model.task
        shown = task.channels(self.model.channels)
        wanted = self.model.channels if isinstance(task, Inpainting) else shown
        if wanted == 1 and bool((y == y[:1]).all()):
            return y[:1]
        if isinstance(task, Paired) and (len(y), wanted) == (1, 3):
            return y.expand(wanted, -1, -1)
        if len(y) != wanted:
            raise InputError(
                f"{path}: {len(y)} channel(s), {self.model.name} is given pictures of {wanted}: "
                "convert it, or give another --model"
            )
        return y

    def _with_holes(self, y: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
        if self.mask is None:
            return y
        channels, height, width = y.shape
        known = Inpaint((channels, height, width), read_mask(self.mask)).mask
        return torch.where(known.to(y.device), y, torch.nan)
