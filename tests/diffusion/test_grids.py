"""Grids of noise levels."""

from __future__ import annotations

import pytest
import torch

from certes.diffusion.grids import karras_grid, log_sigma_grid, times_of
from certes.diffusion.schedules import EDM, VE, VP
from certes.errors import InputError

both = pytest.mark.parametrize("grid", [log_sigma_grid, karras_grid])


@both
@pytest.mark.parametrize("steps", [2, 3, 20])
def test_as_many_levels_as_steps_then_zero(grid, steps: int) -> None:
    levels = grid(10.0, 0.02, steps)
    assert levels.shape == (steps + 1,)
    assert (levels.diff() < 0).all()
    expected = torch.tensor([10.0, 0.02, 0.0], dtype=torch.float64)
    torch.testing.assert_close(levels[[0, -2, -1]], expected)


@both
def test_one_step_goes_straight_to_zero(grid) -> None:
    torch.testing.assert_close(grid(10.0, 0.02, 1), torch.tensor([10.0, 0.0], dtype=torch.float64))


def test_log_sigma_is_geometric() -> None:
    ratios = log_sigma_grid(8.0, 0.5, 5)[:-1]
    torch.testing.assert_close(ratios, torch.tensor([8.0, 4, 2, 1, 0.5], dtype=torch.float64))


def test_karras_is_even_in_its_root() -> None:
    roots = karras_grid(80.0, 0.002, 18)[:-1] ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff()[0].expand(17))
    torch.testing.assert_close(
        karras_grid(80.0, 0.002, 18, rho=1.0)[:-1], torch.linspace(80, 0.002, 18).double()
    )


@pytest.mark.parametrize("schedule", [EDM(), VP()])
def test_times_have_these_levels(schedule) -> None:
    levels = log_sigma_grid(10.0, 0.02, 7)
    torch.testing.assert_close(schedule.noise_level(times_of(schedule, levels)), levels)


def test_levels_out_of_reach_are_an_error() -> None:
    with pytest.raises(InputError, match="log-SNR"):
        times_of(VE(0.02, 10.0), log_sigma_grid(10.0, 0.02, 7))


@both
@pytest.mark.parametrize("arguments", [(1.0, 2.0, 5), (1.0, 0.0, 5), (2.0, 1.0, 0)])
def test_impossible_grids_are_refused(grid, arguments) -> None:
    with pytest.raises(InputError, match="give"):
        grid(*arguments)
