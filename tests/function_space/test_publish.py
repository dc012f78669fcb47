"""From trained weights to a folder: what is measured, on which weights, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from certes.data.bundled import bundled_pictures
from certes.data.patches import PatchDataset
from certes.function_space import certificate as certificate_module
from certes.function_space import filter_measuring
from certes.function_space import publish as publish_module
from certes.function_space.filter_measuring import measure_filter
from certes.function_space.model import load_function_model
from certes.function_space.publish import publish_functions
from certes.function_space.unmollify import SpectralFilter, WienerFilter
from certes.training import residuals
from certes.training.fitted import Fitted
from certes.training.publish import FRESH
from certes.training.residuals import measure_residuals

from .conftest import Make

FEW = torch.tensor([0.02, 0.3], dtype=torch.float64)


@pytest.fixture
def data() -> PatchDataset:
    picture = bundled_pictures()[-1].pixels
    pictures = [(picture[:, :64, 64 * i : 64 * i + 64] * 255).round().byte() for i in range(2)]
    return PatchDataset(pictures, 16, busy=0, symmetries="square")


def test_what_is_published(
    make: Make, data: PatchDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for function in (measure_filter, measure_residuals):
        monkeypatch.setattr(function, "__defaults__", (FEW, *function.__defaults__[1:]))
    monkeypatch.setattr(certificate_module, "_STEPS", 2)
    monkeypatch.setattr(publish_module, "INFLATION_PATCHES", 2)
    denoiser = make(measured=False)
    publish_functions(denoiser, data, tmp_path, {"name": "small", "licence": "CC0-1.0"}, count=8)
    model = load_function_model(tmp_path, "cpu", torch.float32)
    assert (model.name, model.card["licence"]) == ("small", "CC0-1.0")
    assert set(model.card["certificate"]["operator_error"]) == {"2", "3", "4", "0.5"}
    assert Fitted.load(tmp_path) is not None
    # The weights are measured as they are stored: what is loaded measures the same.
    patches = data.batch(FRESH, 8, seed=0)
    again = model.denoiser
    kept, spectrum = again.unmollify, again.spectrum
    assert isinstance(kept, SpectralFilter)
    assert spectrum is not None
    again.unmollify = WienerFilter(again.reading.mollifier)
    other = measure_residuals(again, patches, FEW)
    again.unmollify = measure_filter(again, patches, FEW)
    for name, value in kept.to_tensors().items():
        torch.testing.assert_close(value, again.unmollify.to_tensors()[name])
    # The errors are those of the filtered answers, not of the paper's filter.
    torch.testing.assert_close(spectrum.spectra, measure_residuals(again, patches, FEW).spectra)
    assert ((other.spectra / spectrum.spectra).log().abs() > 0.1).any()
    assert model.inflation == denoiser.inflation >= 1
    assert filter_measuring.LEVELS[0] < residuals.LEVELS[0]  # finer pictures: less noise an area
