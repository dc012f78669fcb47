"""Named numbers with words in a header, as a safetensors file."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from numpy import ndarray
from safetensors import SafetensorError
from torch import Tensor

from certes.data.files import atomic_path

_ERRNO = re.compile(r"os error (\d+)")


def write_tensors(
    path: str | Path,
    content: Mapping[str, Tensor | ndarray],
    header: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file, atomically.

    Raises: OSError when it cannot be written.
    """
    whole = {name: torch.as_tensor(each).detach().cpu() for name, each in content.items()}
    whole = {name: each.contiguous() for name, each in whole.items()}
    words = dict(header) if header else None
    with atomic_path(path) as temporary:
        try:
            cast(Any, safetensors.torch).save_file(whole, temporary, words)
        except SafetensorError as error:
            raise _of_the_system(error) from error


def _of_the_system(error: SafetensorError) -> OSError:
    """What the system said, which safetensors repeats in words."""
    found = _ERRNO.search(str(error))
    if found is None:
        return OSError(errno.EIO, str(error))
    return OSError(int(found[1]), os.strerror(int(found[1])))
