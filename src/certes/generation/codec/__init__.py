"""The progressive codec (Ho et al. 2020, section 4.3, algorithms 3 and 4), as one that runs.

A chain of a few dozen ancestral steps whose noise the sender chooses, by reverse channel coding
(Theis et al. 2022, arXiv:2206.08889; Vonderfecht and Liu 2025), and a lossless end by the
discretised decoder. The stream may be cut anywhere. ``encoding`` and ``decoding`` hold the calls
that users make; ``chain`` is what both sides share.
"""

from certes.generation.codec.decoding import Decoded, decode
from certes.generation.codec.encoding import Encoded, encode
from certes.generation.codec.knowledge import Knowledge, Reconstruction

__all__ = ["Decoded", "Encoded", "Knowledge", "Reconstruction", "decode", "encode"]
