"""Bounds of samples as something to learn from: DM_SBA (Horwitz and Hoshen 2022)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from certes.conditional.model import ConditionalModel
from certes.conditional.restore import restore_given
from certes.data.patches import EVERY, PatchDataset
from certes.data.tensors import write_tensors
from certes.errors import ModelError
from certes.networks.files import read_header, read_tensors

_PART = 16  # patches sampled together


class SampledBounds:
    """Patches with conditions and the bounds that samples gave, for a head that learns from them.

    A batch stacks pictures, conditions as networks see them, lower ends, means and upper ends.

    Args:
        stacks: all patches, (n, c, s, s).
        turns: whether patches may be turned and mirrored (eight ways) or mirrored only (two).
    """

    def __init__(self, stacks: Float[Tensor, "n c s s"], turns: bool) -> None:
        self.stacks, self.turns = stacks, turns

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.stacks)

    def batch(
        self, step: int, batch_size: int, seed: int, share: slice = EVERY
    ) -> Float[Tensor, "b c s s"]:
        """The patches of one step: a pure function of (seed, step); only those of the share."""
        rng = np.random.default_rng([seed, step])
        rows = rng.integers(len(self), size=batch_size)
        quarters = rng.integers(4 if self.turns else 1, size=batch_size)
        mirrored = rng.integers(2, size=batch_size)
        return torch.stack(
            [
                _turned(self.stacks[row], int(quarter), bool(mirror))
                for row, quarter, mirror in zip(
                    rows[share], quarters[share], mirrored[share], strict=True
                )
            ]
        )


def sample_bounds_of(
    model: ConditionalModel,
    data: PatchDataset,
    count: int,
    path: Path,
    *,
    samples: int = 16,
    steps: int = 20,
    alpha: float = 0.1,
    seed: int = 0,
    advance: Callable[[float], None] = lambda patches: None,
) -> SampledBounds:
    """Sample the bounds of ``count`` training patches; every part done is kept in a file.

    Args:
        model: the conditional model that is sampled.
        data: training pictures.
        count: how many patches.
        path: the file (safetensors); one that is there is gone on with.
        samples, steps, alpha: of the sampled bounds, see :func:`certes.restore`.
        seed: of patches, conditions and samples.
        advance: told of the patches done.

    Raises:
        ModelError: if the file was made by another model or with other settings.
    """
    settings = {"model": model.hash, "samples": samples, "steps": steps, "alpha": alpha}
    header = {"settings": json.dumps({**settings, "seed": seed})}
    parts: list[Tensor] = []
    if path.is_file():
        if read_header(path) != header:
            raise ModelError(f"{path}: sampled by another model, or otherwise; remove it first")
        parts.append(read_tensors(path)["stacks"])
    for part in range(sum(len(p) for p in parts) // _PART, -(-count // _PART)):
        parts.append(_sampled(model, data, part, samples, steps, alpha, seed))
        write_tensors(path, {"stacks": torch.cat(parts)}, header)
        advance(_PART)
    return SampledBounds(torch.cat(parts)[:count], data.symmetries == "square")


def _sampled(
    model: ConditionalModel,
    data: PatchDataset,
    part: int,
    samples: int,
    steps: int,
    alpha: float,
    seed: int,
) -> Float[Tensor, "b c s s"]:
    patches = data.batch(part, _PART, seed)
    generator = torch.Generator().manual_seed(part)
    x, y = model.task.split(patches, model.channels, generator)
    posterior = restore_given(y, model, samples=samples, steps=steps, seed=seed)
    bounds = posterior.bounds(alpha)
    shown = model.task.shown(y)
    return torch.cat([x, shown, bounds.lower, posterior.mean, bounds.upper], dim=1)


def _turned(stack: Float[Tensor, "c s s"], quarters: int, mirrored: bool) -> Tensor:
    turned = torch.rot90(stack, quarters, (1, 2))
    return turned.flip(2) if mirrored else turned
