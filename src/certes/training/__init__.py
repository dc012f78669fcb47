"""Training (Ho et al. 2020, algorithm 1): one loop, objectives, averaging, checkpoints, presets.

May live here: what changes weights, measures a trained network on its training pictures, or
remembers those. Knows networks and processes; knows nothing of restoration or intervals.
"""

from __future__ import annotations
