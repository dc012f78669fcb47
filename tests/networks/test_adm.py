"""guided-diffusion checkpoints, against azula's independent implementation of their network."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from certes.diffusion.schedules import linear_betas
from certes.errors import ModelError
from certes.networks import load, model
from certes.networks.adm import Flags, read_flags, unet_config
from certes.networks.adm_layout import read_layout, renamed
from certes.networks.classes import at_label
from certes.networks.files import read_network

from .conftest import scramble

# A network of every kind of part, small; what a checkpoint does not show comes last.
SHAPE: dict[str, Any] = {
    "num_channels": 32,
    "channel_mult": (1, 2),
    "num_res_blocks": 1,
    "attention_resolutions": (8,),
    "resblock_updown": True,
    "use_scale_shift_norm": True,
    "image_size": 16,
    "num_head_channels": 16,
}
VARIATIONS: dict[str, dict[str, Any]] = {
    "legacy-order": {},
    "new-order": {"use_new_attention_order": True},
    "heads-by-number": {"num_heads": 4, "num_head_channels": -1, "channel_mult": (1, 2, 3)},
    "fractional-width": {
        "num_channels": 64,
        "channel_mult": (0.5, 1),
        "attention_resolutions": (8,),
    },
    "attention-everywhere": {"attention_resolutions": (16, 8), "num_res_blocks": 2},
    "no-attention-but-the-middle": {"attention_resolutions": ()},
    "convolutions-resample": {"resblock_updown": False},
    "time-shifts-only": {"use_scale_shift_norm": False},
    "no-variance": {"learn_var": False},
    "one-level": {"channel_mult": (2,), "attention_resolutions": (16,)},
    "grey": {"image_channels": 1},
    "classes": {"num_classes": 5},
}
# Parameters of the published networks, as their authors and others count them.
COUNTS = {"imagenet_256x256": 552_814_086, "imagenet_128x128_cond": 421_529_606}


@pytest.fixture
def adm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # A downloader, which it imports and nothing here calls.
    monkeypatch.setitem(sys.modules, "gdown", ModuleType("gdown"))
    return pytest.importorskip("azula.plugins.adm", reason="azula is the oracle of ADM networks")


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(model, "inference_dtype", lambda place: torch.float32)


def oracle(adm: ModuleType, **changes: Any) -> Any:
    net = adm.make_model(**SHAPE | changes).backbone.eval()
    scramble(net)
    return net


def write(path: Path, net: Any, dtype: torch.dtype = torch.float32, **flags: Any) -> Path:
    """As guided-diffusion writes it, with the flags that it was trained with beside it."""
    torch.save({name: value.to(dtype) for name, value in net.state_dict().items()}, path)
    told = {key: flags[key] for key in asdict(Flags()) if key in flags}
    path.with_suffix(".json").write_text(json.dumps(told))
    return path


@torch.no_grad()
def error(net: Any, loaded: model.Model, label: Tensor | None = None) -> float:
    """Of our network's answer, relative to its size."""
    x = torch.randn(2, loaded.channels, 16, 16, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([3.0, 700.0])
    expected = net(x, t, label)
    assert expected.std() > 0.1
    return float((loaded.denoiser.net(x, t) - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("kind", VARIATIONS)
def test_networks(adm: ModuleType, tmp_path: Path, kind: str) -> None:
    flags = SHAPE | VARIATIONS[kind]
    net = oracle(adm, **VARIATIONS[kind])
    label = 3 if kind == "classes" else None
    loaded = load(write(tmp_path / "net.pt", net, **flags), "cpu", label)
    assert loaded.denoiser.head == (None if kind == "no-variance" else "range")
    assert loaded.denoiser.net.config.sample_size == 16
    assert error(net, loaded, None if label is None else torch.tensor([3, 3])) < 1e-5


@pytest.mark.parametrize("kind", ["legacy-order", "new-order"])
def test_the_wrong_attention_order_shows(adm: ModuleType, tmp_path: Path, kind: str) -> None:
    flags = SHAPE | VARIATIONS[kind]
    net = oracle(adm, **flags)
    wrong = flags | {"use_new_attention_order": kind == "legacy-order"}
    assert error(net, load(write(tmp_path / "net.pt", net, **wrong), "cpu")) > 1e-3


def test_half_precision_weights(adm: ModuleType, tmp_path: Path) -> None:
    net = oracle(adm)
    loaded = load(write(tmp_path / "net.pt", net, torch.float16, **SHAPE), "cpu")
    assert error(net.half().float(), loaded) < 1e-5
    assert loaded.denoiser.net.conv_in.weight.dtype == torch.float32


@torch.no_grad()
def test_pictures_and_variances(adm: ModuleType, tmp_path: Path) -> None:
    net = oracle(adm)
    loaded = load(write(tmp_path / "net.pt", net, noise_schedule="cosine", **SHAPE), "cpu")
    assert (loaded.name, loaded.card["source"]) == ("net", "guided-diffusion")
    index, x0 = torch.tensor([1, 400, 900]), torch.rand(3, 3, 16, 16).double()
    u = torch.arange(1001, dtype=torch.float64) / 1000
    alpha_bar = torch.cos((u + 0.008) / 1.008 * torch.pi / 2) ** 2
    alpha_bar = (alpha_bar / alpha_bar[0])[index + 1, None, None, None]
    sigma = (1 / alpha_bar - 1).sqrt()
    x = 2 * x0 - 1 + sigma * torch.randn(3, 3, 16, 16).double()
    e, v = net((alpha_bar.sqrt() * x).float(), index).double().chunk(2, dim=1)
    answer = loaded((x + 1) / 2, sigma.flatten() / 2)
    off = (2 * answer.mean - 1 - (x - sigma * e)) / (1 + sigma)
    assert off.abs().max() < 1e-4
    # At the upper end of the range nothing is known, at the lower end all is.
    known = (4 * answer.variance / (1 - alpha_bar)).clamp(max=1)
    assert bool((known[v > 1] > 0.999).all())
    assert bool((known[v < -1] < 1e-3).all())


def published(adm: ModuleType) -> dict[str, dict[str, Any]]:
    from azula.plugins.utils import load_cards

    cards = {name: dict(card.config) for name, card in load_cards(adm.__name__).items()}
    # Attention at pictures of sides 32, 16 and 8, of 512: 558,997,638 parameters ("559M").
    cards["imagenet_512x512_cond"]["image_size"] = 512
    return cards


def test_published_shapes(adm: ModuleType) -> None:
    """On no device: they hold up to half a billion parameters."""
    for name, card in published(adm).items():
        with torch.device("meta"):
            state = adm.make_model(**card).backbone.state_dict()
        count = sum(value.numel() for value in state.values())
        assert count == COUNTS.get(name, count)
        layout = read_layout(state, Path(name))
        flags = read_flags(layout, Path(name))
        told = {key: card[key] for key in asdict(flags) if key in card}
        said = Flags(**told, noise_schedule=card["discrete_schedule"])
        assert flags.schedule() == said.schedule()
        assert flags.image_size == said.image_size
        assert flags.use_new_attention_order == said.use_new_attention_order
        parameters = renamed(state, layout, flags.heads, flags.use_new_attention_order)
        label = None if layout.classes is None else layout.classes - 1
        net = read_network(*at_label(unet_config(layout, flags), Path(name), parameters, label))
        classes = 0 if layout.classes is None else layout.classes * layout.embedding
        assert sum(value.numel() for value in net.parameters()) + classes == count
        assert net.config.out_channels == 6
        heads = {m.to_q.in_features: m.heads for m in net.modules() if hasattr(m, "heads")}
        assert heads == {channels: said.heads(channels) for channels in heads}


def test_schedules() -> None:
    assert Flags().schedule() == linear_betas()
    short = Flags(diffusion_steps=250).schedule()  # as noisy at the end, in a quarter of the steps
    assert (short.steps, short.betas[0], short.betas[-1]) == (250, 4e-4, pytest.approx(0.08))
    with pytest.raises(ModelError, match="'sigmoid'"):
        Flags(noise_schedule="sigmoid").schedule()


Change = Callable[[dict[str, Tensor]], object]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda s: s.update({"input_blocks.0.0.weight": torch.zeros(32, 6, 3, 3)}),
            "6 input channels: an upsampler",
        ),
        (
            lambda s: [s.pop(name) for name in list(s) if name.startswith("output_blocks")],
            "is a classifier",
        ),
        (lambda s: s.pop("time_embed.0.weight"), "no guided-diffusion checkpoint"),
        (lambda s: s.pop("out.2.weight"), "'out.2.weight' not found"),
        (lambda s: s.pop("out.2.bias"), "first difference: conv_out.bias"),
        (lambda s: s.update({"another": torch.zeros(1)}), "first difference: another"),
    ],
)
def test_what_is_something_else(
    adm: ModuleType, tmp_path: Path, change: Change, named: str
) -> None:
    state = dict(oracle(adm).state_dict())
    change(state)
    path = tmp_path / "net.pt"
    torch.save(state, path)
    path.with_suffix(".json").write_text(json.dumps({"num_head_channels": 16, "image_size": 16}))
    with pytest.raises(ModelError, match=named):
        load(path)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (None, "no published shape.*net.json beside it: image_size, num_heads"),
        ({"num_channels": 32}, "says num_channels; understood are image_size"),
        ({"diffusion_steps": "1000"}, "says diffusion_steps"),
        ({"num_head_channels": 24}, "do not share 64 channels evenly"),
    ],
)
def test_flags_that_are_missing_or_wrong(
    adm: ModuleType, tmp_path: Path, flags: dict[str, Any] | None, named: str
) -> None:
    path = write(tmp_path / "net.pt", oracle(adm))
    path.with_suffix(".json").unlink()
    if flags is not None:
        path.with_suffix(".json").write_text(json.dumps(flags))
    with pytest.raises(ModelError, match=named):
        load(path)


def test_labels(adm: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = oracle(adm, num_classes=5)
    path = write(tmp_path / "net.pt", net, **SHAPE)
    first, second = load(f"{path}@0", "cpu"), load(path, "cpu", label=4)
    assert (first.name, second.name) == ("net@0", "net@4")
    assert first.hash != second.hash == load(f"{path}@4").hash
    assert error(net, first, torch.tensor([0, 0])) < 1e-5 < error(net, first, torch.tensor([1, 1]))
    monkeypatch.chdir(tmp_path)
    assert load("net.pt@4").hash == second.hash
    with pytest.raises(
        ModelError, match=r"none given; .* knows 5 classes, .*PATH@N, N from 0 to 4"
    ):
        load(path)
    with pytest.raises(ModelError, match="5 given"):
        load(f"{path}@5")
    with pytest.raises(ModelError, match="neither a bundled model"):
        load("absent.pt@1")
    with pytest.raises(ModelError, match="knows no classes"):
        load(write(tmp_path / "plain.pt", oracle(adm), **SHAPE), label=0)
