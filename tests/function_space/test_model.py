"""Folders of models of functions: what is written is what is read, at every resolution."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import certes
from certes.errors import InputError, ModelError
from certes.function_space import model as model_module
from certes.function_space.model import (
    FILTER,
    KIND,
    FunctionModel,
    digest_of,
    load_function_model,
    save_function_model,
)
from certes.function_space.unmollify import SpectralFilter, WienerFilter
from certes.networks.fitting import prior_name, suited
from certes.networks.model import CARD, RESIDUALS, kind_of, load
from certes.networks.prior import Prior
from certes.networks.tiling import TiledDenoiser

from .conftest import Make

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
SIGMA = torch.tensor([0.05, 0.3])


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are compared, so the machine's precision must not matter."""
    monkeypatch.setattr(model_module, "inference_dtype", lambda place: torch.float32)


@pytest.fixture
def folder(make: Make, tmp_path: Path) -> Path:
    card = {"name": "small", "certificate": {"operator_error": {"2": 0.01}}}
    save_function_model(tmp_path / "model", make(), card, torch.float32)
    return tmp_path / "model"


def test_round_trip(make: Make, folder: Path) -> None:
    denoiser, model = make(), certes.load(folder, device="cpu")
    assert isinstance(model, FunctionModel)
    assert isinstance(model, Prior)
    x = torch.rand(2, 1, 16, 24)
    answer = denoiser(x, SIGMA)
    torch.testing.assert_close(model(x, SIGMA).mean, answer.mean)
    torch.testing.assert_close(model.of_blur(x, SIGMA).mean, denoiser.of_blur(x, SIGMA).mean)
    torch.testing.assert_close(model.blurred(x, SIGMA), denoiser.blurred(x, SIGMA))
    torch.testing.assert_close(
        model.covariance(answer, SIGMA).apply(x), denoiser.covariance(answer, SIGMA).apply(x)
    )
    torch.testing.assert_close(model.encode(x[..., :16]), denoiser.encode(x[..., :16]))
    assert (model.name, model.channels, model.center, model.scale) == ("small", 1, 0.4, 0.2)
    assert (model.side, model.rigid, model.pitch, model.rates) == (16, True, 1.0, None)
    assert model.card["certificate"] == {"operator_error": {"2": 0.01}}
    assert model.hash == digest_of(denoiser)
    assert (kind_of(folder), model.device.type) == (KIND, "cpu")
    files = {path.name for path in folder.iterdir()}
    assert files == {CARD, CONFIG, WEIGHTS, RESIDUALS, FILTER}


def test_at_another_resolution(make: Make, folder: Path) -> None:
    model, x = load_function_model(folder, "cpu"), torch.rand(2, 1, 32, 32)
    fine = model.at(0.5)
    torch.testing.assert_close(fine(x, SIGMA).mean, make().at(0.5)(x, SIGMA).mean)
    assert (fine.name, fine.side, fine.pitch) == ("small", 32, 0.5)
    named = certes.load(f"{folder}@2x", device="cpu")
    assert isinstance(named, FunctionModel)
    assert torch.equal(named(x, SIGMA).mean, fine(x, SIGMA).mean)
    code = model.encode(torch.rand(1, 1, 16, 16))
    told = model.at(0.5, code)
    assert not torch.equal(told(x, SIGMA).mean, fine(x, SIGMA).mean)
    hashes = {m.hash for m in (model, fine, model.at(0.25), told, model.at(1.0, 2 * code))}
    assert len(hashes) == 5  # cards of one resolution do not hold for another
    assert named.hash == fine.hash == told.at(0.25).at(0.5).hash
    assert model.at(1.0).hash == model.hash
    assert prior_name(fine, (1, 32, 32), "opponent") == fine.hash
    for pitch in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="pitch"):
            model.at(pitch)


@pytest.mark.parametrize("which", ["3", "x", "0x", "2"])
def test_other_names_are_refused(folder: Path, which: str) -> None:
    with pytest.raises(ModelError, match=r"NAME@Rx|neither"):
        certes.load(f"{folder}@{which}")


def test_half_as_fine(folder: Path) -> None:
    model = load_function_model(f"{folder}@0.5x", "cpu")
    assert (model.pitch, model.side) == (2.0, 8)


