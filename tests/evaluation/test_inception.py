"""The Inception network: its published size, its peculiarities, another implementation of it."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import types
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from certes.evaluation.inception import Inception, Mixed, resize


@pytest.fixture(scope="module")
def net() -> Inception:
    torch.manual_seed(0)
    made = Inception().eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.running_mean, module.bias):
                nn.init.normal_(value, std=0.1)
            for value in (module.running_var, module.weight):
                nn.init.uniform_(value, 0.5, 1.5)
    return made


def test_it_has_the_published_size(net: Inception) -> None:
    """21,751,136 weights and 17,216 normalised channels, as without its classifier everywhere."""
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(m.weight.numel() for m in convolutions) == 21_751_136
    assert sum(m.num_features for m in norms) == 17_216
    assert (len(convolutions), net.fc.weight.shape) == (94, (1008, 2048))


@pytest.mark.parametrize("size", [(8, 8), (320, 17)])
def test_pictures_of_any_size(net: Inception, size: tuple[int, int]) -> None:
    with torch.no_grad():
        pooled, maps, logits = net(torch.rand(2, 3, *size) * 255)
    assert (pooled.shape, maps.shape, logits.shape) == ((2, 2048), (2, 192, 17, 17), (2, 1008))
    torch.testing.assert_close(logits, pooled @ net.fc.weight.T)


def test_resizing_starts_at_the_top_left() -> None:
    """Output i lies at i n / s: a ramp stays the ramp it was and ends where the picture does."""
    n, side = 7, 20
    ramp = torch.arange(n, dtype=torch.float64)
    expected = (torch.arange(side, dtype=torch.float64) * n / side).clamp(max=n - 1)
    rows = resize(ramp.reshape(1, 1, n, 1).expand(1, 1, n, n), side)[0, 0]
    columns = resize(ramp.expand(1, 1, n, n), side)[0, 0]
    torch.testing.assert_close(columns, expected.expand(side, side))
    torch.testing.assert_close(rows, expected[:, None].expand(side, side))


def test_resizing_does_not_smooth() -> None:
    """Every other pixel is taken as it is when a picture is halved."""
    picture = torch.rand(1, 2, 598, 598)
    assert torch.equal(resize(picture, 299), picture[..., ::2, ::2])


def test_means_leave_out_the_padding_and_maxima_are_maxima() -> None:
    mixed = Mixed(2, (), "mean", pooled=2)
    mixed.branch_pool = nn.Identity()
    ones = torch.ones(1, 2, 5, 5)
    assert torch.equal(mixed(ones), ones)
    mixed.pool = "max"
    corner = torch.zeros(1, 2, 5, 5)
    corner[..., 0, 0] = 1
    assert mixed(corner).sum(dim=(2, 3)).tolist() == [[4, 4]]


def test_agrees_with_torch_fidelity(net: Inception, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("torch_fidelity")
    if spec is None:
        pytest.skip("torch-fidelity is not installed (it needs torchvision, which certes does not)")
    # The package as a whole imports torchvision; the network in it does not need it.
    package = types.ModuleType("torch_fidelity")
    package.__path__ = list(spec.submodule_search_locations or [])
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    with tempfile.TemporaryDirectory() as folder:
        torch.save(net.state_dict(), Path(folder) / "weights.pth")
        features = ["2048", "logits_unbiased"]
        other = module.FeatureExtractorInceptionV3("x", features, f"{folder}/weights.pth")
    seen: list[Tensor] = []
    other.Mixed_6d.branch1x1.register_forward_hook(lambda _net, _in, out: seen.append(out))
    for size in ((32, 32), (64, 40), (299, 299), (350, 400)):
        pictures = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
        with torch.no_grad():
            expected: tuple[Tensor, ...] = other(pictures)
            pooled, maps, logits = net(pictures.float())
        torch.testing.assert_close(pooled, expected[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logits, expected[1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(maps, seen.pop(), rtol=1e-4, atol=1e-5)
