"""Models: a denoiser with a name, a hash and a card; loaded by name or from a folder.

A certes folder is ``config.json`` and ``diffusion_pytorch_model.safetensors`` (the layout of
diffusers) with ``certes.json`` (what the network predicts, of what, and what it was trained on),
``residuals.safetensors`` (its error spectrum per noise level) and ``rates.json`` (what its chains
are expected to spend). Plain diffusers DDPM folders and checkpoints of guided-diffusion load too.
"""

from __future__ import annotations

import hashlib
import json
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
from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.rates import RateCurve
from certes.diffusion.residuals import ResidualSpectrum
from certes.diffusion.schedules import schedule_from_config
from certes.errors import ModelError
from certes.networks.adm import SUFFIXES as ADM_SUFFIXES
from certes.networks.adm import read_adm
from certes.networks.classes import check_label
from certes.networks.denoiser import NetworkDenoiser, inference_dtype
from certes.networks.files import (
    CARD,
    CONFIG,
    WEIGHTS,
    check_numbers,
    read_json,
    read_network,
    read_tensors,
    understood,
    whole_model,
)
from certes.networks.foreign import read_diffusers
from certes.networks.prior import Prior
from certes.networks.unet import UNet, channels_last

BUNDLED = Path(__file__).parent.parent / "models"
RESIDUALS, RATES = "residuals.safetensors", "rates.json"
KIND = "unconditional"
# What models of other kinds do, where they do not answer conditions.
_KNOW = {"function_space": "know functions, not pixels"}
_ASKED = ("name", "kind", "schedule", "prediction", "center", "scale", "inflation")


class Model(Prior):
    """A trained network of pictures and what is known of it.

    Args:
        name: how people call it.
        denoiser: the network with its process.
        card: the content of ``certes.json``.
        digest: hash of everything that its answers depend on.
    """

    def __init__(
        self, name: str, denoiser: NetworkDenoiser, card: dict[str, Any], digest: str
    ) -> None:
        super().__init__(name, card, digest, denoiser.inflation)
        self.denoiser = denoiser
        self.rates = denoiser.rates

    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        return self.denoiser(x, sigma)

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        return self.denoiser.covariance(denoised, sigma)

    @property
    def net(self) -> UNet:
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
        return self.denoiser.center

    @property
    def scale(self) -> float:
        """Image units for one unit of its network."""
        return self.denoiser.scale

    @property
    def side(self) -> int | None:
        """Side of its training pictures, pixels, if known."""
        return self.net.config.sample_size

    @property
    def rigid(self) -> bool:
        """Whether it has attention, and says of which side its pictures were."""
        return self.net.config.has_attention and self.side is not None


def load(
    source: str | Path,
    device: str | torch.device | None = None,
    label: int | None = None,
    dtype: torch.dtype | None = None,
) -> Model:
    """Load a model.

    Args:
        source: a bundled name (``certes models list``), a model folder, a diffusers DDPM folder,
            the weights file (``.safetensors`` or, at your word, ``.bin``) inside one, or a
            checkpoint of guided-diffusion (``.pt``). A folder that has the name of a bundled model
            is meant by ``./name``. ``source@N`` means the class N of a class-conditional model.
        device: where it shall compute; default: the first GPU, else the CPU.
        label: the class of a class-conditional model, 0-based.
        dtype: the network's precision; default: bfloat16 where the machine computes in it.

    Raises:
        ModelError: if there is no such model or device, or the model cannot be read.
    """
    place = compute_device(device)
    with understood(source):
        denoiser, card = _read(*_with_label(source, label))
        digest = digest_of(denoiser)
    channels_last(denoiser.net.to(device=place, dtype=dtype or inference_dtype(place))).eval()
    return Model(str(card["name"]), denoiser, card, digest)


def _read(source: str | Path, label: int | None) -> tuple[NetworkDenoiser, dict[str, Any]]:
    folder, weights = locate(source)
    if weights is not None and weights.suffix in ADM_SUFFIXES:
        denoiser, card = read_adm(weights, label)
    elif (folder / CARD).is_file():
        check_label(label, None, folder)
        denoiser, card = _read_certes(folder, weights or folder / WEIGHTS)
    else:
        denoiser, card = read_diffusers(folder, weights, label)
    return denoiser, card if label is None else {**card, "name": f"{card['name']}@{label}"}


def folder_of(source: str | Path) -> Path:
    """The folder of the model that a name or path means.

    Raises:
        ModelError: if there is no such model.
    """
    return locate(parted(source)[0])[0]


def kind_of(source: str | Path) -> str:
    """What kind of model a name or folder means, without loading it.

    Raises:
        ModelError: if there is no such model, or its card cannot be read.
    """
    folder, weights = locate(parted(source)[0])
    foreign = weights is not None and weights.suffix in ADM_SUFFIXES
    if foreign or not (folder / CARD).is_file():
        return KIND
    return str(read_json(folder / CARD).get("kind", KIND))


