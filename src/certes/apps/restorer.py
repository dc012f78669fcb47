"""A model with its sampling settings: what turns measurements into raw bounds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from certes.apps.options import SamplingOptions
from certes.diffusion.solvers.state import State
from certes.intervals.bounds import Bounds, Provenance
from certes.intervals.quantiles import order_statistic
from certes.networks.colours import Colours
from certes.networks.fitting import prior_name
from certes.networks.model import Model, load
from certes.restoration.operators import Operator
from certes.restoration.request import Noise, operator_label
from certes.restoration.restore import restore
from certes.restoration.samplers import default_sampler


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
    sampler: str | None
    colours: Colours

    def __call__(
        self,
        y: Float[Tensor, " b *out"],
        H: Operator,
        noise: Noise,
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
            colours=self.colours,
            keep_samples=False,
            alpha=self.alpha,
            callback=report,
        )
        bounds = posterior.bounds(self.alpha)
        return Restoration(bounds, time.perf_counter() - start, posterior.nfe)

    def provenance(self, H: Operator, noise: float) -> Provenance:
        """What bounds will say of themselves, before they are made."""
        return Provenance(
            model=prior_name(self.model, H.in_shape, self.colours),
            operator=operator_label(H),
            noise=round(noise, 6),
            sampler=self.sampler or default_sampler(H),
            steps=self.steps,
            samples=self.samples,
            alpha=self.alpha,
        )

    def settings(self) -> dict[str, Any]:
        """What a report says about it."""
        names = ("samples", "steps", "seed", "sampler", "colours")
        return {"model_hash": self.model.hash, **{name: getattr(self, name) for name in names}}


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
        sampler=None if options.sampler is None else str(options.sampler),
        colours=options.colours.value,
    )
