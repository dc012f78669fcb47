"""LPIPS: how different two pictures look, by what a classifier of photographs sees in them.

Nothing is ever downloaded: the user gives the two files that hold the weights. Scores made with
other files than the published ones do not carry the published name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from certes.errors import InputError, ModelError
from certes.evaluation.features import with_channels
from certes.evaluation.metrics import check_shapes
from certes.networks.files import read_tensors
from certes.networks.model import compute_device

_SHIFT = torch.tensor([-0.030, -0.088, -0.188])
_SCALE = torch.tensor([0.458, 0.448, 0.450])
"""What the mean and the standard deviation of ImageNet's colours are in units of [-1, 1]."""
_LEAST_NORM = 1e-10


class Conv(NamedTuple):
    """A convolution, and the ReLU after it; `seen` where the distance looks at its output."""

    width: int
    kernel: int
    padding: int
    stride: int = 1
    seen: bool = True


@dataclass(frozen=True)
class Backbone:
    """The convolutions of a classifier, in the order of torchvision's `features`.

    `steps` are convolutions and, as a number, the kernel of a maximum at every other pixel;
    `least` is the smallest side of a picture, in pixels, of which something is left at the end.
    `classifier` begins the SHA-256 of torchvision's file (it ends its name), `layers` is that of
    the distance's own file.
    """

    steps: tuple[Conv | int, ...]
    least: int
    files: tuple[str, str]
    classifier: tuple[str, ...]
    layers: str

    @property
    def widths(self) -> list[int]:
        """Channels of what the distance looks at."""
        return [step.width for step in self.steps if isinstance(step, Conv) and step.seen]


def _vgg_block(width: int, count: int) -> tuple[Conv, ...]:
    return (*(Conv(width, 3, 1, seen=False) for _ in range(count - 1)), Conv(width, 3, 1))


