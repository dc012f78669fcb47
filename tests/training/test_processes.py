"""Two processes that share a batch make the step that one makes alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from certes.data.patches import PatchDataset
from certes.errors import InputError
from certes.training.loop import CHECKPOINT, Run, check_share
from certes.training.unconditional import Unconditional

from .conftest import PICTURES, plain, shrunk

WORKER = """
import sys
from pathlib import Path
from certes.data.patches import PatchDataset, load_folder
from certes.training.loop import Run
from certes.training.presets import load_config
from certes.training.unconditional import Unconditional
data = PatchDataset(load_folder(sys.argv[2]), size=16)
Run(Unconditional(load_config(sys.argv[1])), data, Path(sys.argv[3]), resume=False).train()
"""


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_gradients_are_those_of_the_whole_batch(data: PatchDataset, tmp_path: Path) -> None:
    # One output: weights of pictures, which a variance output brings, are relative to each share.
    config = shrunk(**plain(), steps=1, checkpoint_every=1, sample_every=1)
    (tmp_path / "run.json").write_text(json.dumps(config.to_dict()))
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    arguments = [WORKER, str(tmp_path / "run.json"), str(PICTURES), str(tmp_path / "two")]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", *arguments],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    Run(Unconditional(config), data, tmp_path / "one", resume=False).train()
    alone, together = (load_file(tmp_path / out / CHECKPOINT) for out in ("one", "two"))
    gradients = [name for name in alone if name.endswith("exp_avg")]
    assert any(alone[name].any() for name in gradients)
    for name in gradients:  # a tenth of the first gradient
        torch.testing.assert_close(together[name], alone[name], rtol=1e-4, atol=1e-7)


def test_uneven_shares_are_refused() -> None:
    check_share(8, 4)
    with pytest.raises(InputError, match="10 patches cannot be shared by 4"):
        check_share(10, 4)
