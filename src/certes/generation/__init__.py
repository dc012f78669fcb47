"""DDPM's own uses of a model of pictures (Ho et al. 2020, sections 4.3 and 4.4).

Progressive generation, interpolation, and the progressive codec. May live here: what draws,
mixes or codes pictures with an unconditional model. Knows processes, solvers and networks; knows
nothing of measurements.
"""

from __future__ import annotations
