"""Model folders: what is written is what is read, and damage is named in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.rates import RateCurve
from certes.diffusion.schedules import linear_betas
from certes.errors import ModelError
from certes.networks import Model, NetworkDenoiser, load
from certes.networks import model as model_module
from certes.networks.model import CARD, RATES, RESIDUALS, bundled_models, digest_of, save_model

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
Make = Callable[..., NetworkDenoiser]


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are compared, so the machine's precision must not matter."""
    monkeypatch.setattr(model_module, "inference_dtype", lambda place: torch.float32)


@pytest.fixture
def folder(make_denoiser: Make, tmp_path: Path) -> Path:
    save_model(
        tmp_path / "model", make_denoiser(), {"name": "small", "data": "none"}, torch.float32
    )
    return tmp_path / "model"


def test_round_trip(make_denoiser: Make, folder: Path) -> None:
    denoiser, model = make_denoiser(), load(folder, device="cpu")
    x, sigma = torch.rand(2, 1, 16, 16), torch.tensor([0.05, 0.3])
    torch.testing.assert_close(model(x, sigma).mean, denoiser(x, sigma).mean)
    answer, v = denoiser(x, sigma), torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(
        model.covariance(answer, sigma).apply(v), denoiser.covariance(answer, sigma).apply(v)
    )
    assert (model.name, model.channels, model.device.type) == ("small", 1, "cpu")
    assert model.card["data"] == "none"
    assert model.inflation == 1.0
    assert isinstance(model, Model)


def test_files_are_those_of_diffusers_and_two_more(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {CARD, CONFIG, WEIGHTS, RESIDUALS}
    assert json.loads((folder / CONFIG).read_text())["_class_name"] == "UNet2DModel"


def test_hash_survives_saving(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    save_model(tmp_path / "copy", model.denoiser, {"name": "another"}, torch.float32)
    assert load(tmp_path / "copy").hash == model.hash


def test_hash_is_that_of_the_stored_weights(make_denoiser: Make, tmp_path: Path) -> None:
    """bfloat16 weights answer otherwise, so they hash otherwise, on every machine alike."""
    denoiser = make_denoiser()
    save_model(tmp_path, denoiser, {"name": "half"}, torch.bfloat16)
    half = load(tmp_path)
    assert half.hash != digest_of(denoiser)
    denoiser.net.to(torch.bfloat16).float()
    assert half.hash == digest_of(denoiser)


def test_hash_shows_every_change(folder: Path) -> None:
    digests = {load(folder).hash}
    state = load_file(folder / WEIGHTS)
    for name, value in state.items():
        changed = value.clone()
        changed.view(-1)[-1] += 1e-3
        save_file(state | {name: changed}, folder / WEIGHTS)
        digests.add(load(folder).hash)
    save_file(state, folder / WEIGHTS)
    card = json.loads((folder / CARD).read_text())
    changes = {
        "schedule": {"kind": "vp", "beta_min": 0.1, "beta_max": 20.0},
        "prediction": "noise",
        "center": 0.11,
        "scale": 0.21,
        "inflation": 1.1,
    }
    for key, value in changes.items():
        (folder / CARD).write_text(json.dumps(card | {key: value}))
        digests.add(load(folder).hash)
    (folder / CARD).write_text(json.dumps(card))
    residuals = load_file(folder / RESIDUALS)
    for name, value in residuals.items():
        save_file(residuals | {name: value * 1.01}, folder / RESIDUALS)
        digests.add(load(folder).hash)
    (folder / RESIDUALS).unlink()
    digests.add(load(folder).hash)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"norm_eps": 1e-4}))
    digests.add(load(folder).hash)
    assert len(digests) == 1 + len(state) + len(changes) + len(residuals) + 2


def test_hash_ignores_what_does_not_answer(folder: Path) -> None:
    before = load(folder).hash
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {"name": "renamed", "licence": "CC0"}))
    assert load(folder).hash == before


def test_saving_again_leaves_nothing_of_the_old_model(make_denoiser: Make, folder: Path) -> None:
    save_model(folder, make_denoiser(spectrum=False), {"name": "new"}, torch.float32)
    assert not (folder / RESIDUALS).exists()
    assert load(folder).denoiser.spectrum is None


def test_a_folder_without_its_card_is_not_a_model(make_denoiser: Make, folder: Path) -> None:
    """What an interrupted save leaves behind does not load as something else."""
    (folder / CARD).unlink()
    with pytest.raises(ModelError, match=r"scheduler_config\.json"):
        load(folder)


