"""The calls that users make, whatever kind of model answers them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from certes.conditional import model as conditional
from certes.conditional.model import ConditionalModel, load_conditional
from certes.conditional.one_pass.model import OnePassModel, load_one_pass
from certes.conditional.restore import POLICY, restore_given
from certes.diffusion.denoiser import Denoiser
from certes.diffusion.solvers.state import State
from certes.errors import InputError, ModelError
from certes.function_space import model as function_space
from certes.function_space.model import FunctionModel, load_function_model
from certes.intervals.posterior import Posterior
from certes.networks import model as unconditional
from certes.networks import one_pass
from certes.networks.colours import Colours
from certes.networks.model import Model, kind_of
from certes.restoration.deepinv import Physics
from certes.restoration.operators.base import Operator
from certes.restoration.request import Noise
from certes.restoration.restore import restore as restore_measured


def load(
    source: str | Path,
    device: str | torch.device | None = None,
    label: int | None = None,
    dtype: torch.dtype | None = None,
) -> Model | FunctionModel | ConditionalModel | OnePassModel:
    """Load a model. One of bounds is called on conditions, ``model(y) -> Bounds``.

    Args:
        source: a bundled name (``certes models list``), a model folder, a diffusers DDPM folder,
            the weights file (``.safetensors`` or, at your word, ``.bin``) inside one, or a
            checkpoint of guided-diffusion (``.pt``). A folder that has the name of a bundled model
            is meant by ``./name``. ``source@N`` means the class N of a class-conditional model;
            ``source@2x`` a model of functions for pictures twice as fine as its training pictures.
        device: where it shall compute; default: the first GPU, else the CPU.
        label: the class of a class-conditional model, 0-based.
        dtype: the network's precision; default: bfloat16 where the machine computes in it.

    Raises:
        ModelError: if there is no such model or device, or the model cannot be read.
    """
    kind = kind_of(source) if label is None else unconditional.KIND
    if kind == one_pass.KIND:
        return load_one_pass(source, device)
    if kind == conditional.KIND:
        return load_conditional(source, device, dtype)
    return load_prior(source, device, label, dtype)


def load_prior(
    source: str | Path,
    device: str | torch.device | None = None,
    label: int | None = None,
    dtype: torch.dtype | None = None,
) -> Model | FunctionModel:
    """Load a model of pictures, of pixels or of functions; see :func:`load`.

    Raises:
        ModelError: if there is no such model or device, it cannot be read, or it is a conditional
            one.
    """
    if label is None and kind_of(source) == function_space.KIND:
        return load_function_model(source, device, dtype)
    return unconditional.load(source, device, label, dtype)


def restore(
    y: Float[Tensor, " b *out"] | npt.NDArray[Any],
    operator: Operator | Physics | Sequence[Operator] | None = None,
    model: str | Denoiser | ConditionalModel | None = None,
    *,
    noise: Noise | None = None,
    samples: int = 16,
    steps: int = 20,
    seed: int = 0,
    sampler: str | None = None,
    covariance: str = "model",
    colours: Colours = "opponent",
    policy: str = POLICY,
    faithful: bool = False,
    keep_samples: bool = True,
    alpha: float = 0.1,
    batch_size: int | None = None,
    callback: Callable[[State], None] | None = None,
) -> Posterior:
    """Draw posterior samples of the pictures behind measurements, or given conditions.

    With an operator: measurements ``y = H x + noise e`` and any model of pictures, see
    :func:`certes.restoration.restore`. Without one: conditions of the kind that a conditional model
    was trained on, see :func:`certes.conditional.restore_given`.

    Args:
        y: measurements or conditions, image units ([0, 1]; noise may carry them outside).
        operator: ``H``; or one for each measurement; or a linear physics of deepinv; ``None`` for
            a conditional model.
        model: a model name or folder, a loaded model, or any denoiser.
        noise: standard deviation of the measurement noise, image units; to be left out for a
            conditional model, whose training has settled it.
        samples: K, how many answers for each picture.
        steps: network calls for each answer.
        seed: the same seed gives a picture the same samples whatever batch it is in.
        sampler: by default the calibrated one that suits.
        covariance, colours, faithful: for measurements, see :func:`certes.restoration.restore`.
        policy: for conditions, see :mod:`certes.conditional.policies`.
        keep_samples: keep all samples, or (``False``) only mean, std and the quantiles for
            ``alpha``, in memory that does not grow with ``samples``.
        alpha: the miss rate whose bounds are kept when samples are not.
        batch_size: pictures in one network call; default: what suits the device.
        callback: called with the solver's state after every step (progress, previews).

    Raises:
        InputError: for measurements that the operator cannot have made, or senseless settings.
        ModelError: if the model does not fit the pictures.
    """
    if model is None:
        raise InputError("model: none given; name one, for example model='nuclei'")
    made = load(model) if isinstance(model, str) else model
    common: dict[str, Any] = {
        "samples": samples,
        "steps": steps,
        "seed": seed,
        "sampler": sampler,
        "keep_samples": keep_samples,
        "alpha": alpha,
        "batch_size": batch_size,
        "callback": callback,
    }
    if isinstance(made, OnePassModel):
        raise ModelError(
            f"model: {made.name} answers with bounds and draws no samples: call it on conditions, "
            "model(y)"
        )
    if isinstance(made, ConditionalModel):
        _check_given(made, operator, noise)
        return restore_given(y, made, policy=policy, **common)
    if operator is None or noise is None:
        missing = "operator" if operator is None else "noise"
        raise InputError(f"{missing}: none given; only a conditional model does without it")
    return restore_measured(
        y,
        operator,
        made,
        noise=noise,
        covariance=covariance,
        colours=colours,
        faithful=faithful,
        **common,
    )


def _check_given(model: ConditionalModel, operator: Any, noise: Any) -> None:
    """What a conditional model knows already must not be said again."""
    for name, value in (("operator", operator), ("noise", noise)):
        if value is not None:
            raise InputError(
                f"{name}: given, but {model.name} is conditional and was trained on conditions of "
                f"the kind {model.task.kind!r}; leave it out"
            )
