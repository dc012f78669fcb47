"""How good a restoration is, and what a person or a program gets to see of it.

What may live here: image metrics, figures and reports. Nothing here restores or calibrates.
"""

from __future__ import annotations