def bundled_models() -> list[str]:
    """Names of the models that come with certes."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{CARD}"))


def save_network(folder: Path, net: UNet, dtype: torch.dtype) -> None:
    """Write a network as diffusers would.

    Args:
        folder: where.
        net: the network.
        dtype: of the stored weights (bfloat16 halves the file and is what it computes in).
    """
    write_json(folder / CONFIG, {"_class_name": "UNet2DModel", **net.config.to_dict()})
    state = net.state_dict()
    write_tensors(folder / WEIGHTS, {name: value.to(dtype) for name, value in state.items()})


def save_model(
    folder: Path, denoiser: NetworkDenoiser, card: dict[str, Any], dtype: torch.dtype
) -> None:
    """Write a model folder, whole or not at all.

    Args:
        folder: where; a model that is there is replaced.
        denoiser: the network, its process, and its residual spectrum and rates if measured.
        card: ``name`` and whatever else is known (data, licence, scores); the process is added.
        dtype: of the stored weights.
    """
    with whole_model(folder, RESIDUALS, RATES) as hidden:
        save_network(hidden, denoiser.net, dtype)
        if denoiser.spectrum is not None:
            spectrum = {"levels": denoiser.spectrum.levels, "spectra": denoiser.spectrum.spectra}
            write_tensors(hidden / RESIDUALS, spectrum)
        if denoiser.rates is not None:
            write_json(hidden / RATES, denoiser.rates.to_dict())
        write_json(hidden / CARD, {**card, **reading(denoiser), "channels": denoiser.channels})


def reading(denoiser: NetworkDenoiser) -> dict[str, Any]:
    """How pictures become network inputs and its outputs estimates."""
    # Said only where it is not the rule, so that older folders keep their hash.
    head = {"head": denoiser.head} if denoiser.head == "range" else {}
    return {
        **head,
        "kind": KIND,
        "schedule": denoiser.schedule.to_config(),
        "prediction": denoiser.parametrisation.name,
        "center": denoiser.center,
        "scale": denoiser.scale,
        "inflation": denoiser.inflation,
    }


def digest_of(denoiser: NetworkDenoiser) -> str:
    """Hash of weights, configuration, process and residuals: equal digests answer equally."""
    description = {"config": denoiser.net.config.differences(), **reading(denoiser)}
    tensors: dict[str, Tensor] = dict(denoiser.net.state_dict())
    if denoiser.spectrum is not None:
        tensors |= {"levels": denoiser.spectrum.levels, "spectra": denoiser.spectrum.spectra}
    return digest(description, tensors)


def digest(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hash of words and numbers; sixteen hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def compute_device(device: str | torch.device | None) -> torch.device:
    """The device of that name; ``None``: the first GPU, else the CPU.

    Raises:
        ModelError: if it cannot be used.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"device: {str(device)!r} cannot be used ({reason})") from error


def parted(source: str | Path) -> tuple[str | Path, str]:
    """``source@WHICH`` as ``source`` and WHICH, if there is a ``source`` and no ``source@WHICH``.

    Of anything else, WHICH is empty.
    """
    place, at, which = str(source).rpartition("@")
    known = place in bundled_models() or (place and Path(place).exists())
    return (place, which) if at and known and not Path(source).exists() else (source, "")


def _with_label(source: str | Path, label: int | None) -> tuple[str | Path, int | None]:
    place, which = parted(source)
    return (place, int(which)) if label is None and which.isdecimal() else (source, label)


def locate(source: str | Path) -> tuple[Path, Path | None]:
    """The model's folder, and its weights file if that is what the user named.

    Raises:
        ModelError: if there is neither.
    """
    if source in bundled_models():
        return BUNDLED / source, None
    path = Path(source)
    if path.is_file():
        return path.parent, path
    if path.is_dir():
        return path, None
    raise ModelError(
        f"model: {str(source)!r} is neither a bundled model ({', '.join(bundled_models())}) "
        "nor a model folder"
    )


def _read_certes(folder: Path, weights: Path) -> tuple[NetworkDenoiser, dict[str, Any]]:
    card = read_json(folder / CARD)
    kind = str(card.get("kind", KIND))
    if kind != KIND:
        knows = _KNOW.get(kind, "answer nothing but conditions of their own")
        raise ModelError(
            f"model {folder}: {kind} models {knows} (certes restore, evaluate, calibrate); an "
            f"{KIND} one is wanted here: give another"
        )
    missing = [key for key in _ASKED if key not in card]
    if missing:
        raise ModelError(f"model {folder}: {CARD} does not say {', '.join(missing)}")
    check_numbers(card, "scale", "inflation", anywhere=("center",))
    denoiser = NetworkDenoiser(
        read_network(read_json(folder / CONFIG), weights, read_tensors(weights)),
        schedule_from_config(card["schedule"]),
        Parametrisation(card["prediction"]),
        card["center"],
        card["scale"],
        read_residuals(folder / RESIDUALS),
        card["inflation"],
        card.get("head"),
        RateCurve.from_dict(read_json(folder / RATES)) if (folder / RATES).is_file() else None,
    )
    return denoiser, card


def read_residuals(path: Path) -> ResidualSpectrum | None:
    """The residual spectrum of a model folder, if it has one.

    Raises:
        ModelError: for a file that holds none.
    """
    if not path.is_file():
        return None
    tensors = read_tensors(path)
    if set(tensors) != {"levels", "spectra"}:
        raise ModelError(f"model: {path} holds no residual spectrum")
    return ResidualSpectrum(tensors["levels"], tensors["spectra"])
