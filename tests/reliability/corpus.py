"""Real files of every kind that `restore` and `decompress` read, and the calls that read them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from certes.data import png16
from certes.data.bundled import bundled_pictures
from certes.data.measurements import MeasurementFile, write_measurement
from certes.data.raster import Raster
from certes.generation.codec import encode
from certes.networks.model import load
from certes.restoration.operators import CompressedSensing

from .models import make_models

SIDE = 32

FEW = ("--samples", "2", "--steps", "1", "--alpha", "0.5")
_NOISE = ("--task", "denoise", "--noise", "0.1")
_KNOWN = {
    "pixels": (*_NOISE, *FEW),
    "functions": (*_NOISE, *FEW),
    "diffusers": (*_NOISE, *FEW),
    "conditional": FEW,
    "bounds": ("--alpha", "0.5"),
}

Arguments = tuple[object, ...]
Pixels = NDArray[Any]


@dataclass(frozen=True)
class Target:
    """A place where the program reads a file.

    Args:
        name: of the place.
        seeds: files that belong there, by name.
        call: the program's arguments for a file (or, for parts of a model, the folder that it is
            in), and where results shall go.
        folder: the model, where the file is part of one.
    """

    name: str
    seeds: dict[str, bytes]
    call: Callable[[Path, Path], Arguments]
    folder: Path | None = None


def make_targets(work: Path) -> list[Target]:
    """All of them; models, and other files that the calls need, are made in `work`."""
    models = make_models(work / "models")
    return [*_of_restore(work, models), *_of_decompress(work, models["pixels"]), *_models(models)]


def _of_restore(work: Path, models: dict[str, Path]) -> Iterator[Target]:
    clean = sound_picture(work)
    usual: Arguments = ("--model", models["pixels"], *FEW)
    stills = pictures(work)
    jpegs = {name: content for name, content in stills.items() if name.endswith(".jpg")}

    def restored(*more: object) -> Callable[[Path, Path], Arguments]:
        return lambda path, out: ("restore", path, *more, "--out", out)

    def beside(option: str, *more: object) -> Callable[[Path, Path], Arguments]:
        return lambda path, out: ("restore", clean, option, path, *more, *usual, "--out", out)

    def task(name: str, *more: object) -> Callable[[Path, Path], Arguments]:
        return restored("--task", name, *more, *usual)

    yield Target("picture", stills, restored(*_NOISE, *usual))
    yield Target("picture, unknown noise", stills, task("denoise"))
    yield Target("picture, unknown blur", stills, task("deblur", "--kernel", "auto"))
    yield Target("small picture", stills, task("super-resolve", "--factor", 2))
    yield Target("jpeg", jpegs, task("jpeg"))
    yield Target("mask", masks(), beside("--mask", "--task", "inpaint", "--noise", 0.1))
    yield Target("kernel", kernels(), beside("--kernel", "--task", "deblur", "--noise", 0.1))
    yield Target("truth", stills, beside("--truth", *_NOISE))
    card = (models["pixels"] / "cards" / "denoise.json").read_bytes()
    yield Target("card", {"card.json": card}, beside("--calibration", *_NOISE))
    yield Target("measurement", measurements(work), task("compressed-sensing"))
    greys = {name: content for name, content in stills.items() if "grey" in name}
    for kind in ("conditional", "bounds"):
        call = restored("--model", models[kind], *_KNOWN[kind])
        yield Target(f"condition of a {kind} model", greys, call)


def _of_decompress(work: Path, pixels: Path) -> Iterator[Target]:
    sent = streams(pixels)
    sound = work / "sound.crt"
    sound.write_bytes(sent["lossless.crt"])
    drawn = ("--as", "sample", *FEW)

    def written(*more: object) -> Callable[[Path, Path], Arguments]:
        return lambda path, out: ("decompress", path, out / "a.png", "--model", pixels, *more)

    yield Target("stream", sent, written())
    yield Target("stream, drawn from", sent, written(*drawn))
    yield Target(
        "model of a stream",
        files_of(pixels),
        lambda model, out: ("decompress", sound, out / "a.png", "--model", model),
        pixels,
    )


def _models(models: dict[str, Path]) -> Iterator[Target]:
    clean = sound_picture(models["pixels"].parents[1])
    for name, folder in models.items():

        def call(model: Path, out: Path, known: Arguments = _KNOWN[name]) -> Arguments:
            return ("restore", clean, "--model", model, *known, "--out", out)

        yield Target(f"{name} model", files_of(folder), call, folder)


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a model folder, by their names in it."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


def sound_picture(work: Path) -> Path:
    """A file in which nothing is wrong."""
    path = work / "sound.png"
    path.write_bytes(_encoded(_grey(), "png"))
    return path


def pictures(work: Path) -> dict[str, bytes]:
    """Stills of every format, depth, layout and compression, most of which can be restored."""
    grey, colour = _grey(), _colour()
    opaque = np.full((SIDE, SIDE, 1), 200, np.uint8)
    alpha = np.concatenate([colour, opaque], axis=2)
    turned = Image.Exif()
    turned[0x0112] = 6
    plain: dict[str, tuple[Any, dict[str, Any]]] = {
        "grey.png": (grey, {}),
        "rgb.png": (colour, {}),
        "rgba.png": (alpha, {}),
        "grey-alpha.png": (alpha[..., 2:], {}),
        "bilevel.png": (grey > 40, {}),
        "palette.png": (Image.fromarray(colour).quantize(16), {}),
        "transparent.png": (Image.fromarray(colour).quantize(16), {"transparency": 3}),
        "keyed.png": (colour, {"transparency": (0, 0, 0)}),
        "turned.png": (colour, {"exif": turned}),
        "animated.png": (colour, _frames(colour)),
        "grey.jpg": (grey, {}),
        "444.jpg": (colour, {"subsampling": 0, "quality": 80}),
        "420.jpg": (colour, {"subsampling": 2, "quality": 30}),
        "progressive.jpg": (colour, {"progressive": True}),
        "turned.jpg": (colour, {"exif": turned}),
        "cmyk.jpg": (Image.fromarray(colour).convert("CMYK"), {}),
        "lossless.webp": (colour, {"lossless": True}),
        "lossy.webp": (alpha, {}),
        "animated.webp": (colour, _frames(colour)),
        "a.bmp": (colour, {}),
        "animated.gif": (grey, _frames(grey)),
        "still.gif": (grey, {}),
        "a.ppm": (colour, {}),
        "lzw.tif": (colour, {"compression": "tiff_lzw"}),
        "lzw16.tif": (grey.astype(np.uint16) * 257, {"compression": "tiff_lzw"}),
        "jpeg.tif": (colour, {"compression": "jpeg"}),
        "group4.tif": (grey > 40, {"compression": "group4"}),
        "packbits.tif": (grey, {"compression": "packbits"}),
        "predicted.tif": (colour, {"compression": "tiff_adobe_deflate", "tiffinfo": {317: 2}}),
        "palette.tif": (Image.fromarray(colour).quantize(16), {}),
        "cmyk.tif": (Image.fromarray(colour).convert("CMYK"), {}),
    }
    found = {
        name: _encoded(pixels, name.rpartition(".")[2], **how)
        for name, (pixels, how) in plain.items()
    }
    return found | _deep_pngs(work) | _tiffs()


def masks() -> dict[str, bytes]:
    """Which pixels are known, for the sound picture."""
    known = (np.indices((SIDE, SIDE)).sum(0) % 3 > 0).astype(np.uint8) * 255
    colour = np.repeat(known[..., None], 3, axis=2)
    return {
        "mask.png": _encoded(known, "png"),
        "bilevel.png": _encoded(known > 0, "png"),
        "colour.png": _encoded(colour, "png"),
        "mask.tif": _tiff(known.astype(np.float32) / 255),
    }


def kernels() -> dict[str, bytes]:
    """Pictures of blurs."""
    line = np.zeros((5, 5), np.uint8)
    line[2] = 90, 120, 200, 120, 30
    return {"line.png": _encoded(line, "png"), "line.tif": _tiff(line.astype(np.float32) / 255)}


def measurements(work: Path) -> dict[str, bytes]:
    """Of compressed sensing."""
    H = CompressedSensing((1, SIDE, SIDE), 0.25, seed=0)
    y = H(torch.as_tensor(_grey() / 255).float()[None, None])
    path = work / "a.measured.safetensors"
    said = {**H.describe(), "seed": H.seed}
    write_measurement(path, MeasurementFile("a", y[0], said, 0.02))
    return {path.name: path.read_bytes()}


def streams(model: Path) -> dict[str, bytes]:
    """Compressed pictures."""
    grey, deep = torch.as_tensor(_grey() / 255)[None].float(), torch.rand(1, SIDE, SIDE)
    rgb = torch.as_tensor(_colour() / 255).permute(2, 0, 1).float()
    coder = load(model, "cpu")
    return {
        "lossless.crt": encode(grey, coder).data,
        "short.crt": encode(grey, coder, bits_per_pixel=2).data,
        "rgb.crt": encode(rgb, coder, bits_per_pixel=3).data,
        "deep.crt": encode(deep, coder, bits_per_pixel=3, dtype="uint16").data,
    }


def _deep_pngs(work: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    deep = _colour().astype(np.uint16) * 257 + 1
    for channels, name in enumerate(("grey", "grey-alpha", "rgb", "rgba"), start=1):
        samples = np.concatenate([deep, deep], axis=2)[..., :channels]
        path = work / f"{name}16.png"
        png16.write(path, Raster(samples, channels % 2 == 0))
        found[path.name] = path.read_bytes()
    return found


def _tiffs() -> dict[str, bytes]:
    grey, colour = _grey(), _colour()
    unit = grey.astype(np.float32) / 255
    both = np.concatenate([colour, colour[..., :1]], axis=2)
    return {
        "grey.tif": _tiff(grey),
        "rgb.tif": _tiff(colour, photometric="rgb"),
        "alpha.tif": _tiff(both, photometric="rgb", extrasamples=["unassalpha"]),
        "premultiplied.tif": _tiff(both, photometric="rgb", extrasamples=["assocalpha"]),
        "grey16.tif": _tiff(grey.astype(np.uint16) * 257),
        "float.tif": _tiff(unit),
        "half.tif": _tiff(unit.astype(np.float16)),
        "double.tif": _tiff(unit.astype(np.float64)),
        "signed.tif": _tiff(grey.astype(np.int16)),
        "tiled.tif": _tiff(colour, photometric="rgb", tile=(16, 16)),
        "strips.tif": _tiff(unit, rowsperstrip=3),
        "big.tif": _tiff(grey, bigtiff=True),
        "motorola.tif": _tiff(grey.astype(np.uint16), byteorder=">"),
        "deflate.tif": _tiff(grey, compression="zlib"),
        "lzma.tif": _tiff(unit, compression="lzma"),
        "planes.tif": _tiff(np.moveaxis(colour, 2, 0), photometric="rgb", planarconfig="separate"),
        "white.tif": _tiff(grey, photometric="miniswhite"),
        "turned.tif": _tiff(grey, extratags=[(274, "H", 1, 6, True)]),
        "pages.tif": _tiff(np.stack([grey, grey]), photometric="minisblack"),
        "imagej.tif": _tiff(grey, imagej=True),
        "ome.tif": _tiff(grey, ome=True),
    }


def _tiff(pixels: Pixels, **how: Any) -> bytes:
    content = io.BytesIO()
    tifffile.imwrite(content, pixels, **how)
    return content.getvalue()


def _encoded(pixels: Any, suffix: str, **how: Any) -> bytes:
    content = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(content, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix), **how)
    return content.getvalue()


def _frames(pixels: Pixels) -> dict[str, Any]:
    return {"save_all": True, "append_images": [Image.fromarray(pixels[::-1].copy())]}


def _grey() -> Pixels:
    crop = bundled_pictures()[-1].pixels[0, 128 : 128 + SIDE, 64 : 64 + SIDE]
    return (crop * 255).byte().numpy()


def _colour() -> Pixels:
    grey = _grey()
    return np.stack([grey, grey[::-1], grey.T], axis=2)
