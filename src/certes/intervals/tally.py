"""A tally of critical values: takes pictures as they come, in any batches, on any worker.

Critical values are kept as they are while they fit into a budget of memory; beyond it every image
is kept as a histogram, rounded up, so that what is certified still holds (`critical`). Tallies of
parts of the data are merged, and saved in between. Neither the order of the pictures nor how they
were divided into batches and tallies changes the outcome.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from numbers import Integral
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from numpy import ndarray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from certes.data.files import parse_json
from certes.data.fingerprints import sketch
from certes.data.tensors import write_tensors
from certes.errors import CalibrationError, CertesError, InputError
from certes.intervals.bounds import Bounds, Provenance, check_counted, check_groups, check_truth
from certes.intervals.cards import Calibration, check_raw
from certes.intervals.critical import CriticalValues, Histogram, Histograms, Units, digest
from certes.intervals.families import each_picture, family_named
from certes.intervals.rules import RULES, ImageLevel, certify
from certes.intervals.shapes import Shape, shape_from_config
from certes.intervals.shift import features

Label = str | int

_FORMAT = "certes tally 1"
MEMORY = 2**27
"""Bytes of critical values that are kept exactly unless told otherwise."""


@dataclass(frozen=True, eq=False)
class _Image:
    """What is kept of one picture."""

    values: Float32[ndarray, " pixels"] | Histogram
    digest: int
    label: Label | None
    sketch: tuple[str, ...]
    features: tuple[float, ...]

    def binned(self) -> _Image:
        """The same with a histogram in place of exact values."""
        if isinstance(self.values, Histogram):
            return self
        return replace(self, values=Histogram.of(self.values))


class Tally:
    """Critical values of calibration pictures, gathered in one pass.

    Args:
        family: name of the nested family, see `certes.intervals.families`.
        shape: weights of lambda, see `certes.intervals.shapes`; by default all alike.
        memory: bytes up to which critical values (4 bytes each) are kept exactly; calibrating takes
            twice as much on top. Beyond, an image takes some 10 to 30 kB.

    Raises: InputError for an unknown family.
    """

    def __init__(
        self, family: str = "scale", *, shape: Shape | None = None, memory: int = MEMORY
    ) -> None:
        self.family = family_named(family)
        self.shape = shape
        self.memory = memory
        self.provenance: Provenance | None = None
        self.counted = False
        self.exact = True
        self._images: list[_Image] = []

    @property
    def images(self) -> int:
        """Number of images so far."""
        return len(self._images)

    def add(
        self,
        bounds: Bounds,
        truth: Float[Tensor, "b c h w"],
        counted: Bool[Tensor, "b c h w"] | None = None,
        groups: Sequence[Label] | None = None,
    ) -> Tally:
        """Take in pictures, of any size; returns itself.

        Args:
            bounds: raw bounds, (B, C, H, W).
            truth: the true pictures, values in [0, 1].
            counted: bool (B, C or 1, H, W): only these pixels count; by default all.
            groups: one label per image, where images are not independent. Equal labels make one
                unit, whenever they come and in whichever tally they come.

        Raises: InputError for arguments that do not fit; CalibrationError for bounds that are
            calibrated already, or were made otherwise than those before.
        """
        check_raw(bounds)
        check_truth(truth, bounds)
        mask = None if counted is None else check_counted(counted, truth).cpu().numpy()
        labels = _labels(groups, len(truth))
        self._join(bounds.provenance)
        # What lies beyond six digits depends on the layout in memory, for they are sums of float32.
        described = features(bounds).round(6).tolist()

        def image(i: int) -> _Image:
            critical = self.family.critical_of(bounds, truth, i, self.shape)
            values = critical.ravel() if mask is None else critical[mask[i]]
            kept = _Image(values, digest(values), labels[i], sketch(truth[i]), tuple(described[i]))
            return kept if self.exact else kept.binned()

        self._images += each_picture(bounds, image)
        self.counted |= counted is not None
        self._economise()
        return self

    def merge(self, other: Tally) -> Tally:
        """Take in all that another tally holds; returns itself.

        Raises: CalibrationError when the other is of another family, shape or make of bounds.
        """
        mine, theirs = self._kind(), other._kind()
        differences = [f"{k}: {mine[k]!r}, not {theirs[k]!r}" for k in mine if mine[k] != theirs[k]]
        if differences:
            raise CalibrationError(
                "these tallies do not belong together (this one's value first):"
                f" {'; '.join(differences)}"
            )
        if other._images:
            self._join(other.provenance)
        self._images += other._images
        self.counted |= other.counted
        self.exact &= other.exact
        self._economise()
        return self

    def units(self) -> Units:
        """The losses of the units, images or groups, in the order in which they came.

        Raises: InputError when there are none.
        """
        self._check_filled()
        numbers: dict[Any, int] = {}
        keys = [
            i if image.label is None else (image.label,) for i, image in enumerate(self._images)
        ]
        unit = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
        if self.exact:
            return CriticalValues(list(_exact(self._images)), unit)
        return Histograms(list(_binned(self._images)), unit, self._digests())

    def calibrate(
        self,
        *,
        alpha: float = 0.1,
        delta: float = 0.1,
        rule: str = "wsr",
        tolerance: float = 0.1,
        seed: int = 0,
    ) -> Calibration:
        """Find the smallest interval size that `rule` certifies; see `calibrate`.

        Raises: InputError for arguments that do not fit; CalibrationError when alpha cannot be
            certified with so few units (it names the number that would do).
        """
        units = self.units()
        size = certify(units.shuffled(seed), rule, alpha, delta, tolerance)
        # In an order of their own, so that equal data make equal cards.
        images = sorted(self._images, key=lambda image: image.digest)
        return Calibration(
            alpha=alpha,
            delta=delta if RULES[rule].needs_delta else None,
            rule=rule,
            family=self.family.name,
            size=size,
            n=units.n,
            images=self.images,
            grouped=any(image.label is not None for image in images),
            seed=seed,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            version=_version(),
            provenance=self.provenance,
            tolerance=tolerance if rule == ImageLevel.name else None,
            shape=self.shape,
            counted=self.counted,
            exact=self.exact,
            sketches=tuple(image.sketch for image in images),
            features=tuple(image.features for image in images),
        )

    def save(self, path: str | Path) -> None:
        """Write the tally as a safetensors file, atomically. It holds no pictures.

        Raises: InputError when it is empty; OSError when it cannot be written.
        """
        self._check_filled()
        content = {"digests": self._digests()}
        if self.exact:
            content |= _packed("values", list(_exact(self._images)))
        else:
            histograms = list(_binned(self._images))
            content |= _packed("bins", [h.bins for h in histograms])
            content |= _packed("counts", [h.counts for h in histograms])
            content |= _packed("samples", [h.sample for h in histograms])
        header = {
            "format": _FORMAT,
            **self._kind(),
            "provenance": self.provenance and asdict(self.provenance),
            "memory": self.memory,
            "counted": self.counted,
            "exact": self.exact,
            "labels": [image.label for image in self._images],
            "sketches": [image.sketch for image in self._images],
            "features": [image.features for image in self._images],
        }
        write_tensors(path, content, {"tally": json.dumps(header)})

    @classmethod
    def load(cls, path: str | Path) -> Tally:
        """Read a tally.

        Raises: CalibrationError when there is none or it is damaged, naming the file and why.
        """
        try:
            with cast(Any, safe_open(path, "numpy")) as file:
                said: dict[str, str] = file.metadata() or {}
                arrays = {str(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls._of_file(parse_json(said["tally"]), arrays)
        except (
            *(OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
            *(RecursionError, SafetensorError, CertesError),
        ) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CalibrationError(
                f"{path}: not a readable tally ({reason}); make it again"
            ) from error

    @classmethod
    def _of_file(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Tally:
        if header["format"] != _FORMAT:
            raise ValueError(f"format is {header['format']!r}, not {_FORMAT!r}")
        shape = header["shape"]
        tally = cls(
            header["family"],
            shape=None if shape is None else shape_from_config(shape),
            memory=header["memory"],
        )
        made = header["provenance"]
        tally.provenance = None if made is None else Provenance(**made)
        tally.counted, tally.exact = header["counted"], header["exact"]
        if tally.exact:
            values: Iterator[Any] = iter(_unpacked("values", arrays))
        else:
            parts = (_unpacked(name, arrays) for name in ("bins", "counts", "samples"))
            values = (Histogram(*part) for part in zip(*parts, strict=True))
        described = (header[name] for name in ("labels", "sketches", "features"))
        rows = zip(values, arrays["digests"].tolist(), *described, strict=True)
        tally._images = [
            _Image(kept, number, label, tuple(hashes), tuple(numbers))
            for kept, number, label, hashes, numbers in rows
        ]
        return tally

    def _check_filled(self) -> None:
        if not self._images:
            raise InputError("tally: it holds no images yet; add some")

    def _kind(self) -> dict[str, Any]:
        """What two tallies must have in common to be merged, besides the make of their bounds."""
        shape = None if self.shape is None else self.shape.to_config()
        return {"family": self.family.name, "shape": shape}

    def _join(self, made: Provenance | None) -> None:
        """Take note of what made the bounds, or refuse a second make."""
        if not self._images:
            self.provenance = made
        elif made != self.provenance:
            said = self.provenance and made and "; ".join(self.provenance.differences(made))
            raise CalibrationError(
                "bounds: they were made otherwise than those in this tally (the tally's value"
                f" first): {said or f'{self.provenance}, not {made}'}"
            )

    def _economise(self) -> None:
        """Go over to histograms once the exact values exceed their budget."""
        used = sum(values.nbytes for values in _exact(self._images)) if self.exact else 0
        self.exact &= used <= self.memory
        if not self.exact:
            self._images = [image.binned() for image in self._images]

    def _digests(self) -> Int[ndarray, " images"]:
        return np.array([image.digest for image in self._images], np.uint64)


def _exact(images: list[_Image]) -> Iterator[Float32[ndarray, " pixels"]]:
    return (cast(Float32[ndarray, " pixels"], image.values) for image in images)


def _binned(images: list[_Image]) -> Iterator[Histogram]:
    return (cast(Histogram, image.values) for image in images)


def _labels(groups: Sequence[Label] | None, images: int) -> list[Label | None]:
    check_groups(groups, images)
    if groups is None:
        return [None] * images
    return [_label(label) for label in groups]


def _label(label: Any) -> Label:
    if isinstance(label, str):
        return label
    if isinstance(label, Integral):
        return int(label)
    raise InputError(f"groups: labels are strings or whole numbers, not {label!r}")


def _packed(name: str, parts: list[Any]) -> dict[str, Any]:
    """Arrays of unequal length as one, with their lengths."""
    return {name: np.concatenate(parts), f"{name}_lengths": np.array([len(part) for part in parts])}


def _unpacked(name: str, arrays: dict[str, Any]) -> list[Any]:
    ends = np.cumsum(arrays[f"{name}_lengths"])
    if not len(ends) or ends[-1] != len(arrays[name]) or np.diff(ends, prepend=0).min() < 1:
        raise ValueError(f"{name} is not as long as it says")
    return np.split(arrays[name], ends[:-1])


def _version() -> str:
    try:
        return metadata.version("certes")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "not installed"
