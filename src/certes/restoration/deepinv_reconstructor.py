"""certes as a reconstruction model of deepinv; importing this module imports deepinv."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from jaxtyping import Float
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.errors import InputError
from certes.intervals.posterior import Posterior
from certes.networks.model import load
from certes.restoration.deepinv import noise_of
from certes.restoration.restore import restore

_Reconstructor: Any = import_module("deepinv").models.Reconstructor  # it comes without types


class CertesReconstructor(_Reconstructor):
    """Posterior means as answers of a reconstruction model of deepinv.

    Args:
        model: a name or folder, a loaded model, or any denoiser.
        noise: as that of :func:`certes.restore`; by default that of the physics.
        options: more of :func:`certes.restore`'s: ``samples``, ``steps``, ``seed`` and the like.

    Raises:
        ModelError: if there is no such model.
    """

    def __init__(self, model: str | Denoiser, noise: Any = None, **options: Any) -> None:
        _Reconstructor.__init__(self)
        self.model = load(model) if isinstance(model, str) else model
        self.noise = noise
        self.options = options

    def forward(self, y: Float[Tensor, "b ..."], physics: Any) -> Float[Tensor, "b c h w"]:
        """The mean of the posterior samples, where ``y`` is.

        Raises:
            InputError: as :meth:`posterior`.
        """
        return self.posterior(y, physics).mean.to(y.device)

    def posterior(self, y: Float[Tensor, "b ..."], physics: Any) -> Posterior:
        """All that :func:`certes.restore` answers: samples, spreads, intervals.

        Args:
            y: measurements.
            physics: linear, of deepinv or by ``as_physics``.

        Raises:
            InputError: a physics without a noise level, where none was given here either; and as
                :func:`certes.restore`.
        """
        noise = noise_of(physics) if self.noise is None else self.noise
        if noise is None:
            raise InputError(
                "noise: the physics has no Gaussian noise model of one level; give the "
                "reconstructor noise="
            )
        return restore(y, physics, self.model, noise=noise, **self.options)
