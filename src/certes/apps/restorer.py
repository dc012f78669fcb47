"""A model with its sampling settings: what turns measurements into raw bounds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from certes.apps.options import SamplingOptions
from certes.data.pictures import Picture
from certes.diffusion.solvers.state import State
from certes.intervals.bounds import Bounds, Provenance
from certes.intervals.quantiles import order_statistic
from certes.networks.model import Model, load
from certes.restoration.operators import DecomposedOperator
from certes.restoration.restore import restore


@dataclass(frozen=True)
class Restoration:
    """Raw bounds (B, C, H, W), on the CPU, and what they took."""

    bounds: Bounds
    seconds: float
    nfe: int


@dataclass(frozen=True)
class Restorer:
    """A model and how answers are drawn from it; fields as the arguments of `certes.restore`."""

    model: Model
    samples: int
    steps: int
    alpha: float
    seed: int
    sampler: str

    def __call__(
        self,
        y: Float[Tensor, " b *out"],
        H: DecomposedOperator,
        noise: float,
        advance: Callable[[float], None],
    ) -> Restoration:
        """Restore one picture's measurements; ``advance`` hears of each share of the work done."""
        share = 1 / (len(y) * self.samples * self.steps)

        def report(state: State) -> None:
            advance(len(state.x) * share)

        start = time.perf_counter()
        posterior = restore(
            y,
            H,
            self.model,
            noise=noise,
            samples=self.samples,
            steps=self.steps,
            seed=self.seed,
            sampler=self.sampler,
            keep_samples=False,
            alpha=self.alpha,
            callback=report,
        )
        bounds = posterior.bounds(self.alpha)
        return Restoration(bounds, time.perf_counter() - start, posterior.nfe)

    def provenance(self, label: str, noise: float) -> Provenance:
        """What bounds for this operator and noise will say of themselves, before they are made."""
        return Provenance(
            model=self.model.hash,
            operator=label,
            noise=round(noise, 6),
            sampler=self.sampler,
            steps=self.steps,
            samples=self.samples,
            alpha=self.alpha,
        )

    def settings(self) -> dict[str, Any]:
        """What a report says about it."""
        names = ("samples", "steps", "seed", "sampler")
        return {"model_hash": self.model.hash, **{name: getattr(self, name) for name in names}}

    def rows(self, picture: Picture) -> Float[Tensor, "b c h w"]:
        """The picture as a batch for this model: for a grey one, each channel is a picture."""
        pixels = picture.pixels
        return pixels[:, None] if self.model.channels == 1 else pixels[None]


def load_restorer(options: SamplingOptions) -> Restorer:
    """Load a model and check what it is to do.

    Raises: ModelError for a model that cannot be had, InputError for senseless settings.
    """
    order_statistic(options.samples, options.alpha)  # refuses such an alpha before any work
    return Restorer(
        model=load(options.model, options.device),
        samples=options.samples,
        steps=options.steps,
        alpha=options.alpha,
        seed=options.seed,
        sampler=str(options.sampler),
    )


def planes(rows: Float[Tensor, "b c h w"]) -> Float[Tensor, "channels h w"]:
    """The picture that ``Restorer.rows`` took apart."""
    return rows.reshape(-1, *rows.shape[2:])


def one_picture(bounds: Bounds) -> Bounds:
    """Bounds of all rows of a picture as those of the one picture, (1, channels, H, W)."""
    return replace(
        bounds,
        lower=planes(bounds.lower)[None],
        estimate=planes(bounds.estimate)[None],
        upper=planes(bounds.upper)[None],
    )
