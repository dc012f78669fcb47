"""Compress a picture into a file that may be cut off anywhere.

The diffusion model is the codec: sender and receiver walk the same chain, and the file says which
noise the sender chose. Cut off, it is a coarser picture with an interval for what is missing.

Writes cell.crt.
"""

from __future__ import annotations

from pathlib import Path

import certes
from certes.data.bundled import bundled_pictures
from certes.evaluation.metrics import psnr
from certes.generation.codec import decode, encode


def main() -> None:
    """Encode without loss, decode a fifth, a half, and all of it."""
    picture = bundled_pictures()[0].pixels[:, 160:192, 160:192]
    model = certes.load("nuclei")
    assert isinstance(model, certes.Model)
    encoded = encode(picture, model)
    Path("cell.crt").write_bytes(encoded.data)
    whole = len(encoded.data)
    print(f"{picture.numel()} bytes of pixels in {whole} bytes")
    for share in (0.2, 0.5, 1.0):
        decoded = decode(encoded.data[: round(share * whole)], model)
        quality = float(psnr(decoded.estimate[None], picture[None]))
        said = "every pixel exact" if decoded.exact else f"{quality:.1f} dB"
        print(f"{share:.0%} of the file: {said}")


if __name__ == "__main__":
    main()
