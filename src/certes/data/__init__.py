"""Pictures in and out of files, and batches of patches for training.

What may live here: reading and writing pictures with their size, bit depth and alpha kept, atomic
files, in-memory datasets, fingerprints, the bundled pictures. Nothing here knows about diffusion.
"""

from __future__ import annotations
