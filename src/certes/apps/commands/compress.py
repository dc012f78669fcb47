"""certes compress."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from certes.apps import options
from certes.apps.console import number, say, show_json


def compress(
    picture: Annotated[
        Path,
        typer.Argument(metavar="PICTURE", show_default=False, help="PNG, JPEG or TIFF, no alpha."),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT.crt", show_default=False, help="The file to write.")
    ],
    model: options.Model = "nuclei",
    lossless: Annotated[
        bool,
        typer.Option("--lossless", help="The picture bit by bit (8-bit pictures); the default."),
    ] = False,
    bits_per_pixel: Annotated[
        float | None,
        typer.Option(
            "--bits-per-pixel", show_default=False, help="The most that the file may take."
        ),
    ] = None,
    quality: Annotated[
        float | None,
        typer.Option("--quality", show_default=False, help="The PSNR that is enough, in dB."),
    ] = None,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Compress a picture with a model that the receiver has, too.

    The file may be cut anywhere: what is left decodes to a coarser picture. Says what was spent,
    what an ideal code for the same chain would have spent, and the PSNR of what a receiver gets.
    """
    from certes.apps.jobs.codec import compress_picture

    result = compress_picture(picture, out, model, lossless, bits_per_pixel, quality, device)
    if as_json:
        show_json(result)
    else:
        _show(result, out)


def _show(result: dict[str, Any], out: Path) -> None:
    got = "bit by bit" if result["exact"] else f"with {number(result['psnr'], 2)} dB"
    say(
        f"{result['bytes']} bytes, {number(result['bits_per_pixel'])} bits per pixel "
        f"(ideal: {number(result['ideal_bits_per_pixel'])})"
    )
    say(f"A receiver gets the picture {got} from {out}")
