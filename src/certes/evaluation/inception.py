"""The Inception network behind the published scores, which loads their weights and nothing else.

It is Inception v3 (Szegedy et al. 2016) as in TensorFlow's model of 2015-12-05, which FID and the
Inception score were defined with. It differs from today's copies in its resizing of pictures, in
averages that leave out the padding, and in a maximum where the last block should have an average.
Parameter names are those of the PyTorch conversion of its weights.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SIDE = 299
CLASSES = 1008

Kernel = int | tuple[int, int]


class Conv(NamedTuple):
    """A convolution inside a block: its name there, its output channels, its kernel and stride."""

    name: str
    width: int
    kernel: Kernel
    stride: int = 1


# What follows what; convolutions in one tuple see the same input and their outputs are joined.
Path = tuple[tuple[Conv, ...], ...]


class Unit(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(
        self, c_in: int, c_out: int, kernel: Kernel, stride: int = 1, padding: Kernel = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Several paths and a pooling one beside each other, their outputs joined.

    `pool` is "mean" or "max" over 3 x 3 (then `pooled` is the width of the convolution after it),
    or "stride": the maximum at every other pixel, as it is.
    """

    def __init__(self, c_in: int, paths: tuple[Path, ...], pool: str, pooled: int = 0) -> None:
        super().__init__()
        self.paths, self.pool, self.width = paths, pool, 0
        for path in paths:
            self.width += self._add_path(c_in, path)
        self.width += pooled or c_in
        if pooled:
            self.branch_pool = Unit(c_in, pooled, 1)

    def _add_path(self, c_in: int, path: Path) -> int:
        for stage in path:
            for conv in stage:
                self.add_module(conv.name, _unit(c_in, conv))
            c_in = sum(conv.width for conv in stage)
        return c_in

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*(self._follow(path, x) for path in self.paths), self._pooled(x)], dim=1)

    def _follow(self, path: Path, x: Tensor) -> Tensor:
        for stage in path:
            x = torch.cat([self.get_submodule(conv.name)(x) for conv in stage], dim=1)
        return x

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "stride":
            return F.max_pool2d(x, 3, 2)
        if self.pool == "max":
            return self.branch_pool(F.max_pool2d(x, 3, 1, 1))
        return self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))