def test_bundled_names(
    make_denoiser: Make, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module, "BUNDLED", tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("model").mkdir()  # a user's folder of the same name does not hide the bundled model
    assert bundled_models() == ["model"]
    assert load("model").name == "small"
    with pytest.raises(ModelError, match=r"config.json|scheduler"):
        load("./model")
    with pytest.raises(ModelError, match=r"'nowhere' is neither a bundled model .model."):
        load("nowhere")


def test_weights_file_by_name(folder: Path) -> None:
    other = folder / "other.safetensors"
    other.write_bytes((folder / WEIGHTS).read_bytes())
    (folder / WEIGHTS).unlink()
    assert load(other).name == "small"
    with pytest.raises(ModelError, match=f"{WEIGHTS} is missing"):
        load(folder)


def broken(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        (CONFIG, b"", "config.json is not JSON"),
        (CONFIG, b"\xff\xfe", "config.json is not JSON"),
        (CONFIG, b"[1]", "no JSON object"),
        (CONFIG, b'{"layers_per_block": "two"}', "makes no network"),
        (CARD, b"{", "certes.json is not JSON"),
        (CARD, b'{"kind": "unconditional"}', "does not say name, schedule"),
        (WEIGHTS, b"", "damaged"),
        (WEIGHTS, b"\x00" * 100, "damaged"),
        (RESIDUALS, b"garbage", "damaged"),
    ],
)
def test_damage_is_named_in_one_line(folder: Path, name: str, content: bytes, named: str) -> None:
    with pytest.raises(ModelError, match=named) as caught:
        load(broken(folder, name, content))
    assert "\n" not in str(caught.value)


def test_truncated_weights(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    with pytest.raises(ModelError, match="damaged"):
        load(broken(folder, WEIGHTS, content[: len(content) // 2]))


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_missing_files(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        load(folder)


def test_weights_of_another_network(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    save_file(state | {"extra": torch.zeros(1)}, folder / WEIGHTS)
    with pytest.raises(ModelError, match="first difference: extra"):
        load(folder)
    save_file(state | {"conv_in.bias": torch.zeros(1)}, folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"first difference: conv_in\.bias"):
        load(folder)


def test_other_cards_are_refused(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text())
    for key, value in (("kind", "conditional"), ("prediction", "flow")):
        (folder / CARD).write_text(json.dumps(card | {key: value}))
        with pytest.raises(ModelError, match=value):
            load(folder)


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_unusable_device(folder: Path, device: str) -> None:
    with pytest.raises(ModelError, match=f"device: '{device}'") as caught:
        load(folder, device=device)
    assert "\n" not in str(caught.value)


def test_rates_are_kept_and_change_no_answer(make_denoiser: Make, folder: Path) -> None:
    assert load(folder).rates is None
    digest, columns = load(folder).hash, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    denoiser = make_denoiser()
    denoiser.rates = RateCurve(columns, columns**2, 8 * columns)
    save_model(folder, denoiser, {"name": "small"}, torch.float32)
    again = load(folder)
    assert again.hash == digest
    assert again.rates is not None
    torch.testing.assert_close(again.rates.tail, 8 * columns)
    save_model(folder, make_denoiser(), {"name": "small"}, torch.float32)  # measured no longer
    assert load(folder).rates is None
    (folder / RATES).write_text('{"levels": [1, 2]}')
    with pytest.raises(ModelError, match="rates: no table"):
        load(folder)


def test_range_heads_are_kept(make_denoiser: Make, tmp_path: Path) -> None:
    net, table = make_denoiser(out_channels=2).net, linear_betas(10, 0.01, 0.3)
    digests: set[str] = set()
    for head in (None, "range"):
        denoiser = NetworkDenoiser(net, table, Parametrisation("noise"), head=head)
        save_model(tmp_path, denoiser, {"name": "small"}, torch.float32)
        assert json.loads((tmp_path / CARD).read_text()).get("head") == head
        again = load(tmp_path)
        assert again.denoiser.head == (head or "residual")
        digests.add(again.hash)
    assert len(digests) == 2


def test_labels_and_precision_of_our_folders(folder: Path) -> None:
    with pytest.raises(ModelError, match="knows no classes"):
        load(f"{folder}@1")
    exact = load(folder, dtype=torch.float64).denoiser.net.conv_in.weight
    assert exact.dtype == torch.float64
    assert torch.equal(exact.float(), load(folder).denoiser.net.conv_in.weight)
