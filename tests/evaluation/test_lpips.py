"""LPIPS with random weights, against its formula written out, and its files."""

from __future__ import annotations

import dataclasses
import hashlib
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from certes.errors import InputError, ModelError
from certes.evaluation import lpips
from certes.evaluation.lpips import BACKBONES, Lpips, load_lpips

Layers = list[tuple[int, int, int, bool]]

# Index in torchvision's `features`, stride, padding, and whether LPIPS looks there; a maximum over
# windows of that size, at every other pixel, is (0, size, 0, False).
ALEX: Layers = [
    (0, 4, 2, True),
    (0, 3, 0, False),
    (3, 1, 2, True),
    (0, 3, 0, False),
    (6, 1, 1, True),
    (8, 1, 1, True),
    (10, 1, 1, True),
]
VGG: Layers = [
    *((index, 1, 1, index == 2) for index in (0, 2)),
    (0, 2, 0, False),
    *((index, 1, 1, index == 7) for index in (5, 7)),
    (0, 2, 0, False),
    *((index, 1, 1, index == 14) for index in (10, 12, 14)),
    (0, 2, 0, False),
    *((index, 1, 1, index == 21) for index in (17, 19, 21)),
    (0, 2, 0, False),
    *((index, 1, 1, index == 28) for index in (24, 26, 28)),
]
# (output channels, input channels, kernel) of the published AlexNet, by index.
SHAPES = {
    0: (64, 3, 11),
    3: (192, 64, 5),
    6: (384, 192, 3),
    8: (256, 384, 3),
    10: (256, 256, 3),
}


def random_net(network: str) -> Lpips:
    """Weights of the distance's own layers are not negative, as the published ones are."""
    torch.manual_seed(0)
    net = Lpips(BACKBONES[network], network).eval()
    for name, parameter in net.named_parameters():
        if name.startswith("lin"):
            parameter.data = torch.rand_like(parameter)
    return net


def maps(state: dict[str, Tensor], layers: Layers, x: Tensor) -> list[Tensor]:
    x = x.expand(-1, 3, -1, -1).double() * 2 - 1
    x = torch.stack(
        [
            (x[:, 0] + 0.030) / 0.458,
            (x[:, 1] + 0.088) / 0.448,
            (x[:, 2] + 0.188) / 0.450,
        ],
        dim=1,
    )
    seen: list[Tensor] = []
    for index, stride, padding, look in layers:
        if (index, padding) == (0, 0):
            x = F.max_pool2d(x, stride, 2)
            continue
        weight, bias = (state[f"features.{index}.{part}"].double() for part in ("weight", "bias"))
        x = F.conv2d(x, weight, bias, stride, padding).clamp(min=0)
        if look:
            seen.append(x)
    return seen


def written_out(state: dict[str, Tensor], layers: Layers, x: Tensor, y: Tensor) -> list[float]:
    """Pixel by pixel, each one's features divided by their length."""
    totals = [0.0] * len(x)
    pairs = zip(maps(state, layers, x), maps(state, layers, y), strict=True)
    for level, (a, b) in enumerate(pairs):
        weights = state[f"lin{level}.model.1.weight"].double().flatten()
        for picture in range(len(x)):
            pixels = a[picture].flatten(1).T, b[picture].flatten(1).T
            for one, other in zip(*pixels, strict=True):
                off = one / (one.norm() + 1e-10) - other / (other.norm() + 1e-10)
                totals[picture] += float(weights @ off.square()) / len(pixels[0])
    return totals


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("network", "layers"), [("alex", ALEX), ("vgg", VGG)])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_the_formula(network: str, layers: Layers, channels: int) -> None:
    net = random_net(network)
    x, y = pictures(2, channels, 35, 32), pictures(2, channels, 35, 32, seed=1)
    state = net.state_dict()
    wanted = written_out(state, layers, x, y)
    assert net(x, y).tolist() == pytest.approx(wanted, rel=1e-4)
    # The control: the same with pictures in [0, 1] instead of [-1, 1].
    shrunk = written_out(state, layers, (x + 1) / 2, (y + 1) / 2)
    assert shrunk != pytest.approx(wanted, rel=1e-2)


def test_zero_for_equal_pictures_and_the_same_both_ways() -> None:
    net = random_net("alex")
    x, y = pictures(3, 3, 40, 40), pictures(3, 3, 40, 40, seed=1)
    assert net(x, x).tolist() == [0, 0, 0]
    torch.testing.assert_close(net(x, y), net(y, x))
    assert net(x, y).min() > 0
    near = net(x, x + 0.01 * (y - x))
    assert (near < 0.1 * net(x, y)).all()