def test_hash_shows_every_change(folder: Path) -> None:
    digests = {load_function_model(folder).hash}
    changes = 0
    for file, every in ((WEIGHTS, 30), (RESIDUALS, 1), (FILTER, 1)):
        state = load_file(folder / file)
        for name in list(state)[::every]:
            changed = state[name].clone()
            changed.view(-1)[-1] += 1e-3
            save_file(state | {name: changed}, folder / file)
            digests.add(load_function_model(folder).hash)
            changes += 1
        save_file(state, folder / file)
    assert len(digests) == changes + 1
    card = json.loads((folder / CARD).read_text())
    for change in (
        {"inflation": 1.1},
        {"reading": card["reading"] | {"mollifier_width": 0.5}},
        {"reading": card["reading"] | {"prediction": "noise"}},
        {"reading": card["reading"] | {"center": 0.3}},
    ):
        (folder / CARD).write_text(json.dumps(card | change))
        digests.add(load_function_model(folder).hash)
    (folder / CARD).write_text(json.dumps(card | {"name": "renamed", "certificate": {}}))
    assert load_function_model(folder).hash in digests
    (folder / FILTER).unlink()
    digests.add(load_function_model(folder).hash)
    assert len(digests) == changes + 1 + 5


def test_stored_precision_is_what_is_hashed(make: Make, tmp_path: Path) -> None:
    denoiser = make()
    save_function_model(tmp_path, denoiser, {"name": "half"})
    half = load_function_model(tmp_path)
    assert half.hash != digest_of(denoiser)
    denoiser.net.to(torch.bfloat16).float()
    assert half.hash == digest_of(denoiser)


def test_unmeasured_models_are_read_by_the_papers_filter(make: Make, folder: Path) -> None:
    measured = load_function_model(folder).denoiser.unmollify
    assert isinstance(measured, SpectralFilter)
    save_function_model(folder, make(measured=False), {"name": "new"}, torch.float32)
    again = load_function_model(folder).denoiser
    assert isinstance(again.unmollify, WienerFilter)
    assert again.spectrum is None
    with pytest.raises(ModelError, match="no residual spectrum"):
        again.covariance(again(torch.rand(1, 1, 16, 16), SIGMA[:1]), SIGMA[:1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_points_are_never_rounded(folder: Path, dtype: torch.dtype) -> None:
    net = load_function_model(folder, dtype=dtype).net
    assert net.operator.unet.conv_in.weight.dtype == dtype
    assert net.operator.lift.weight.dtype == torch.float32
    exact = load_function_model(folder, dtype=torch.float32)
    x, sigma = torch.rand(1, 1, 16, 16), torch.tensor([0.1])
    rounded = load_function_model(folder, dtype=dtype)(x, sigma).mean
    assert (rounded - exact(x, sigma).mean).abs().max() < 0.01


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        (CONFIG, b"", "config.json is not JSON"),
        (CONFIG, b'{"unet": {"layers_per_block": 1}}', "unet: 3 channels in; 5 wanted"),
        (CONFIG, b"{}", "describes no operator network"),
        (CARD, b"{", "certes.json is not JSON"),
        (CARD, b'{"kind": "function_space"}', "does not say name, reading"),
        (CARD, b'{"kind": "function_space", "name": "", "reading": {}, "inflation": 1}', "missing"),
        (WEIGHTS, b"", "damaged"),
        (RESIDUALS, b"garbage", "damaged"),
        (FILTER, b"garbage", "damaged"),
    ],
)
def test_damage_is_named_in_one_line(folder: Path, name: str, content: bytes, named: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=named) as caught:
        certes.load(folder)
    assert "\n" not in str(caught.value)


def test_other_weights_and_other_kinds(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    save_file(state | {"extra": torch.zeros(1)}, folder / WEIGHTS)
    with pytest.raises(ModelError, match="first difference: extra"):
        certes.load(folder)
    with pytest.raises(ModelError, match="function_space models know functions"):
        load(folder)
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {"kind": "conditional"}))
    with pytest.raises(ModelError, match="'function_space' model is wanted"):
        load_function_model(folder)


def test_priors_are_suited_to_pictures(folder: Path) -> None:
    """Colours, and sizes, as for any model."""
    model = load_function_model(folder)
    # With attention, at the size of the training domain, whatever the resolution.
    assert isinstance(suited(model, (1, 17, 8), "opponent"), TiledDenoiser)
    fine = model.at(0.5)
    assert suited(fine, (1, 32, 32), "opponent") is fine
    colours = suited(model, (3, 16, 16), "opponent")
    assert colours(torch.rand(1, 3, 16, 16), SIGMA[:1]).mean.shape == (1, 3, 16, 16)


def test_restored_like_by_any_model(folder: Path) -> None:
    """The public call, at two resolutions."""
    for source, side in ((folder, 16), (f"{folder}@2x", 32)):
        operator = certes.operators.SuperResolution((1, side, side), factor=4)
        y = torch.rand(1, 1, side // 4, side // 4)
        posterior = certes.restore(y, operator, str(source), noise=0.05, samples=2, steps=2)
        assert posterior.mean.shape == (1, 1, side, side)
        assert bool(posterior.samples.isfinite().all())
