"""A model with the way its chain is walked: what draws pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from certes import __version__
from certes.apps.chain_options import ChainOptions
from certes.apps.console import Advance
from certes.data.pictures import Picture, write_picture
from certes.diffusion.solvers.sampling import ReverseChain
from certes.diffusion.solvers.state import State
from certes.networks.prior import Prior
from certes.public import load_prior


@dataclass(frozen=True)
class Generator:
    """A model, how its chain is walked, and the seed of the noise."""

    model: Prior
    chain: ReverseChain
    seed: int

    def report(self, advance: Advance, pictures: int) -> Callable[[State], None]:
        """What tells a progress bar of length 1 about the work done for so many pictures."""
        share = 1 / (pictures * self.chain.steps)
        return lambda state: advance(len(state.x) * share)

    def described(self) -> dict[str, Any]:
        """What the result of a command says about it."""
        return {
            "version": __version__,
            "model": self.model.name,
            "model_hash": self.model.hash,
            "solver": self.chain.solver,
            "variance": self.chain.variance,
            "steps": self.chain.steps,
            "seed": self.seed,
        }


def load_generator(options: ChainOptions) -> Generator:
    """Load a model and check how it is to be used.

    Raises: ModelError for a model that cannot be had, InputError for senseless settings.
    """
    chain = ReverseChain(options.solver.value, options.steps, options.variance.value)
    return Generator(load_prior(options.model, options.device), chain, options.seed)


def write_drawn(path: Path, pixels: Float[Tensor, "c h w"]) -> str:
    """Write a drawn picture with 8 bits; returns its file name."""
    write_picture(path, pixels, Picture(path.stem, pixels, None, "uint8"))
    return path.name


def sigma(level: float) -> str:
    """A noise level as a label."""
    return f"σ = {level:.2g}"
