"""Commands: their options and help. What they do is in `certes.apps.jobs`, imported when run."""

from __future__ import annotations