BACKBONES = {
    "alex": Backbone(
        (
            Conv(64, 11, 2, stride=4),
            3,
            Conv(192, 5, 2),
            3,
            Conv(384, 3, 1),
            Conv(256, 3, 1),
            Conv(256, 3, 1),
        ),
        least=31,
        files=("alexnet-owt-7be5be79.pth", "alex.pth"),
        classifier=("7be5be79", "4df8aa71"),
        layers="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    ),
    "vgg": Backbone(
        (
            *_vgg_block(64, 2),
            2,
            *_vgg_block(128, 2),
            2,
            *_vgg_block(256, 3),
            2,
            *_vgg_block(512, 3),
            2,
            *_vgg_block(512, 3),
        ),
        least=16,
        files=("vgg16-397923af.pth", "vgg.pth"),
        classifier=("397923af",),
        layers="a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    ),
}
"""The networks: AlexNet (Krizhevsky 2014), which most published scores use, and VGG-16."""


class Lpips(nn.Module):
    r"""The distance, from two batches of pictures in [0, 1] to one number a pair.

    With :math:`\hat f^l` the activations of layer l, each pixel's divided by their norm, and
    weights :math:`w^l` (not negative) of their channels,

    .. math:: d(x, x') = \sum_l \frac{1}{H_l W_l} \sum_{hw} \sum_c w^l_c (\hat f^l_{chw}(x) -
        \hat f^l_{chw}(x'))^2.

    It is 0 for equal pictures and the same both ways. Parameter names are those of torchvision
    (`features`) and of the original (`lin0`, ...).

    Source: Zhang, Isola, Efros, Shechtman, Wang, The unreasonable effectiveness of deep features as
    a perceptual metric (CVPR 2018), version 0.1 of its weights.

    Args:
        backbone: the network.
        name: what scores are labelled with.
        published: whether the weights are the published ones.
    """

    def __init__(self, backbone: Backbone, name: str, published: bool = False) -> None:
        super().__init__()
        self.backbone, self.name, self.published = backbone, name, published
        modules = _modules(backbone)
        self.features = nn.Sequential(*(module for module, _ in modules))
        self._looks = [look for _, look in modules]
        for index, width in enumerate(backbone.widths):
            self.add_module(f"lin{index}", _layer(width))

    def forward(
        self, x: Float[Tensor, "b c h w"], reference: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, " b"]:
        """Compare pictures; grey ones are repeated.

        Raises: InputError for pictures of different shapes, of other channels than 1 or 3, or too
        small for the network.
        """
        _check_pictures(x, reference, self.backbone.least)
        with torch.no_grad():
            pairs = zip(self._seen(x), self._seen(reference), strict=True)
            distances = [self._distance(index, a, b) for index, (a, b) in enumerate(pairs)]
        return torch.stack(distances).sum(dim=0).cpu()

    def _distance(self, index: int, a: Tensor, b: Tensor) -> Float[Tensor, " b"]:
        weighted = self.get_submodule(f"lin{index}.model")((a - b).square())
        return weighted.mean(dim=(1, 2, 3))

    def _seen(self, x: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b d h2 w2"]]:
        place = next(self.parameters()).device
        x = with_channels(x, 3).to(place, torch.float32) * 2 - 1
        shift, scale = (value.to(place)[:, None, None] for value in (_SHIFT, _SCALE))
        x = (x - shift) / scale
        seen: list[Tensor] = []
        for module, look in zip(self.features, self._looks, strict=True):
            x = module(x)
            if look:
                norm = x.square().sum(dim=1, keepdim=True).sqrt()
                seen.append(x / (norm + _LEAST_NORM))
        return seen


def load_lpips(
    classifier: str | Path | None,
    layers: str | Path | None,
    network: str = "alex",
    device: torch.device | str | None = None,
) -> Lpips:
    """The distance with the weights of two local files, safetensors or pickles of tensors.

    Args:
        classifier: torchvision's parameters of the classifier; only `features` are used.
        layers: the parameters of the distance's own layers (version 0.1).
        network: `alex` or `vgg`.
        device: where to compute; default: the first GPU, else the CPU.

    Raises:
        InputError: an unknown network, or no files; the line says where to get them.
        ModelError: when a file is missing, damaged or of another network.
    """
    if network not in BACKBONES:
        raise InputError(f"network: {network!r}; give one of {', '.join(BACKBONES)}")
    backbone = BACKBONES[network]
    if classifier is None or layers is None:
        raise InputError(
            f"weights: those of LPIPS are not part of certes: download {backbone.files[0]} "
            f"(https://download.pytorch.org/models/) and {backbone.files[1]} "
            "(https://github.com/richzhang/PerceptualSimilarity, lpips/weights/v0.1), and give both"
        )
    paths = Path(classifier), Path(layers)
    features = {
        name: value for name, value in read_tensors(paths[0]).items() if name.startswith("features")
    }
    published = _published(backbone, *paths)
    weights = "" if published else f" with the weights of {paths[0].name} and {paths[1].name}"
    net = Lpips(backbone, f"LPIPS ({network}){weights}", published)
    try:
        net.load_state_dict({**features, **read_tensors(paths[1])})
    except RuntimeError as error:
        raise ModelError(
            f"weights: {paths[0]} and {paths[1]} are not those of LPIPS with the network {network}"
        ) from error
    return net.eval().to(compute_device(device))


def _modules(backbone: Backbone) -> list[tuple[nn.Module, bool]]:
    """Each with whether the distance looks at what comes out of it."""
    modules: list[tuple[nn.Module, bool]] = []
    channels = 3
    for step in backbone.steps:
        if isinstance(step, Conv):
            conv = nn.Conv2d(channels, step.width, step.kernel, step.stride, step.padding)
            modules += [(conv, False), (nn.ReLU(), step.seen)]
            channels = step.width
        else:
            modules.append((nn.MaxPool2d(step, 2), False))
    return modules


def _layer(width: int) -> nn.Module:
    """One weight a channel; the original has a dropout before it, which scores do not use."""
    layer = nn.Module()
    layer.add_module("model", nn.Sequential(nn.Identity(), nn.Conv2d(width, 1, 1, bias=False)))
    return layer


def _check_pictures(x: Tensor, reference: Tensor, least: int) -> None:
    check_shapes(x, reference)
    height, width = x.shape[-2:]
    if min(height, width) < least:
        raise InputError(
            f"x: {width} x {height} pixels; this network needs {least} a side: "
            "enlarge both pictures alike"
        )


def _published(backbone: Backbone, classifier: Path, layers: Path) -> bool:
    digest = _sha256(classifier)
    known = any(digest.startswith(start) for start in backbone.classifier)
    return known and _sha256(layers) == backbone.layers


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
