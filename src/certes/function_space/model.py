"""Models of functions: a denoiser of pictures of any resolution with a name, a hash and a card.

Their folders are those of other models, of the kind ``function_space``: ``config.json`` (the
operator network's), weights, ``certes.json`` (which also says the reading and the discretisation
certificate), ``residuals.safetensors``, and the measured filter in ``filter.safetensors``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from certes.data.files import write_json
from certes.data.tensors import write_tensors
from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised
from certes.errors import InputError, ModelError
from certes.function_space.autoencoder import DiffusionAutoencoder
from certes.function_space.config import OperatorConfig
from certes.function_space.coordinates import Points
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.reading import reading_from_config
from certes.function_space.unmollify import SpectralFilter, Unmollifier, filter_from_tensors
from certes.networks.denoiser import inference_dtype
from certes.networks.files import (
    CONFIG,
    WEIGHTS,
    check_numbers,
    filled,
    read_json,
    read_tensors,
    understood,
    whole_model,
)
from certes.networks.model import (
    CARD,
    RESIDUALS,
    compute_device,
    digest,
    locate,
    parted,
    read_residuals,
)
from certes.networks.prior import Prior
from certes.networks.unet import channels_last

FILTER = "filter.safetensors"
KIND = "function_space"
_ASKED = ("name", "kind", "reading", "inflation")
_FINER = re.compile(r"(\d+(?:\.\d+)?)x")

Picture = Float[Tensor, "b c h w"]
Scalars = Float[Tensor, " b"]


class FunctionModel(Prior):
    """A trained operator network and what is known of it.

    Args:
        name: how people call it.
        denoiser: the network with its process, for pictures of one resolution.
        card: the content of ``certes.json``.
        digest: hash of everything that its answers to training pictures depend on.
    """

    def __init__(
        self, name: str, denoiser: FunctionDenoiser, card: dict[str, Any], digest: str
    ) -> None:
        super().__init__(name, card, _hash_at(digest, denoiser), denoiser.inflation)
        self.denoiser = denoiser
        self._digest = digest

    def at(self, pitch: float, code: Float[Tensor, "b z"] | None = None) -> FunctionModel:
        """The same model for pictures of another resolution, or of known codes.

        Args:
            pitch: length of a pixel; 1: as in the training pictures; 0.5: twice as fine.
            code: of the functions (:meth:`encode`), one for each or one for all.

        Raises:
            InputError: for a pitch that is no length.
        """
        if not 0 < pitch < float("inf"):
            raise InputError(f"pitch: {pitch}; give the length of a pixel, above 0")
        return FunctionModel(self.name, self.denoiser.at(pitch, code), self.card, self._digest)

    def __call__(self, x: Picture, sigma: Scalars) -> Denoised:
        return self.denoiser(x, sigma)

    def covariance(self, denoised: Denoised, sigma: Scalars) -> Covariance:
        return self.denoiser.covariance(denoised, sigma)

    def of_blur(self, blurred: Picture, sigma: Scalars) -> Denoised:
        """See :meth:`~certes.function_space.denoiser.FunctionDenoiser.of_blur`."""
        return self.denoiser.of_blur(blurred, sigma)

    def blurred(self, blurred: Picture, sigma: Scalars) -> Picture:
        """See :meth:`~certes.function_space.denoiser.FunctionDenoiser.blurred`."""
        return self.denoiser.blurred(blurred, sigma)

    def encode(self, x: Picture, points: Points | None = None) -> Float[Tensor, "b z"]:
        """See :meth:`~certes.function_space.denoiser.FunctionDenoiser.encode`."""
        return self.denoiser.encode(x, points)

    @property
    def pitch(self) -> float:
        """Length of a pixel of its pictures, in training pixels."""
        return self.denoiser.pitch

    @property
    def net(self) -> DiffusionAutoencoder:
        """The network."""
        return self.denoiser.net

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.denoiser.device

    @property
    def channels(self) -> int:
        """Colour channels of the pictures it knows."""
        return self.denoiser.channels

    @property
    def center(self) -> float:
        """The brightness about which its pictures lie."""
        return self.denoiser.reading.center

    @property
    def scale(self) -> float:
        """Image units for one unit of its network."""
        return self.denoiser.reading.scale

    @property
    def side(self) -> int:
        """Side of its training domain, in pixels of its pictures."""
        return max(1, round(self.net.config.domain / self.pitch))

    @property
    def rigid(self) -> bool:
        """Whether the network on its fixed grid has attention."""
        return self.net.config.grid_unet().has_attention


def save_function_model(
    folder: Path,
    denoiser: FunctionDenoiser,
    card: dict[str, Any],
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write a model folder, whole or not at all.

    Args:
        folder: where; a model that is there is replaced.
        denoiser: the network and its reading, with filter and residual spectrum if measured.
        card: ``name`` and whatever else is known.
        dtype: of the stored weights.
    """
    network = {"_class_name": "OperatorNetwork", **denoiser.net.config.to_dict()}
    state = denoiser.net.state_dict()
    measured = {RESIDUALS: _residuals(denoiser), FILTER: _filter(denoiser.unmollify)}
    with whole_model(folder, *measured) as hidden:
        write_json(hidden / CONFIG, network)
        write_tensors(hidden / WEIGHTS, {name: value.to(dtype) for name, value in state.items()})
        for file, tensors in measured.items():
            if tensors:
                write_tensors(hidden / file, tensors)
        write_json(hidden / CARD, {**card, **reading_of(denoiser), "channels": denoiser.channels})


