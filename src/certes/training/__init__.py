"""Training (Ho et al. 2020, algorithm 1): one loop, objectives, averaging, checkpoints, presets.

May live here: what changes weights or measures a trained network on its training pictures. Knows
networks and processes; knows nothing of restoration or intervals.
"""

from __future__ import annotations
