"""Measurements that are no pictures, in files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from certes.data.measurements import MeasurementFile, read_measurement, write_measurement
from certes.errors import InputError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    said = {"name": "compressed-sensing", "shape": [1, 8, 8], "ratio": 0.25}
    written = MeasurementFile("cell.measured", torch.randn(1, 16), said, 0.02)
    write_measurement(tmp_path / "cell.measured.safetensors", written)
    read = read_measurement(tmp_path / "cell.measured.safetensors")
    assert torch.equal(read.y, written.y)
    assert (read.name, read.operator, read.noise) == ("cell.measured", said, 0.02)
    assert [path.name for path in tmp_path.iterdir()] == ["cell.measured.safetensors"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    foreign, broken = tmp_path / "weights.safetensors", tmp_path / "broken.safetensors"
    save_file({"y": torch.zeros(3)}, foreign)
    broken.write_bytes(b"not tensors")
    for path in (foreign, broken, tmp_path / "missing.safetensors"):
        with pytest.raises(InputError, match=f"{path.name}: not a measurement file"):
            read_measurement(path)
