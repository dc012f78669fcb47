"""Whether values that came from a file are of the kinds that a record asks for."""

from __future__ import annotations

import math
from dataclasses import fields
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")

_WHOLE = 2**53  # beyond it whole numbers have no float of their own


def of_kinds(record: Record) -> Record:
    """A dataclass whose fields are numbers, words, tuples or records, if they are.

    Whole numbers may stand for others, not the other way round; no number is NaN or infinite, and
    none is true or false.

    Raises: TypeError naming a field, what came and what was wanted.
    """
    wanted = get_type_hints(type(record))
    for field in fields(record):  # pyright: ignore[reportArgumentType]
        value = getattr(record, field.name)
        if not _is(value, wanted[field.name]):
            raise TypeError(f"{field.name} = {value!r}, where {field.type} is wanted")
    return record


def _is(value: Any, kind: Any) -> bool:
    origin, among = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_is(value, one) for one in among)
    if origin is Literal:
        return value in among
    if origin is tuple:
        return isinstance(value, tuple) and all(_is(part, among[0]) for part in value)  # pyright: ignore[reportUnknownVariableType]
    if kind is float and type(value) is float:
        return math.isfinite(value)
    if kind in (int, float):
        return type(value) is int and abs(value) < _WHOLE
    plain = origin or kind
    return not isinstance(plain, type) or isinstance(value, plain)
