"""The loop: a run that was killed and resumed is the run that was never killed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from certes.data.patches import PatchDataset
from certes.errors import InputError, ModelError
from certes.training.config import TrainingConfig
from certes.training.loop import CHECKPOINT, Run, learning_rate
from certes.training.unconditional import Unconditional

from .conftest import PICTURES, plain, shrunk, tabled


def state(out: Path) -> dict[str, Tensor]:
    return load_file(out / CHECKPOINT)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def unbroken(data: PatchDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken")
    Run(Unconditional(shrunk()), data, out, resume=False).train()
    return out


def test_learning_rate() -> None:
    config = replace(shrunk(), steps=1000, warmup=100, learning_rate=0.5)
    rates = [learning_rate(config, step) for step in range(1001)]
    assert rates[:100] == pytest.approx([0.5 * (i + 1) / 100 for i in range(100)])
    assert rates[100] == pytest.approx(0.5)
    assert rates[550] == pytest.approx(0.25)
    assert rates[1000] == pytest.approx(0, abs=1e-12)
    assert all(a >= b for a, b in pairwise(rates[100:]))
    constant = replace(config, rate_decay="constant")
    assert [learning_rate(constant, step) for step in range(100)] == rates[:100]
    assert {learning_rate(constant, step) for step in range(100, 1000)} == {0.5}


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = Unconditional(shrunk()).build().net.state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, Unconditional(shrunk()).build().net.state_dict())
    assert not same(first, Unconditional(shrunk(seed=1)).build().net.state_dict())


def test_resumed_run_is_the_unbroken_run(
    config: TrainingConfig, data: PatchDataset, unbroken: Path, tmp_path: Path
) -> None:
    first = Run(Unconditional(config), data, tmp_path, resume=False)
    for _ in islice(first.steps(), 8):
        pass
    torch.manual_seed(99)  # nothing may depend on what else the program does
    second = Run(Unconditional(config), data, tmp_path, resume=True)
    assert second.step == 5  # the last checkpoint, not the last step
    denoiser = second.train()
    assert same(state(tmp_path), state(unbroken))
    grids = [(out / "samples-12.png").read_bytes() for out in (tmp_path, unbroken)]
    assert grids[0] == grids[1]
    averaged = {k.removeprefix("ema."): v for k, v in state(unbroken).items() if "ema." in k}
    assert same(dict(denoiser.net.state_dict()), averaged)


@pytest.mark.parametrize("lost", ["net.conv_in.weight", "ema.conv_in.weight", "adam.0.exp_avg"])
def test_equality_sees_lost_state(
    config: TrainingConfig, data: PatchDataset, unbroken: Path, tmp_path: Path, lost: str
) -> None:
    """Negative control: a checkpoint that forgets one thing does not continue the run."""
    for _ in islice(Run(Unconditional(config), data, tmp_path, resume=False).steps(), 5):
        pass
    path, header = tmp_path / CHECKPOINT, header_of(tmp_path / CHECKPOINT)
    whole = state(tmp_path)
    save_file(whole | {lost: torch.zeros_like(whole[lost])}, path, metadata=header)
    Run(Unconditional(config), data, tmp_path, resume=True).train()
    assert not same(state(tmp_path), state(unbroken))


def header_of(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def stateful() -> TrainingConfig:
    """Every kind of state there is: dropout, moments of levels for times and for weights."""
    network = shrunk().network | {"dropout": 0.2}
    return shrunk(network=network, times="importance", weights="level", batch=200, steps=6)


@pytest.mark.parametrize(
    "config", [stateful(), tabled(objective="bound", times="importance", **plain())]
)
def test_what_was_learned_of_the_levels_is_part_of_the_state(
    config: TrainingConfig, data: PatchDataset, tmp_path: Path
) -> None:
    config = replace(config, checkpoint_every=3, batch=200, steps=6)
    Run(Unconditional(config), data, tmp_path / "whole", resume=False).train()
    for _ in islice(Run(Unconditional(config), data, tmp_path / "part", resume=False).steps(), 4):
        pass
    resumed = Run(Unconditional(config), data, tmp_path / "part", resume=True)
    assert resumed.step == 3
    assert resumed.levels()["times.visits"].sum() == 600
    resumed.train()
    whole = state(tmp_path / "whole")
    assert same(state(tmp_path / "part"), whole)
    assert whole["levels.times.square"].gt(0).all()
    assert len(whole["levels.times.mean"].unique()) > 5


def test_forgotten_levels_change_the_run(data: PatchDataset, tmp_path: Path) -> None:
    """Negative control."""
    config = replace(stateful(), checkpoint_every=5)
    for out in ("whole", "part"):
        for _ in islice(Run(Unconditional(config), data, tmp_path / out, resume=False).steps(), 5):
            pass
    path = tmp_path / "part" / CHECKPOINT
    forgotten = {"levels.times.visits": torch.zeros(100, dtype=torch.float64)}
    save_file(state(path.parent) | forgotten, path, metadata=header_of(path))
    for out in ("whole", "part"):
        Run(Unconditional(config), data, tmp_path / out, resume=True).train()
    whole, part = state(tmp_path / "whole"), state(tmp_path / "part")
    assert not torch.equal(whole["net.conv_in.weight"], part["net.conv_in.weight"])


VICTIM = """
import sys
from pathlib import Path
from certes.data.patches import PatchDataset, load_folder
from certes.training.loop import Run
from certes.training.presets import load_config
from certes.training.unconditional import Unconditional
data = PatchDataset(load_folder(sys.argv[2]), size=16)
recipe = Unconditional(load_config(sys.argv[1]))
for loss in Run(recipe, data, Path(sys.argv[3]), resume=True).steps():
    print("step", flush=True)
