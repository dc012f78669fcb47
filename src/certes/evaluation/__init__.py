"""How good a restoration or a set of generated pictures is, and what one gets to see of it.

What may live here: image metrics, figures and reports. Nothing here restores or calibrates.
"""

from __future__ import annotations
