"""Functions drawn at twice the training resolution, for a person to look at during training."""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Float, UInt8
from torch import Tensor

from certes.data.mosaic import mosaic
from certes.data.pictures import Picture, write_picture
from certes.diffusion.solvers.sampling import ReverseChain
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.sampling import sample_functions

_COLUMNS, _CALLS, _COUNT = 4, 20, 8
_FINER = 2


def save_functions_grid(
    denoiser: FunctionDenoiser, patches: Float[Tensor, "b c s s"], out: Path, step: int
) -> UInt8[Tensor, "height width c"]:
    """Write ``samples-STEP.png``: two rows of samples at twice the training resolution.

    The noise is the same at every step, so that the grids of a run can be compared.

    Args:
        denoiser: the network so far.
        patches: training patches, for their size.
        out: the folder.
        step: names the file.

    Returns:
        The grid.
    """
    size, chain = _FINER * patches.shape[-1], ReverseChain(steps=_CALLS)
    pictures = sample_functions(denoiser, (size, size), 1 / _FINER, _COUNT, chain=chain)
    grid = mosaic(pictures, _COLUMNS)
    write_picture(out / f"samples-{step}.png", grid, Picture("samples", grid, None, "uint8"))
    return (grid * 255).round().byte().movedim(0, -1)