"""


def kill_after(seconds: float, config: Path, out: Path) -> None:
    """Go on with a run in another process and kill it so long after its first step."""
    arguments = [VICTIM, str(config), str(PICTURES), str(out)]
    victim = subprocess.Popen([sys.executable, "-c", *arguments], stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "step\n", "the run ended before it was killed"
    time.sleep(seconds)
    assert victim.poll() is None, "the run ended before it was killed"
    victim.kill()
    victim.wait()
    victim.stdout.close()


def test_run_killed_again_and_again_is_the_unbroken_run(data: PatchDataset, tmp_path: Path) -> None:
    """SIGKILL at random moments; with a checkpoint at every step many fall into the writing."""
    config = replace(stateful(), batch=20, steps=100, checkpoint_every=1, sample_every=100)
    settings, out = tmp_path / "run.json", tmp_path / "killed"
    settings.write_text(json.dumps(config.to_dict()))
    moments = random.Random(3)
    for _ in range(2):
        kill_after(moments.random() / 4, settings, out)
    (out / ".certes-half").mkdir()
    (out / ".certes-half" / "checkpoint.safetensors").write_bytes(b"half a file")
    resumed = Run(Unconditional(config), data, out, resume=True)
    assert 1 < resumed.step < config.steps
    assert not list(out.glob(".certes-*"))
    resumed.config = replace(config, checkpoint_every=100)
    resumed.train()
    whole = replace(config, checkpoint_every=100)
    Run(Unconditional(whole), data, tmp_path / "whole", resume=False).train()
    assert same(state(out), state(tmp_path / "whole"))


def test_a_finished_run_has_nothing_left_to_do(
    config: TrainingConfig, data: PatchDataset, unbroken: Path
) -> None:
    content = (unbroken / CHECKPOINT).read_bytes()
    run = Run(Unconditional(config), data, unbroken, resume=True)
    assert run.step == config.steps
    denoiser = run.train()
    assert same(dict(denoiser.net.state_dict()), run.average.weights)
    assert (unbroken / CHECKPOINT).read_bytes() == content


def test_what_a_resumed_run_may_change(
    config: TrainingConfig, data: PatchDataset, tmp_path: Path
) -> None:
    for _ in islice(Run(Unconditional(config), data, tmp_path, resume=False).steps(), 5):
        pass
    free = replace(config, checkpoint_every=1, sample_every=3)
    assert Run(Unconditional(free), data, tmp_path, resume=True).step == 5
    with pytest.raises(ModelError, match="written with steps = 12, not 13"):
        Run(Unconditional(replace(config, steps=13)), data, tmp_path, resume=True)
    with pytest.raises(ModelError, match="written with seed = 0, not 1"):
        Run(Unconditional(replace(config, seed=1)), data, tmp_path, resume=True)
    with pytest.raises(ModelError, match="--resume"):
        Run(Unconditional(config), data, tmp_path, resume=False)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64])
def test_damaged_checkpoint(
    config: TrainingConfig, data: PatchDataset, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        Run(Unconditional(config), data, tmp_path, resume=True)


def test_a_file_of_something_else(
    config: TrainingConfig, data: PatchDataset, tmp_path: Path
) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / CHECKPOINT)
    with pytest.raises(ModelError, match="holds no training state"):
        Run(Unconditional(config), data, tmp_path, resume=True)


def test_pictures_of_other_channels(config: TrainingConfig, tmp_path: Path) -> None:
    colour = PatchDataset([torch.zeros(3, 32, 32, dtype=torch.uint8)], size=16)
    with pytest.raises(InputError, match=r"3 channel\(s\) for a network of 1"):
        Run(Unconditional(config), colour, tmp_path, resume=False).train()
    assert not (tmp_path / CHECKPOINT).exists()


def test_useless_weights_never_replace_a_checkpoint(
    config: TrainingConfig, data: PatchDataset, tmp_path: Path
) -> None:
    run = Run(Unconditional(config), data, tmp_path, resume=False)
    steps = run.steps()
    for _ in range(7):
        next(steps)
    good = state(tmp_path)
    with torch.no_grad():
        run.denoiser.net.conv_in.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="not finite at step 10"):
        list(steps)
    assert same(state(tmp_path), good)


def test_logs(unbroken: Path) -> None:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="reads the logs"
    )
    logs = event_accumulator.EventAccumulator(str(unbroken / "logs"))
    logs.Reload()
    assert set(logs.Tags()["scalars"]) >= {"loss/simple", "loss/variance"}
    assert [event.step for event in logs.Scalars("loss/simple")] == [10]
    assert logs.Tags()["images"]


def test_bfloat16_trains(data: PatchDataset, tmp_path: Path) -> None:
    """The weights stay float32; another precision in the same program is no error."""
    run = Run(Unconditional(shrunk(precision="bf16")), data, tmp_path / "bf16", resume=False)
    exact = Run(Unconditional(shrunk()), data, tmp_path / "float32", resume=False)
    a, b = (float(next(islice(r.steps(), 5, None))) for r in (run, exact))
    assert a == pytest.approx(b, rel=0.05)
    assert a != b
    assert {value.dtype for value in run.denoiser.net.state_dict().values()} == {torch.float32}


def test_compiled_run_is_the_same_run(
    data: PatchDataset, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a backend that changes no arithmetic and needs no C++ compiler."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    Run(Unconditional(shrunk(compile=True)), data, tmp_path, resume=False).train()
    assert same(state(tmp_path), state(unbroken))


def test_training_lowers_the_loss(data: PatchDataset, tmp_path: Path) -> None:
    config = shrunk(steps=150, batch=16, learning_rate=3e-3, checkpoint_every=150, sample_every=150)
    seen = [
        float(loss) for loss in Run(Unconditional(config), data, tmp_path, resume=False).steps()
    ]
    assert sum(seen[-20:]) < 0.7 * sum(seen[:20])
