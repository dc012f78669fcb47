"""A model with its sampling settings: what turns measurements or conditions into raw bounds."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

from certes.apps.options import SamplingOptions
from certes.apps.origins import Given, Measured
from certes.conditional.model import ConditionalModel, load_conditional
from certes.conditional.one_pass.model import OnePassModel, load_one_pass
from certes.conditional.restore import POLICY, provenance_given, restore_given
from certes.diffusion.solvers.sampling import SOLVERS
from certes.diffusion.solvers.state import State
from certes.errors import InputError
from certes.intervals.bounds import Bounds, Provenance
from certes.intervals.posterior import Posterior
from certes.intervals.quantiles import order_statistic
from certes.networks import one_pass
from certes.networks.colours import Colours
from certes.networks.fitting import prior_name
from certes.networks.model import kind_of
from certes.networks.prior import Prior
from certes.public import load_prior
from certes.restoration.request import operator_label
from certes.restoration.restore import restore
from certes.restoration.samplers import SAMPLERS, default_sampler

AnyModel = TypeVar("AnyModel", Prior, ConditionalModel, OnePassModel)
AnyOrigin = TypeVar("AnyOrigin", Measured, Given)


@dataclass(frozen=True)
class Restoration:
    """Raw bounds (B, C, H, W), on the CPU, and what they took."""

    bounds: Bounds
    seconds: float
    nfe: int


@dataclass(frozen=True)
class Restorer(ABC, Generic[AnyModel, AnyOrigin]):
    """A model, and how its answers become raw bounds.

    Args:
        model: what restores.
        alpha: share of pixels that intervals may miss.
    """

    model: AnyModel
    alpha: float

    @abstractmethod
    def __call__(
        self, y: Float[Tensor, " b *out"], origin: AnyOrigin, advance: Callable[[float], None]
    ) -> Restoration:
        """Restore what came from one picture; ``advance`` hears of each share of the work done."""

    @abstractmethod
    def provenance(self, origin: AnyOrigin) -> Provenance:
        """What bounds will say of themselves, before they are made."""

    def settings(self) -> dict[str, Any]:
        """What a report says about it."""
        return {"model_hash": self.model.hash}


@dataclass(frozen=True)
class OnePassRestorer(Restorer[OnePassModel, Given]):
    """A model that answers with bounds, given conditions."""

    def __call__(
        self, y: Float[Tensor, " b *out"], origin: Given, advance: Callable[[float], None]
    ) -> Restoration:
        start = time.perf_counter()
        bounds = self.model(y)
        advance(1.0)
        return Restoration(bounds, time.perf_counter() - start, 1)

    def provenance(self, origin: Given) -> Provenance:
        return self.model.provenance

    def settings(self) -> dict[str, Any]:
        head = self.model.network.head
        aim = {"method": self.model.method, "head": head.kind, "raw_alpha": head.alpha}
        return {**super().settings(), **aim}


@dataclass(frozen=True)
class SamplingRestorer(Restorer[AnyModel, AnyOrigin]):
    """A model that draws answers; fields as the arguments of `certes.restore`."""

    samples: int
    steps: int
    seed: int
    sampler: str | None

    def __call__(
        self, y: Float[Tensor, " b *out"], origin: AnyOrigin, advance: Callable[[float], None]
    ) -> Restoration:
        share = 1 / (len(y) * self.samples * self.steps)

        def report(state: State) -> None:
            advance(len(state.x) * share)

        start = time.perf_counter()
        posterior = self.posterior(y, origin, report, keep_samples=False)
        bounds = posterior.bounds(self.alpha)
        return Restoration(bounds, time.perf_counter() - start, posterior.nfe)

    def posterior(
        self,
        y: Float[Tensor, " b *out"],
        origin: AnyOrigin,
        callback: Callable[[State], None],
        keep_samples: bool,
    ) -> Posterior:
        """Draw the answers; arguments as those of `certes.restore`."""
        return self._drawn(
            y,
            origin,
            samples=self.samples,
            steps=self.steps,
            seed=self.seed,
            sampler=self.sampler,
            keep_samples=keep_samples,
            alpha=self.alpha,
            callback=callback,
        )

    @abstractmethod
    def _drawn(self, y: Float[Tensor, " b *out"], origin: AnyOrigin, **settings: Any) -> Posterior:
        """Ask the model."""

    def settings(self) -> dict[str, Any]:
        names = ("samples", "steps", "seed", "sampler")
        return {**super().settings(), **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True)
class MeasurementRestorer(SamplingRestorer[Prior, Measured]):
    """A model of pictures, asked about measurements."""

    colours: Colours

    def _drawn(self, y: Float[Tensor, " b *out"], origin: Measured, **settings: Any) -> Posterior:
        H, noise = origin.operator, origin.noise
        return restore(y, H, self.model, noise=noise, colours=self.colours, **settings)

    def provenance(self, origin: Measured) -> Provenance:
        """For a noise that is one number."""
        H = origin.operator
        return Provenance(
            model=prior_name(self.model, H.in_shape, self.colours),
            operator=operator_label(H),
            noise=round(origin.level, 6),
            sampler=self.sampler or default_sampler(H),
            steps=self.steps,
            samples=self.samples,
            alpha=self.alpha,
        )

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "colours": self.colours}


@dataclass(frozen=True)
class ConditionRestorer(SamplingRestorer[ConditionalModel, Given]):
    """A conditional model, given conditions."""

    policy: str

    def _drawn(self, y: Float[Tensor, " b *out"], origin: Given, **settings: Any) -> Posterior:
        return restore_given(y, self.model, policy=self.policy, **settings)

    def provenance(self, origin: Given) -> Provenance:
        made = provenance_given(self.model, self.sampler, self.policy)
        return replace(made, steps=self.steps, samples=self.samples, alpha=self.alpha)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "policy": self.policy}


def load_restorer(options: SamplingOptions) -> MeasurementRestorer:
    """Load a model of pictures and check what it is to do.

    Raises: ModelError for a model that cannot be had, InputError for senseless settings.
    """
    if options.policy is not None:
        raise InputError(
            f"policy: means nothing for {options.model}, which is not a conditional model; leave "
            "it out"
        )
    common = _common(options, SAMPLERS)
    colours = "opponent" if options.colours is None else options.colours.value
    return MeasurementRestorer(
        model=load_prior(options.model, options.device), colours=colours, **common
    )


def load_condition_restorer(
    options: SamplingOptions,
) -> ConditionRestorer | OnePassRestorer:
    """Load a model that is given conditions and check what it is to do.

    Raises: ModelError for a model that cannot be had, InputError for senseless settings.
    """
    if kind_of(options.model) == one_pass.KIND:
        return _one_pass(options)
    common = _common(options, SOLVERS)
    policy = POLICY if options.policy is None else options.policy.value
    model = load_conditional(options.model, options.device)
    return ConditionRestorer(model=model, policy=policy, **common)


def _one_pass(options: SamplingOptions) -> OnePassRestorer:
    for name in ("sampler", "policy"):
        if getattr(options, name) is not None:
            raise InputError(
                f"{name}: means nothing for {options.model}, which answers with bounds in one "
                "network call; leave it out"
            )
    return OnePassRestorer(load_one_pass(options.model, options.device), options.alpha)


def _common(options: SamplingOptions, samplers: Collection[str]) -> dict[str, Any]:
    order_statistic(options.samples, options.alpha)  # refuses such an alpha before any work
    if options.sampler is not None and options.sampler not in samplers:
        raise InputError(
            f"sampler: {options.sampler!r}; for this model give one of {', '.join(samplers)}"
        )
    return {
        "samples": options.samples,
        "steps": options.steps,
        "alpha": options.alpha,
        "seed": options.seed,
        "sampler": None if options.sampler is None else str(options.sampler),
    }
