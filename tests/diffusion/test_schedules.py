"""Schedules: inverses, derivatives, the DDPM table, descriptions that survive JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from certes.diffusion.schedules import (
    EDM,
    VE,
    VP,
    Cosine,
    DiscreteBetas,
    Schedule,
    SubVP,
    linear_betas,
    schedule_from_config,
)
from certes.errors import InputError

SCHEDULES = [VP(), SubVP(), VE(0.01, 50.0), EDM(), Cosine(), linear_betas()]
# Off the kinks of the table, whose entries lie at multiples of 1/1000.
TIMES = torch.linspace(0.0103, 0.9903, 99, dtype=torch.float64)

every = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.kind)


def derivative(values: torch.Tensor, h: float) -> torch.Tensor:
    """Fourth-order central difference of values at -2h, -h, h, 2h."""
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)


def around(h: float) -> torch.Tensor:
    return TIMES + h * torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=torch.float64)[:, None]


@every
def test_time_inverts_log_snr(schedule: Schedule) -> None:
    times = torch.linspace(1e-4, 1, 1000, dtype=torch.float64)
    torch.testing.assert_close(
        schedule.time(schedule.log_snr(times)), times, rtol=1e-10, atol=1e-14
    )


@every
def test_log_snr_falls_and_matches_its_parts(schedule: Schedule) -> None:
    log_snr = schedule.log_snr(TIMES)
    assert (log_snr.diff() < 0).all()
    assert log_snr.dtype == torch.float64
    torch.testing.assert_close(schedule.noise_level(TIMES), (-log_snr / 2).exp())


@every
def test_drift_is_the_derivative_of_log_alpha(schedule: Schedule) -> None:
    h = 5e-5
    found = derivative(schedule.alpha(around(h)).log(), h)
    torch.testing.assert_close(schedule.dlog_alpha(TIMES), found, rtol=1e-6, atol=1e-8)


@every
def test_diffusion_is_what_keeps_the_variance(schedule: Schedule) -> None:
    h = 5e-5
    growth = derivative(schedule.sigma(around(h)) ** 2, h)
    found = growth - 2 * schedule.dlog_alpha(TIMES) * schedule.sigma(TIMES) ** 2
    torch.testing.assert_close(schedule.diffusion_squared(TIMES), found, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("schedule", [VP(), Cosine(), linear_betas()], ids=lambda s: s.kind)
def test_variance_is_preserved(schedule: Schedule) -> None:
    total = schedule.alpha(TIMES) ** 2 + schedule.sigma(TIMES) ** 2
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-14, atol=0)


def test_sub_vp_has_the_signal_of_vp_and_the_square_of_its_noise() -> None:
    torch.testing.assert_close(SubVP().alpha(TIMES), VP().alpha(TIMES))
    torch.testing.assert_close(SubVP().sigma(TIMES), VP().sigma(TIMES) ** 2)


def test_cosine_is_cut_short_by_less_than_its_promise() -> None:
    times = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert (Cosine().alpha(times) - (math.pi / 2 * times).cos()).abs().max() < 5e-5
    ends = Cosine(-9.0, 7.0).log_snr(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(ends, torch.tensor([7.0, -9.0], dtype=torch.float64))


def test_edm_time_is_the_noise_level_beyond_one() -> None:
    levels = torch.tensor([0.0, 0.3, 80.0], dtype=torch.float64)
    torch.testing.assert_close(EDM().time(-2 * levels.log()), levels)


class TestTable:
    betas = np.linspace(1e-4, 0.02, 1000)

    def test_entries_are_exact(self) -> None:
        table = linear_betas()
        times = table.time_of_index(torch.arange(1000))
        expected = torch.from_numpy(np.cumprod(1 - self.betas))
        torch.testing.assert_close(table.alpha(times) ** 2, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(table.index(times), torch.arange(1000.0, dtype=torch.float64))

    def test_published_facts(self) -> None:
        table = linear_betas()
        last = float(table.alpha(1.0) ** 2)
        assert last == pytest.approx(4.0358e-5, rel=1e-5)
        assert math.sqrt(last) == pytest.approx(0.00635, rel=1e-3)
        assert float(table.sigma(table.time_of_index(0.0))) == pytest.approx(0.01, rel=1e-12)

    def test_starts_clean(self) -> None:
        assert float(linear_betas().sigma(0.0)) == 0.0
        assert float(linear_betas().time(math.inf)) == 0.0

    def test_lies_between_its_neighbours(self) -> None:
        table = DiscreteBetas((0.1, 0.3, 0.2))
        log_abar = 2 * table.log_alpha(torch.tensor([1 / 3, 0.5, 2 / 3], dtype=torch.float64))
        torch.testing.assert_close(log_abar[1], (log_abar[0] + log_abar[2]) / 2)

    def test_approaches_the_continuous_vp(self) -> None:
        vp = VP(0.1, 20.0)
        times = torch.linspace(0.05, 1, 20, dtype=torch.float64)
        assert (linear_betas().log_snr(times) - vp.log_snr(times)).abs().max() < 0.11


@pytest.mark.parametrize(
    ("schedule", "log_snr"),
    [(VP(), -20.0), (VE(0.1, 10.0), 5.0), (Cosine(), 21.0), (linear_betas(), -10.2)],
    ids=lambda value: str(value)[:12],
)
def test_a_log_snr_out_of_reach_is_an_error(schedule: Schedule, log_snr: float) -> None:
    with pytest.raises(InputError, match="log-SNR runs from"):
        schedule.time(log_snr)
    with pytest.raises(InputError):
        schedule.time(math.nan)


@every
def test_description_survives_json(schedule: Schedule) -> None:
    assert schedule_from_config(json.loads(json.dumps(schedule.to_config()))) == schedule


@pytest.mark.parametrize("config", [{"kind": "warp"}, {}, {"kind": "vp", "sigma_max": 1.0}])
def test_a_description_that_fits_nothing_is_an_error(config: dict[str, object]) -> None:
    with pytest.raises(InputError, match="schedule"):
        schedule_from_config(config)


@pytest.mark.parametrize(
    "build",
    [
        lambda: VP(0.0, 1.0),
        lambda: VP(2.0, 1.0),
        lambda: VE(0.0, 1.0),
        lambda: VE(2.0, 1.0),
        lambda: Cosine(3.0, 3.0),
        lambda: DiscreteBetas(()),
        lambda: DiscreteBetas((0.1, 1.0)),
    ],
)
def test_impossible_schedules_are_refused(build) -> None:
    with pytest.raises(InputError, match="give"):
        build()