def _unit(c_in: int, conv: Conv) -> Unit:
    height, width = (conv.kernel, conv.kernel) if isinstance(conv.kernel, int) else conv.kernel
    padding = (height // 2, width // 2) if conv.stride == 1 else 0
    return Unit(c_in, conv.width, conv.kernel, conv.stride, padding)


def _chain(*convs: Conv) -> Path:
    return tuple((conv,) for conv in convs)


def _block_35(c_in: int, pooled: int) -> Mixed:
    """At 35 x 35 positions."""
    paths = (
        _chain(Conv("branch1x1", 64, 1)),
        _chain(Conv("branch5x5_1", 48, 1), Conv("branch5x5_2", 64, 5)),
        _chain(
            Conv("branch3x3dbl_1", 64, 1),
            Conv("branch3x3dbl_2", 96, 3),
            Conv("branch3x3dbl_3", 96, 3),
        ),
    )
    return Mixed(c_in, paths, "mean", pooled)


def _from_35_to_17(c_in: int) -> Mixed:
    paths = (
        _chain(Conv("branch3x3", 384, 3, 2)),
        _chain(
            Conv("branch3x3dbl_1", 64, 1),
            Conv("branch3x3dbl_2", 96, 3),
            Conv("branch3x3dbl_3", 96, 3, 2),
        ),
    )
    return Mixed(c_in, paths, "stride")


def _block_17(c_in: int, inner: int) -> Mixed:
    row, column = (1, 7), (7, 1)
    paths = (
        _chain(Conv("branch1x1", 192, 1)),
        _chain(
            Conv("branch7x7_1", inner, 1),
            Conv("branch7x7_2", inner, row),
            Conv("branch7x7_3", 192, column),
        ),
        _chain(
            Conv("branch7x7dbl_1", inner, 1),
            Conv("branch7x7dbl_2", inner, column),
            Conv("branch7x7dbl_3", inner, row),
            Conv("branch7x7dbl_4", inner, column),
            Conv("branch7x7dbl_5", 192, row),
        ),
    )
    return Mixed(c_in, paths, "mean", 192)


def _from_17_to_8(c_in: int) -> Mixed:
    paths = (
        _chain(Conv("branch3x3_1", 192, 1), Conv("branch3x3_2", 320, 3, 2)),
        _chain(
            Conv("branch7x7x3_1", 192, 1),
            Conv("branch7x7x3_2", 192, (1, 7)),
            Conv("branch7x7x3_3", 192, (7, 1)),
            Conv("branch7x7x3_4", 192, 3, 2),
        ),
    )
    return Mixed(c_in, paths, "stride")


def _block_8(c_in: int, pool: str) -> Mixed:
    row, column = (1, 3), (3, 1)
    fork = (Conv("branch3x3_2a", 384, row), Conv("branch3x3_2b", 384, column))
    double = (Conv("branch3x3dbl_3a", 384, row), Conv("branch3x3dbl_3b", 384, column))
    paths = (
        _chain(Conv("branch1x1", 320, 1)),
        (*_chain(Conv("branch3x3_1", 384, 1)), fork),
        (*_chain(Conv("branch3x3dbl_1", 448, 1), Conv("branch3x3dbl_2", 384, 3)), double),
    )
    return Mixed(c_in, paths, pool, 192)


class Inception(nn.Module):
    """The network, from grey levels in [0, 255] of any size to what scores are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Unit(32, 32, 3)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Unit(64, 80, 1)
        self.Conv2d_4a_3x3 = Unit(80, 192, 3)
        self.Mixed_5b = _block_35(192, 32)
        self.Mixed_5c = _block_35(self.Mixed_5b.width, 64)
        self.Mixed_5d = _block_35(self.Mixed_5c.width, 64)
        self.Mixed_6a = _from_35_to_17(self.Mixed_5d.width)
        self.Mixed_6b = _block_17(self.Mixed_6a.width, 128)
        self.Mixed_6c = _block_17(self.Mixed_6b.width, 160)
        self.Mixed_6d = _block_17(self.Mixed_6c.width, 160)
        self.Mixed_6e = _block_17(self.Mixed_6d.width, 192)
        self.Mixed_7a = _from_17_to_8(self.Mixed_6e.width)
        self.Mixed_7b = _block_8(self.Mixed_7a.width, "mean")
        self.Mixed_7c = _block_8(self.Mixed_7b.width, "max")
        self.fc = nn.Linear(self.Mixed_7c.width, CLASSES)

    def forward(
        self, x: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 2048"], Float[Tensor, "b 192 17 17"], Float[Tensor, "b 1008"]]:
        """Return ``(pooled, maps, logits)``.

        `pooled` is what FID and KID are of (Heusel et al. 2017); the first 7 channels of `maps` are
        what sFID is of (Nash et al. 2021, in the evaluation code of Dhariwal and Nichol 2021);
        `logits` have no bias, as in the Inception score's own code (Salimans et al. 2016).
        """
        x = (resize(x, SIDE) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))
        maps = self.Mixed_6d.get_submodule("branch1x1")(x)
        x = self.Mixed_7a(self.Mixed_6e(self.Mixed_6d(x)))
        pooled = self.Mixed_7c(self.Mixed_7b(x)).mean(dim=(2, 3))
        return pooled, maps, pooled @ self.fc.weight.T


def resize(x: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b c s s"]:
    """Bilinear interpolation of TensorFlow 1: corners aligned at the top left, no antialiasing.

    Scores move by more than models differ when this is replaced by a better one (Parmar, Zhang and
    Zhu 2022), so it stays what published scores used.
    """
    return _stretch(_stretch(x, side, axis=3), side, axis=2)


def _stretch(x: Tensor, side: int, axis: int) -> Tensor:
    size = x.shape[axis]
    position = torch.arange(side, dtype=x.dtype, device=x.device) * (size / side)
    low = position.floor().long().clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    weight = (position - low).reshape((-1, 1) if axis == 2 else (1, -1))
    return torch.lerp(x.index_select(axis, low), x.index_select(axis, high), weight)
