"""A plan whose restorer tells of its progress and keeps its samples; all else is as in the job."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from certes.apps.plans import Plan
from certes.apps.restorer import Restoration, Restorer, SamplingRestorer
from certes.apps.sources import Source
from certes.apps.web.limits import Limits
from certes.diffusion.solvers.state import State
from certes.intervals.bounds import Bounds, Provenance


@dataclass
class Kept:
    """What a restoration leaves in memory.

    Args:
        samples: (K, C, H, W) in [0, 1]; None of a model that draws none.
        bounds: (1, C, H, W) each, as they were written.
        seen: what was restored, (1, C, H, W), NaN where nothing was measured.
        truth: the true picture, where it is known.
    """

    samples: Float[Tensor, "k c h w"] | None = None
    bounds: Bounds | None = None
    seen: Float[Tensor, "1 c h w"] | None = None
    truth: Float[Tensor, "c h w"] | None = None


@dataclass(frozen=True)
class WatchedRestorer(Restorer[Any, Any]):
    """Restores as another does.

    Args:
        inner: that other.
        limits: how large a result may be.
        hears: of the share of the work that is done, and of the newest state.
        kept: gets the samples.
    """

    inner: Restorer[Any, Any]
    limits: Limits
    hears: Callable[[float, State], None]
    kept: Kept

    def __call__(
        self, y: Float[Tensor, " b *out"], origin: Any, advance: Callable[[float], None]
    ) -> Restoration:
        """As the base class.

        Raises: InputError for a result beyond the limits.
        """
        channels, height, width = origin.restored_shape(y)
        self.limits.check_pixels("restored picture", height, width)
        if not isinstance(self.inner, SamplingRestorer):
            return self.inner(y, origin, advance)
        self.limits.check_samples(self.inner.samples * channels * height * width)
        done, total = 0, self.inner.samples * self.inner.steps

        def report(state: State) -> None:
            nonlocal done
            done += len(state.x)
            self.hears(min(1.0, done / total), state)

        start = time.perf_counter()
        posterior = self.inner.posterior(y, origin, report, keep_samples=True)
        bounds = posterior.bounds(self.alpha)
        samples = posterior.samples[:, 0]
        self.kept.samples = origin.framed(Bounds(samples, samples, samples)).estimate
        return Restoration(bounds, time.perf_counter() - start, posterior.nfe)

    def provenance(self, origin: Any) -> Provenance:
        return self.inner.provenance(origin)

    def settings(self) -> dict[str, Any]:
        return self.inner.settings()


@dataclass(frozen=True)
class WatchedPlan(Plan[Any]):
    """A plan that keeps what it writes."""

    kept: Kept = field(default_factory=Kept)

    def save(
        self,
        source: Source[Any],
        bounds: Bounds,
        out: Path,
        truth: Float[Tensor, "c h w"] | None = None,
    ) -> None:
        """As the base class."""
        self.kept.bounds = bounds
        self.kept.seen = source.origin.seen(source.y)
        self.kept.truth = truth
        super().save(source, bounds, out, truth)


def watched(plan: Plan[Any], limits: Limits, hears: Callable[[float, State], None]) -> WatchedPlan:
    """The same plan, watched."""
    kept = Kept()
    restorer = WatchedRestorer(
        plan.restorer.model, plan.restorer.alpha, plan.restorer, limits, hears, kept
    )
    return WatchedPlan(plan.reader, restorer, plan.card, plan.insist, kept)