def load_function_model(
    source: str | Path,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> FunctionModel:
    """Load a model of functions.

    Args:
        source: a bundled name or a model folder. ``source@2x`` means the model of pictures that are
            twice as fine as the training pictures, ``source@0.5x`` half as fine
            (:meth:`FunctionModel.at`).
        device: where it shall compute; default: the first GPU, else the CPU.
        dtype: of its U-Net, float32 being the points'; default: bfloat16 where the machine
            computes in it.

    Raises:
        ModelError: if there is no such model or device, or the model cannot be read.
    """
    place = compute_device(device)
    named, finer = _with_fineness(source)
    with understood(named):
        model = _read(*locate(named))
    channels_last(model.net.to(place).eval())
    model.net.operator.unet.to(dtype or inference_dtype(place))
    return model.at(1 / finer)


def _read(folder: Path, weights: Path | None) -> FunctionModel:
    card = read_json(folder / CARD)
    missing = [key for key in _ASKED if key not in card]
    if missing or card["kind"] != KIND:
        found = f"does not say {', '.join(missing)}" if missing else f"kind {card['kind']!r}"
        raise ModelError(f"model {folder}: {CARD} {found}; a {KIND!r} model is wanted here")
    check_numbers(card, "inflation")
    path = weights or folder / WEIGHTS
    denoiser = FunctionDenoiser(
        _read_network(read_json(folder / CONFIG), path),
        reading_from_config(card["reading"]),
        unmollify=_read_filter(folder / FILTER),
        spectrum=read_residuals(folder / RESIDUALS),
        inflation=card["inflation"],
    )
    return FunctionModel(str(card["name"]), denoiser, card, digest_of(denoiser))


def digest_of(denoiser: FunctionDenoiser) -> str:
    """Hash of weights, configuration, reading and measurements: equal digests answer equally.

    Of training pictures: it does not depend on the denoiser's pitch and code.
    """
    description = {"config": denoiser.net.config.to_dict(), **reading_of(denoiser)}
    tensors = {
        **denoiser.net.state_dict(),
        **_residuals(denoiser),
        **{f"filter.{name}": value for name, value in _filter(denoiser.unmollify).items()},
    }
    return digest(description, tensors)


def reading_of(denoiser: FunctionDenoiser) -> dict[str, Any]:
    """How pictures become network inputs and its outputs estimates."""
    return {
        "kind": KIND,
        "reading": denoiser.reading.to_config(),
        "inflation": denoiser.inflation,
    }


def _hash_at(mark: str, denoiser: FunctionDenoiser) -> str:
    """Of the answers to pictures of the denoiser's pitch and code."""
    if denoiser.pitch == 1 and denoiser.code is None:
        return mark
    code = {} if denoiser.code is None else {"code": denoiser.code}
    return digest({"model": mark, "pitch": denoiser.pitch}, code)


def _with_fineness(source: str | Path) -> tuple[str | Path, float]:
    """``source@Rx`` as ``source`` and R."""
    place, which = parted(source)
    if not which:
        return source, 1.0
    said = _FINER.fullmatch(which)
    if said is None or float(said[1]) == 0:
        raise ModelError(
            f"model: {str(source)!r}; of a model of functions give NAME@Rx, pictures R times as "
            f"fine as its training pictures, for example {place}@2x"
        )
    return place, float(said[1])


def _read_network(config: Mapping[str, Any], weights: Path) -> DiffusionAutoencoder:
    with torch.device("meta"):  # random numbers would be drawn for nothing
        net = DiffusionAutoencoder(OperatorConfig.from_dict(config))
    return filled(net, weights, read_tensors(weights))


def _residuals(denoiser: FunctionDenoiser) -> dict[str, Tensor]:
    spectrum = denoiser.spectrum
    return {} if spectrum is None else {"levels": spectrum.levels, "spectra": spectrum.spectra}


def _filter(unmollify: Unmollifier) -> dict[str, Tensor]:
    """What was measured of a filter; nothing of the paper's."""
    return unmollify.to_tensors() if isinstance(unmollify, SpectralFilter) else {}


def _read_filter(path: Path) -> SpectralFilter | None:
    return filter_from_tensors(read_tensors(path)) if path.is_file() else None
