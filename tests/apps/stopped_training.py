"""certes, of which one process of several stops in the midst of training.

stopped_training.py error|kill RANK ARGUMENTS...
"""

from __future__ import annotations

import os
import signal
import sys

from torch import Tensor

from certes.apps.cli import main
from certes.data.patches import EVERY, PatchDataset
from certes.errors import InputError

STEP = 19
_whole = PatchDataset.batch


def _stopping(
    data: PatchDataset, step: int, batch_size: int, seed: int, share: slice = EVERY
) -> Tensor:
    if step == STEP and os.environ["RANK"] == RANK:
        if HOW == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise InputError(f"data: process {RANK} has lost a picture")
    return _whole(data, step, batch_size, seed, share)


if __name__ == "__main__":
    HOW, RANK = sys.argv[1:3]
    del sys.argv[1:3]
    PatchDataset.batch = _stopping
    main()