def test_each_pair_by_itself() -> None:
    net = random_net("alex")
    x, y = pictures(3, 3, 32, 32), pictures(3, 3, 32, 32, seed=1)
    single = torch.cat([net(a[None], b[None]) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(net(x, y), single)


def test_names_and_shapes_are_the_published_ones() -> None:
    state = random_net("alex").state_dict()
    wanted = {f"features.{i}.weight": (a, b, k, k) for i, (a, b, k) in SHAPES.items()}
    wanted |= {f"features.{i}.bias": (a,) for i, (a, _, _) in SHAPES.items()}
    widths = [64, 192, 384, 256, 256]
    wanted |= {f"lin{i}.model.1.weight": (1, width, 1, 1) for i, width in enumerate(widths)}
    assert {name: tuple(value.shape) for name, value in state.items()} == wanted


def save_parts(net: Lpips, folder: Path) -> tuple[Path, Path]:
    """A classifier's file, which has more than features, and one of the layers."""
    state = net.state_dict()
    features = {name: value for name, value in state.items() if name.startswith("features")}
    layers = {name: value for name, value in state.items() if name.startswith("lin")}
    torch.save({**features, "classifier.1.weight": torch.zeros(2)}, folder / "classifier.pth")
    save_file(layers, folder / "layers.safetensors")
    return folder / "classifier.pth", folder / "layers.safetensors"


def test_files_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = random_net("alex")
    files = save_parts(net, tmp_path)
    loaded = load_lpips(*files, device="cpu")
    x, y = pictures(1, 3, 32, 32), pictures(1, 3, 32, 32, seed=1)
    assert torch.equal(loaded(x, y), net(x, y))
    named = "LPIPS (alex) with the weights of classifier.pth and layers.safetensors"
    assert (loaded.name, loaded.published) == (named, False)
    one, two = (hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    known = dataclasses.replace(BACKBONES["alex"], classifier=(one[:8],), layers=two)
    monkeypatch.setitem(lpips.BACKBONES, "alex", known)
    assert load_lpips(*files, device="cpu").name == "LPIPS (alex)"
    assert load_lpips(*files, device="cpu").published
    half = dataclasses.replace(BACKBONES["alex"], classifier=("0" * 8,))
    monkeypatch.setitem(lpips.BACKBONES, "alex", half)
    assert not load_lpips(*files, device="cpu").published


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_the_published_layers_fit(tmp_path: Path, network: str) -> None:
    """torchmetrics ships them; the classifiers, which it does not, are random here."""
    spec = find_spec("torchmetrics")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "functional" / "image" / "lpips_models"
    layers = folder / BACKBONES[network].files[1]
    classifier, _ = save_parts(random_net(network), tmp_path)
    net = load_lpips(classifier, layers, network, device="cpu")
    assert hashlib.sha256(layers.read_bytes()).hexdigest() == BACKBONES[network].layers
    weights = [value for name, value in net.state_dict().items() if name.startswith("lin")]
    assert all(float(value.min()) >= 0 for value in weights)


def test_files_that_are_missing_or_hold_something_else(tmp_path: Path) -> None:
    classifier, layers = save_parts(random_net("alex"), tmp_path)
    with pytest.raises(InputError, match=r"download alexnet-owt-7be5be79\.pth .* and alex\.pth"):
        load_lpips(classifier, None)
    with pytest.raises(InputError, match="network: 'squeeze'; give one of alex, vgg"):
        load_lpips(classifier, layers, "squeeze")
    with pytest.raises(ModelError, match="nowhere is missing"):
        load_lpips(classifier, tmp_path / "nowhere")
    with pytest.raises(ModelError, match="are not those of LPIPS with the network vgg"):
        load_lpips(classifier, layers, "vgg")
    with pytest.raises(ModelError, match="are not those of LPIPS with the network alex"):
        load_lpips(layers, classifier)
    (tmp_path / "noise.pth").write_bytes(b"no weights at all" * 50)
    with pytest.raises(ModelError, match="damaged or holds no weights"):
        load_lpips(tmp_path / "noise.pth", layers)


@pytest.mark.parametrize(("network", "least"), [("alex", 31), ("vgg", 16)])
def test_the_smallest_pictures(network: str, least: int) -> None:
    net = random_net(network)
    x = pictures(1, 3, least, least)
    assert float(net(x, 1 - x)) > 0
    with pytest.raises(InputError, match=f"this network needs {least} a side"):
        net(x[..., 1:], x[..., 1:])
    # One pixel less would indeed leave nothing to look at.
    with pytest.raises(RuntimeError, match="too small"):
        net.features(x[..., 1:])


def test_pictures_that_cannot_be_compared() -> None:
    net = random_net("alex")
    with pytest.raises(InputError, match="same size and channels"):
        net(torch.zeros(1, 1, 32, 32), torch.zeros(1, 3, 32, 32))
    with pytest.raises(InputError, match="2 channels for a feature network of 3"):
        net(torch.zeros(1, 2, 32, 32), torch.zeros(1, 2, 32, 32))
