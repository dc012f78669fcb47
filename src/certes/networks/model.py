"""Models: a denoiser with a name, a hash and a card; loaded by name or from a folder.

A certes folder is ``config.json`` and ``diffusion_pytorch_model.safetensors`` (the layout of
diffusers) with ``certes.json`` (what the network predicts, of what, and what it was trained on) and
``residuals.safetensors`` (its error spectrum per noise level). A plain diffusers DDPM folder loads
too. No pickle is ever read unless the user passes that very file, and then without code.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from certes.data.files import atomic_path, write_json
from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.residuals import ResidualSpectrum
from certes.diffusion.schedules import schedule_from_config
from certes.errors import ModelError
from certes.networks.denoiser import NetworkDenoiser, inference_dtype
from certes.networks.unet import UNet, UNetConfig

BUNDLED = Path(__file__).parent.parent / "models"
CARD, CONFIG = "certes.json", "config.json"
WEIGHTS, RESIDUALS = "diffusion_pytorch_model.safetensors", "residuals.safetensors"


class Model(Denoiser):
    """A trained denoiser and what is known of it.

    Args:
        name: how people call it.
        denoiser: the network with its process.
        card: the content of ``certes.json``.
        digest: hash of everything that its answers depend on.
    """

    def __init__(
        self, name: str, denoiser: NetworkDenoiser, card: dict[str, Any], digest: str
    ) -> None:
        self.name = name
        self.denoiser = denoiser
        self.card = card
        self.hash = digest

    def __call__(self, x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Denoised:
        return self.denoiser(x, sigma)

    def covariance(self, denoised: Denoised, sigma: Float[Tensor, " b"]) -> Covariance:
        return self.denoiser.covariance(denoised, sigma)

    @property
    def channels(self) -> int:
        """Colour channels of the pictures it knows."""
        return self.denoiser.channels

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.denoiser.device


def load(source: str | Path, device: str | torch.device | None = None) -> Model:
    """Load a model.

    Args:
        source: a bundled name (``certes models list``), a model folder, a diffusers DDPM folder, or
            the weights file (``.safetensors`` or, at your word, ``.bin``) inside one.
        device: where it shall compute; default: the first GPU, else the CPU.

    Raises:
        ModelError: if there is no such model, or it cannot be read.
    """
    folder, weights = _locate(Path(source))
    if (folder / CARD).is_file():
        name, denoiser, card = _read_certes(folder, weights or folder / WEIGHTS)
    else:
        from certes.networks.foreign import read_diffusers

        name, denoiser, card = read_diffusers(folder, weights)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    digest = digest_of(denoiser)
    denoiser.net.to(device=place, dtype=inference_dtype(place))
    denoiser.net.to(memory_format=torch.channels_last).eval()  # pyright: ignore
    return Model(name, denoiser, card, digest)


def bundled_models() -> list[str]:
    """Names of the models that come with certes."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{CARD}"))


def _locate(source: Path) -> tuple[Path, Path | None]:
    if source.is_file():
        return source.parent, source
    if source.is_dir():
        return source, None
    if len(source.parts) == 1 and (BUNDLED / source / CARD).is_file():
        return BUNDLED / source, None
    raise ModelError(
        f"model: {str(source)!r} is neither a bundled model ({', '.join(bundled_models())}) "
        "nor a model folder"
    )


def _read_certes(folder: Path, weights: Path) -> tuple[str, NetworkDenoiser, dict[str, Any]]:
    card = read_json(folder / CARD)
    if card.get("kind") != "unconditional":
        raise ModelError(f"model {folder}: kind {card.get('kind')!r} is not supported; expected 'unconditional'")
    net = UNet(UNetConfig.from_dict(read_json(folder / CONFIG)))
    read_weights(net, read_tensors(weights), weights)
    denoiser = NetworkDenoiser(
        net,
        schedule_from_config(card["schedule"]),
        Parametrisation(card["prediction"]),
        card["center"],
        card["scale"],
        _read_residuals(folder / RESIDUALS),
    )
    return card["name"], denoiser, card


def _read_residuals(path: Path) -> ResidualSpectrum | None:
    if not path.is_file():
        return None
    tensors = read_tensors(path)
    return ResidualSpectrum(tensors["levels"], tensors["spectra"].float())


def save_model(
    folder: Path, denoiser: NetworkDenoiser, card: dict[str, Any], dtype: torch.dtype
) -> None:
    """Write a model folder; each file is replaced atomically, ``certes.json`` last.

    Args:
        folder: where.
        denoiser: the network, its process, and its residual spectrum if measured.
        card: ``name`` and whatever else is known (data, licence, scores); the process is added.
        dtype: of the stored weights (bfloat16 halves the file and is what it computes in).
    """
    config = {"_class_name": "UNet2DModel", **_config_dict(denoiser.net.config)}
    write_json(folder / CONFIG, config)
    state = {k: v.detach().cpu().to(dtype) for k, v in denoiser.net.state_dict().items()}
    _write_tensors(folder / WEIGHTS, state)
    if denoiser.spectrum is not None:
        spectrum = denoiser.spectrum
        tensors = {"levels": spectrum.levels, "spectra": spectrum.spectra.to(torch.float32)}
        _write_tensors(folder / RESIDUALS, tensors)
    process = {
        "kind": "unconditional",
        "schedule": denoiser.schedule.to_config(),
        "prediction": denoiser.parametrisation.name,
        "center": denoiser.center,
        "scale": denoiser.scale,
        "channels": denoiser.channels,
    }
    write_json(folder / CARD, {**card, **process})


def digest_of(denoiser: NetworkDenoiser) -> str:
    """Hash of weights, configuration, process and residuals: equal digests answer equally."""
    digest = hashlib.sha256()
    description = {
        "config": _config_dict(denoiser.net.config),
        "schedule": denoiser.schedule.to_config(),
        "reading": [denoiser.parametrisation.name, denoiser.center, denoiser.scale],
    }
    digest.update(json.dumps(description, sort_keys=True).encode())
    tensors = dict(denoiser.net.state_dict())
    if denoiser.spectrum is not None:
        tensors |= {"levels": denoiser.spectrum.levels, "spectra": denoiser.spectrum.spectra}
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _config_dict(config: UNetConfig) -> dict[str, Any]:
    return json.loads(json.dumps(config.__dict__))


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    with atomic_path(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder.

    Raises:
        ModelError: if it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ModelError(f"model {path.parent}: {path.name} is missing") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"model {path.parent}: {path.name} is not JSON ({error})") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a ``.bin`` that the user named (no code is run).

    Raises:
        ModelError: if it is missing or damaged.
    """
    if not path.is_file():
        raise ModelError(f"model {path.parent}: {path.name} is missing")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise ModelError(f"model: {path} is damaged ({error})") from error


def read_weights(net: UNet, state: dict[str, Tensor], path: Path) -> None:
    """Fill a network, naming what does not fit.

    Raises:
        ModelError: if names or shapes differ from what the configuration asks for.
    """
    wanted = net.state_dict()
    wrong = sorted(set(wanted) ^ set(state)) or [
        k for k in wanted if wanted[k].shape != state[k].shape
    ]
    if wrong:
        raise ModelError(f"model: {path} does not fit its config.json (first difference: {wrong[0]})")
    net.load_state_dict(state)
