"""The pictures that come with certes, each listed with source and licence in its SOURCES.csv."""

from __future__ import annotations

from pathlib import Path

from certes.data.pictures import Picture, find_pictures, read_picture

_FOLDER = Path(__file__).parent / "bundled"


def bundled_pictures(collection: str = "nuclei") -> list[Picture]:
    """Read the bundled pictures of a collection, sorted by name.

    "nuclei": eight 256 x 256 grey fluorescence pictures of cell nuclei from the test part of the
    2018 Data Science Bowl (Caicedo et al., Nature Methods 2019; CC0), none used for training.
    """
    return [read_picture(path) for path in find_pictures([_FOLDER / collection])]
