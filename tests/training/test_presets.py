from __future__ import annotations

import json
from pathlib import Path

import pytest

from certes.errors import CertesError, InputError
from certes.networks import UNet
from certes.training.presets import PRESETS, TrainingConfig, load_config


@pytest.mark.parametrize("name", PRESETS)
def test_presets_make_networks(name: str) -> None:
    config = load_config(name)
    assert UNet(config.unet()).config.in_channels == 1
    assert TrainingConfig(**config.to_dict()) == config
    assert config.warmup < config.steps


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(PRESETS["tiny"].to_dict() | {"steps": 7}))
    assert load_config(str(path)).steps == 7


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"netwrk": {}}', "netwrk"),
        ("[1, 2]", "does not describe a run"),
        ("{", "does not describe a run"),
        ('{"network": {}, "precision": "fp8"}', "precision: 'fp8'"),
        ('{"network": {}, "patch": 12}', "patch: 12 pixels.*multiple of 8"),
        ('{"network": {}, "steps": 0}', "steps: 0"),
        ('{"network": {"act_fn": "gelu"}}', "act_fn"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(CertesError, match=named) as caught:
        load_config(str(path))
    assert "\n" not in str(caught.value)


def test_neither_preset_nor_file() -> None:
    with pytest.raises(InputError, match=r"'huge' is no file and no preset.*nuclei"):
        load_config("huge")
