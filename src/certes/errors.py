"""Errors that a user can act on. Each message is one line: what was wrong, and the way out."""

from __future__ import annotations


class CertesError(Exception):
    """Base of every error that certes raises on purpose; the command line exits with code 2."""


class InputError(CertesError):
    """A picture, a file or an argument is not what it must be."""


class ModelError(CertesError):
    """A model is unknown, unreadable, or does not fit the picture or the task."""


class CalibrationError(CertesError):
    """A guarantee cannot be given: too few images, or a card applied where it does not hold."""


class CertesWarning(UserWarning):
    """Something that is probably not meant, and what it means for the answer."""
