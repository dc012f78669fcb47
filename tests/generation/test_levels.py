from __future__ import annotations

import numpy as np
import pytest

from certes.diffusion.solvers.sampling import SIGMA_MAX
from certes.errors import InputError
from certes.generation.levels import ddpm_levels


def test_levels_are_those_of_the_table() -> None:
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    wanted = [0.15 * np.sqrt((1 - kept[t - 1]) / kept[t - 1]) for t in (1, 250, 875)]
    assert ddpm_levels([1, 250, 875], scale=0.15) == pytest.approx(wanted, rel=1e-9)
    assert ddpm_levels([0]) == [0]


def test_the_end_of_the_chain_is_where_sampling_starts() -> None:
    assert ddpm_levels([1000]) == [SIGMA_MAX]
    assert ddpm_levels([1000], scale=0.499)[0] == pytest.approx(SIGMA_MAX, rel=0.01)


@pytest.mark.parametrize("step", [-1, 1001])
def test_steps_outside_the_chain(step: int) -> None:
    with pytest.raises(InputError, match="from 0 to 1000"):
        ddpm_levels([step])
