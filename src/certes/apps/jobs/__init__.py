"""What commands do: each job calls the rooms above, writes files, and returns what was found."""

from __future__ import annotations
