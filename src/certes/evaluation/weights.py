"""The Inception network of published scores, from a file that the user has.

Either of two files that hold the same weights will do; both are told by their hash, and scores made
with another file do not carry the published names.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from certes.errors import InputError, ModelError
from certes.evaluation.features import (
    FeatureNetwork,
    Features,
    custom_features,
    flattened,
    to_bytes,
)
from certes.evaluation.inception import Inception
from certes.networks.files import read_tensors
from certes.networks.model import compute_device

Extract = Callable[[Float[Tensor, "b 3 h w"]], Features]

PUBLISHED = {
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2": (
        "pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer/pytorch-fid/releases/tag/fid_weights",
    ),
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4": (
        "inception-2015-12-05.pt",
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/",
    ),
}
"""SHA-256 of the files: their names, and where they are to be had."""


def inception_features(
    weights: str | Path | None, device: torch.device | str | None = None
) -> FeatureNetwork:
    """The network of FID, KID, sFID and the Inception score.

    Pictures are rounded to 8 bit and brought to 299 x 299 as the original does.

    Args:
        weights: a local file: parameters by name, or a TorchScript archive, which has neither
            spatial features nor logits. It is never downloaded.
        device: where to compute; default: the first GPU, else the CPU.

    Raises:
        InputError: without a file; the line says where to get it.
        ModelError: when the file is missing, damaged or of another network.
    """
    if weights is None:
        places = " or ".join(f"{name} ({place})" for name, place in PUBLISHED.values())
        raise InputError(
            f"weights: the Inception network's are not part of certes: download {places}, "
            "and give the file with --weights; or compare the features of a model instead"
        )
    path = Path(weights)
    if not path.is_file():
        raise ModelError(f"weights: {path} is no file")
    published = _sha256(path) in PUBLISHED
    name = "Inception" if published else f"Inception with the weights of {path.name}"
    extract = (_scripted if is_script(path) else _by_name)(path, compute_device(device))
    return FeatureNetwork(name, extract, channels=3, published=published)


def script_features(path: str | Path, device: torch.device | str | None = None) -> FeatureNetwork:
    """A network of the user's in a TorchScript archive, from (b, 3, h, w) in [0, 1] to features.

    Raises: ModelError when the file is missing or no such archive.
    """
    place = compute_device(device)
    script = _load_script(Path(path), place)
    return custom_features(Path(path).name, lambda pictures: script(pictures.to(place)))


def is_script(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _by_name(path: Path, device: torch.device) -> Extract:
    net = Inception().eval()
    try:
        net.load_state_dict(read_tensors(path))
    except RuntimeError as error:
        raise ModelError(f"weights: {path} holds another network than Inception") from error
    net = net.to(device)

    def extract(pictures: Float[Tensor, "b 3 h w"]) -> Features:
        pooled, maps, logits = net(to_bytes(pictures).to(device).float())
        return Features(pooled, flattened(maps), logits)

    return extract


def _scripted(path: Path, device: torch.device) -> Extract:
    script = _load_script(path, device)
    if "return_features" not in {argument.name for argument in script.forward.schema.arguments}:
        raise ModelError(
            f"weights: {path} does not know return_features, as the Inception archive does: "
            "give it as the feature network itself, with --features"
        )
    return lambda pictures: Features(script(to_bytes(pictures).to(device), return_features=True))


def _load_script(path: Path, device: torch.device) -> Any:
    if not path.is_file() or not is_script(path):
        raise ModelError(f"features: {path} is no TorchScript archive")
    try:
        return cast(Any, torch.jit).load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"features: {path} is damaged ({reason})") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
