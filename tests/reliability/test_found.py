"""What spoiled files once did, each in its smallest form: a traceback, a hang, a second line."""

from __future__ import annotations

import io
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from certes.apps.cli import OneLineErrors, app
from certes.data.files import read_json
from certes.data.measurements import MeasurementFile, read_measurement
from certes.data.pictures import read_picture
from certes.data.tensors import write_tensors
from certes.errors import CalibrationError, InputError, ModelError
from certes.function_space.config import OperatorConfig
from certes.function_space.model import FILTER
from certes.function_space.presets import operator_keys
from certes.generation.codec import decode, encode
from certes.generation.codec.container import Container, unpack
from certes.intervals.cards import Calibration
from certes.networks.config import UNetConfig
from certes.networks.files import CARD, WEIGHTS, read_tensors
from certes.networks.model import RESIDUALS, Model
from certes.public import load

from .models import make_models

NEST = "[" * 100_000
SMALL: dict[str, Any] = {
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": [8, 8],
    "down_block_types": ["DownBlock2D"] * 2,
    "up_block_types": ["UpBlock2D"] * 2,
    "norm_num_groups": 4,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(models: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def copied(kind: str) -> Path:
        return Path(shutil.copytree(models[kind], tmp_path / kind))

    return copied


class TestModels:
    @pytest.mark.parametrize("kind", ["pixels", "conditional", "bounds", "functions"])
    @pytest.mark.parametrize("value", [["a"], {}, None, 3, "none"])
    def test_a_kind_that_is_none(
        self, folder: Callable[[str], Path], kind: str, value: object
    ) -> None:
        place = folder(kind)
        changed(place / CARD, kind=value)
        with pytest.raises(ModelError) as raised:
            load(place, "cpu")
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("kind", ["pixels", "conditional", "bounds", "functions", "diffusers"])
    def test_a_nest_without_end(self, folder: Callable[[str], Path], kind: str) -> None:
        place = folder(kind)
        for path in place.rglob("*.json"):
            sound = path.read_text()
            if path.parent.name == "cards" or path.name in ("rates.json", "model_index.json"):
                continue
            path.write_text(NEST)
            with pytest.raises(ModelError, match="nested too deeply"):
                load(place, "cpu")
            path.write_text(sound)

    @pytest.mark.parametrize("key", ["center", "scale", "inflation"])
    @pytest.mark.parametrize("value", ["a", None, True, [1], 1e300])
    def test_numbers_that_are_none(
        self, folder: Callable[[str], Path], key: str, value: object
    ) -> None:
        place = folder("pixels")
        changed(place / CARD, **{key: value})
        with pytest.raises(ModelError, match=f"says {key} = .*number is wanted"):
            load(place, "cpu")

    @pytest.mark.parametrize("kind", ["pixels", "conditional", "bounds", "functions"])
    @pytest.mark.parametrize("digits", ["NaN", "Infinity", "-Infinity", "1e999"])
    def test_numbers_that_json_does_not_know(
        self, folder: Callable[[str], Path], kind: str, digits: str
    ) -> None:
        place = folder(kind)
        said = json.dumps(json.loads((place / CARD).read_text()) | {"scale": 0})
        (place / CARD).write_text(said.replace('"scale": 0', f'"scale": {digits}'))
        with pytest.raises(ModelError, match=f"{digits} is no finite number"):
            load(place, "cpu")

    @pytest.mark.parametrize("value", ["a", None, 3, ["dm-sba"], {}], ids=str)
    def test_methods_that_are_none(self, folder: Callable[[str], Path], value: object) -> None:
        place = folder("bounds")
        changed(place / CARD, method=value)
        with pytest.raises(ModelError, match=r"method .*this version knows"):
            load(place, "cpu")

    @pytest.mark.parametrize("key", ["told", "shrink", "through", "extra", "x"])
    @pytest.mark.parametrize("value", ["a", None, float("inf"), []], ids=str)
    def test_fronts_of_no_network(
        self, folder: Callable[[str], Path], key: str, value: object
    ) -> None:
        place = folder("bounds")
        front = json.loads((place / CARD).read_text())["front"]
        assert key in front
        changed(place / CARD, front={**front, key: value})
        with pytest.raises(ModelError):
            load(place, "cpu")

    @pytest.mark.parametrize("value", [10**30, 1e300, "a", None], ids=str)
    def test_blocks_that_are_none(self, folder: Callable[[str], Path], value: object) -> None:
        place = folder("conditional")
        block = json.loads((place / CARD).read_text())["x"]
        changed(place / CARD, x={**block, "center": value})
        with pytest.raises(ModelError, match="block: "):
            load(place, "cpu")

    @pytest.mark.parametrize("values", [(1.0, 2.0, 1e38), (-1.0, 2.0, 1.0), (1.0, 2.0, 0.0)])
    def test_laws_that_are_none(
        self, folder: Callable[[str], Path], values: tuple[float, ...]
    ) -> None:
        place = folder("functions")
        tensors = read_tensors(place / FILTER)
        write_tensors(place / FILTER, {**tensors, "beyond": torch.tensor(values)})
        with pytest.raises(ModelError, match="filter: power, exponent, frequency"):
            load(place, "cpu")

    @pytest.mark.parametrize("name", [WEIGHTS, RESIDUALS])
    def test_weights_that_are_no_numbers(self, folder: Callable[[str], Path], name: str) -> None:
        place = folder("pixels")
        tensors = {key: value.clone() for key, value in read_tensors(place / name).items()}
        next(iter(tensors.values())).view(-1)[0] = torch.nan
        write_tensors(place / name, tensors)
        with pytest.raises(ModelError, match=r"NaN or infinite\); copy or train it again"):
            load(place, "cpu")

    @pytest.mark.parametrize(
        "change",
        [
            {"up_block_types": 3},
            {"block_out_channels": ["8", 8]},
            {"block_out_channels": [8, 2**40]},
            {"layers_per_block": 10**9},
            {"layers_per_block": "two"},
            {"norm_num_groups": 0},
            {"attn_norm_num_groups": -1},
            {"norm_eps": -1.0},
            {"norm_eps": float("nan")},
            {"downsample_padding": -3},
            {"downsample_padding": 5},
            {"freq_shift": 4},
            {"dropout": 2.0},
            {"sample_size": "16"},
            {"add_attention": "yes"},
        ],
        ids=str,
    )
    def test_shapes_that_no_network_has(self, change: dict[str, Any]) -> None:
        assert UNetConfig.from_dict(SMALL).multiple == 2
        with pytest.raises(ModelError, match="config: "):
            UNetConfig.from_dict(SMALL | change)

    @pytest.mark.parametrize(
        "change",
        [
            {"spacing": 2e9},
            {"spacing": 1e-9},
            {"domain": 10**12},
            {"domain": 0},
            {"reach": 10**6},
            {"blocks": 10**6},
            {"width": 8.5},
            {"encoder": 3},
            {"unet": {}},
        ],
        ids=str,
    )
    def test_shapes_that_no_operator_network_has(self, change: dict[str, Any]) -> None:
        keys = {**operator_keys(16, [16, 16], 16, blocks=1, width=8, reach=1), "outputs": 2}
        assert OperatorConfig.from_dict(keys).width == 8
        with pytest.raises(ModelError):
            OperatorConfig.from_dict(keys | change)

    def test_a_scheduler_as_long_as_memory(self, folder: Callable[[str], Path]) -> None:
        place = folder("diffusers")
        path = place / "scheduler" / "scheduler_config.json"
        changed(path, num_train_timesteps=10**12)
        with pytest.raises(ModelError, match="num_train_timesteps"):
            load(place, "cpu")


class TestPictures:
    def test_a_tiff_that_does_not_say_its_height(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, np.ones((8, 8), np.float32), byteorder="<")
        height = struct.pack("<H", 257)
        assert path.read_bytes().count(height) == 1
        path.write_bytes(path.read_bytes().replace(height, struct.pack("<H", 700)))
        with pytest.raises(InputError, match="damaged or truncated TIFF"):
            read_picture(path)

    @pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
    def test_animations_that_end_anywhere(self, tmp_path: Path, suffix: str) -> None:
        """Counting frames is decoding, too."""
        frames = [Image.fromarray(np.full((9, 9), i * 90, np.uint8)) for i in range(3)]
        path = tmp_path / f"a{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        whole = path.read_bytes()
        for end in range(1, len(whole)):
            path.write_bytes(whole[:end])
            try:
                assert read_picture(path).pixels.shape[1:] == (9, 9)
            except InputError as error:
                said = str(error)
                assert "\n" not in said

    def test_decoders_do_not_speak_beside_us(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """libtiff writes to the process's stderr, Pillow and tifffile to their logs."""
        content = io.BytesIO()
        grey = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
        Image.fromarray(grey).save(content, "TIFF", compression="tiff_lzw")
        whole, path = content.getvalue(), tmp_path / "a.tif"
        path.write_bytes(whole)
        directory = struct.unpack_from("<I", whole, 4)[0]
        start = next(
            struct.unpack_from("<I", whole, directory + 10 + 12 * i)[0]
            for i in range(struct.unpack_from("<H", whole, directory)[0])
            if struct.unpack_from("<H", whole, directory + 2 + 12 * i)[0] == 273
        )
        path.write_bytes(whole[: start + 9] + b"\xff" * 40 + whole[start + 49 :])
        with pytest.raises(InputError, match="damaged or truncated"):
            read_picture(path)
        assert capfd.readouterr() == ("", "")

    def test_sizes_that_are_lists_are_refused_before_they_are_multiplied(
        self, tmp_path: Path
    ) -> None:
        """A list of 65 lengths, times a width of millions, was a list of gigabytes."""
        content = io.BytesIO()
        tifffile.imwrite(content, np.zeros((32, 32), np.uint8), tile=(16, 16))
        whole = bytearray(content.getvalue())
        directory = struct.unpack_from("<I", whole, 4)[0]
        for i in range(struct.unpack_from("<H", whole, directory)[0]):
            (tag,) = struct.unpack_from("<H", whole, directory + 2 + 12 * i)
            if tag == 256:
                struct.pack_into("<HHII", whole, directory + 2 + 12 * i, tag, 4, 1, 2**24)
            if tag == 257:
                struct.pack_into("<HHIHH", whole, directory + 2 + 12 * i, tag, 3, 2, 9, 9)
        path = tmp_path / "a.tif"
        path.write_bytes(whole)
        with pytest.raises(InputError, match="its imagelength is not one number"):
            read_picture(path)

    def test_tiles_are_no_larger_than_pictures(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, np.zeros((32, 32), np.uint8), tile=(16, 16))
        whole = bytearray(path.read_bytes())
        directory = struct.unpack_from("<I", whole, 4)[0]
        for i in range(struct.unpack_from("<H", whole, directory)[0]):
            if struct.unpack_from("<H", whole, directory + 2 + 12 * i)[0] in (322, 323):
                struct.pack_into("<HII", whole, directory + 4 + 12 * i, 4, 1, 2**24)
        path.write_bytes(whole)
        with pytest.raises(InputError, match="more than the limit"):
            read_picture(path)

    def test_wide_samples_are_refused_before_they_are_unpacked(self, tmp_path: Path) -> None:
        """The pixels of this one are cut off: to unpack them would be another error."""
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, np.zeros((64, 64), np.complex128))
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(InputError, match="complex128 samples: convert"):
            read_picture(path)


class TestMeasurements:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"noise": "much"}, "noise"),
            ({"noise": -1.0}, "standard deviation"),
            ({"operator": []}, "operator"),
            ({"operator": None}, "operator"),
        ],
        ids=str,
    )
    def test_words_that_are_none(self, tmp_path: Path, change: dict[str, Any], words: str) -> None:
        path = tmp_path / "a.safetensors"
        said = {"operator": {"name": "compressed-sensing"}, "noise": 0.1}
        write_tensors(path, {"y": torch.zeros(1, 4)}, {"certes": json.dumps(said)})
        assert isinstance(read_measurement(path), MeasurementFile)
        write_tensors(path, {"y": torch.zeros(1, 4)}, {"certes": json.dumps(said | change)})
        with pytest.raises(InputError, match=f"not a measurement file.*{words}"):
            read_measurement(path)

    @pytest.mark.parametrize("y", [torch.tensor([torch.nan]), torch.ones(3, dtype=torch.int64)])
    def test_values_that_are_none(self, tmp_path: Path, y: torch.Tensor) -> None:
        path = tmp_path / "a.safetensors"
        write_tensors(path, {"y": y}, {"certes": json.dumps({"operator": {}, "noise": None})})
        with pytest.raises(InputError, match="not a measurement file"):
            read_measurement(path)

    @pytest.mark.parametrize(
        "shape", [[1, 10**6, 10**6], [1, -4, 4], [1, "a", 4], [1, 4], 3, [10**9, 8192, 8192]]
    )
    def test_operators_that_fill_the_memory(
        self, models: dict[str, Path], tmp_path: Path, shape: object
    ) -> None:
        path = tmp_path / "a.safetensors"
        operator = {"name": "compressed-sensing", "shape": shape, "ratio": 0.25}
        said = {"certes": json.dumps({"operator": operator, "noise": 0.1})}
        write_tensors(path, {"y": torch.zeros(1, 4)}, said)
        task = ("--task", "compressed-sensing", "--model", str(models["pixels"]))
        answer = CliRunner().invoke(app, ["restore", str(path), *task, "--out", str(tmp_path)])
        assert answer.exit_code == 2, answer.exception
        assert answer.stderr.count("\n") == 1


