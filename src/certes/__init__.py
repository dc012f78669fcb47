"""certes: restored pictures with error bars that hold.

    model = certes.load("nuclei")
    H = certes.operators.SuperResolution((1, 256, 256), factor=4)
    posterior = certes.restore(y, H, model, noise=0.05, samples=16, steps=20, seed=0)
    bounds = posterior.bounds(alpha=0.1)
    calibration = certes.calibrate(bounds, truth, alpha=0.1, delta=0.1)
    interval = calibration(bounds)

Images are float32 tensors (B, C, H, W) in [0, 1]; noise standard deviations are in the same units.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certes import operators, problems
    from certes.conditional.model import ConditionalModel
    from certes.conditional.one_pass.model import OnePassModel
    from certes.errors import CertesError
    from certes.function_space.model import FunctionModel
    from certes.intervals.bounds import Bounds
    from certes.intervals.calibration import calibrate, calibrate_stream
    from certes.intervals.cards import Calibration
    from certes.intervals.metrics import evaluate
    from certes.intervals.posterior import Posterior
    from certes.intervals.tally import Tally
    from certes.networks.model import Model
    from certes.public import load, restore

# Name -> where it lives; loaded on first use, so that importing certes costs nothing.
_HOMES = {
    "Bounds": "certes.intervals.bounds",
    "Calibration": "certes.intervals.cards",
    "CertesError": "certes.errors",
    "FunctionModel": "certes.function_space.model",
    "ConditionalModel": "certes.conditional.model",
    "Model": "certes.networks.model",
    "OnePassModel": "certes.conditional.one_pass.model",
    "Posterior": "certes.intervals.posterior",
    "Tally": "certes.intervals.tally",
    "calibrate": "certes.intervals.calibration",
    "calibrate_stream": "certes.intervals.calibration",
    "evaluate": "certes.intervals.metrics",
    "load": "certes.public",
    "operators": "certes.operators",
    "problems": "certes.problems",
    "restore": "certes.public",
}

__version__ = "0.1.0"
__all__ = [
    "Bounds",
    "Calibration",
    "CertesError",
    "ConditionalModel",
    "FunctionModel",
    "Model",
    "OnePassModel",
    "Posterior",
    "Tally",
    "calibrate",
    "calibrate_stream",
    "evaluate",
    "load",
    "operators",
    "problems",
    "restore",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'certes' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    return home if name in ("operators", "problems") else getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
