"""Posterior samplers: one file each over one interface, and the table of all of them.

A sampler is a generator of states ``(measurement, denoiser, levels, noise) -> Iterator[State]``
whose last state holds one posterior sample for every row of the measurement. Which to choose is
said in the documentation, from measurements; ``default_sampler`` knows it too.
"""

from __future__ import annotations

from certes.restoration.samplers.methods import SAMPLERS, Method, default_sampler

__all__ = ["SAMPLERS", "Method", "default_sampler"]