class TestStreams:
    def test_a_lossless_end_where_none_can_be(self, models: dict[str, Path]) -> None:
        """After no step nothing is known of a pixel: not how far it may be off either."""
        coder = load(models["pixels"], "cpu")
        assert isinstance(coder, Model)
        sent = encode(torch.zeros(1, 16, 16), coder)
        whole = unpack(sent.data)
        assert decode(sent.data, coder).exact
        short = Container(replace(whole.header, steps=0), whole.stream)
        with pytest.raises(InputError, match="a lossless end after 0 steps"):
            decode(short.pack(), coder)


class TestCards:
    @pytest.mark.parametrize(
        "change",
        [
            {"lambda": 10**400},
            {"alpha": float("nan")},
            {"n": 1e300},
            {"provenance": {"model": "a", "what": 1}},
            {"sketches": 3},
            {"features": [["a"]]},
            {"shape": {"name": []}},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_values_that_are_none(
        self, models: dict[str, Path], tmp_path: Path, change: dict[str, Any]
    ) -> None:
        path = tmp_path / "card.json"
        shutil.copy(models["pixels"] / "cards" / "denoise.json", path)
        assert Calibration.load(path).rule == "wsr"
        changed(path, **change)
        with pytest.raises(CalibrationError, match="not a readable calibration card"):
            Calibration.load(path)

    def test_a_nest_without_end(self, tmp_path: Path) -> None:
        (tmp_path / "card.json").write_text(NEST)
        with pytest.raises(CalibrationError, match="nested too deeply"):
            Calibration.load(tmp_path / "card.json")
        with pytest.raises(ValueError, match="nested too deeply"):
            read_json(tmp_path / "card.json")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    ],
)
def test_too_little_memory_is_one_line(error: Exception) -> None:
    def fail() -> None:
        raise error

    answer = CliRunner().invoke(program(fail), ["fail"])
    assert answer.exit_code == 2
    assert answer.stderr.startswith("error: memory: there is not enough")
    assert answer.stderr.count("\n") == 1


def test_other_errors_of_ours_are_not_hidden() -> None:
    """A defect shall be seen as one."""

    def fail() -> None:
        raise RuntimeError("a defect")

    assert isinstance(CliRunner().invoke(program(fail), ["fail"]).exception, RuntimeError)


def program(action: Callable[[], None]) -> typer.Typer:
    made = typer.Typer(cls=OneLineErrors, pretty_exceptions_enable=False)
    made.callback()(lambda: None)
    made.command("fail")(action)
    return made


def changed(path: Path, **change: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
