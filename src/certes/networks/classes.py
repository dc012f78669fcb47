"""Class-conditional networks, read at one label.

A class embedding is added to the embedding of time, whose last layer has a bias: at one label the
embedding is part of that bias, and the network an unconditional one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from certes.errors import ModelError

_TABLE, _BIAS = "class_embedding.weight", "time_embedding.linear_2.bias"


def at_label(
    config: Mapping[str, Any], weights: Path, state: Mapping[str, Tensor], label: int | None
) -> tuple[dict[str, Any], Path, dict[str, Tensor]]:
    """The same network (see :func:`certes.networks.files.read_network`) for this class only.

    Args:
        config: what says its shape.
        weights: where ``state`` is from.
        state: the parameters by name.
        label: 0-based; ``None`` for a network without classes.

    Raises:
        ModelError: if there are classes and no label, a label and no classes, or no such class.
    """
    config, state = dict(config), dict(state)
    classes = config.pop("num_class_embeds", None)
    check_label(label, classes, weights)
    if label is None:
        return config, weights, state
    if _TABLE not in state or len(state[_TABLE]) != classes or _BIAS not in state:
        raise ModelError(f"model: {weights} does not hold the embeddings of {classes} classes")
    state[_BIAS] = state[_BIAS].float() + state.pop(_TABLE)[label].float()
    return config, weights, state


def check_label(label: int | None, classes: int | None, source: Path) -> None:
    """See :func:`at_label`."""
    if classes is None and label is not None:
        raise ModelError(f"label: {label} given, but {source} knows no classes; leave it out")
    if classes is not None and (label is None or not 0 <= label < classes):
        came = "none given" if label is None else f"{label} given"
        raise ModelError(
            f"label: {came}; {source} knows {classes} classes, say which with load(..., label=N) "
            f"or on the command line with PATH@N, N from 0 to {classes - 1}"
        )
