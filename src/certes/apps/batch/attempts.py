"""Which pictures were in hand when a worker died.

A picture that kills its worker (memory, a broken library) would be handed to the next one for ever.
So a worker leaves a mark for every picture that it takes up, and removes it when it is through; a
mark that a new worker finds is a death. Marks are of one run: a killed driver is nobody's fault.
"""

from __future__ import annotations

from dataclasses import dataclass

from certes.apps.batch.manifest import WORK
from certes.apps.batch.places import Place

MOST = 3
"""Workers that one picture may take along."""


@dataclass(frozen=True)
class Attempts:
    """The marks of one run.

    Args:
        place: where they are left.
        run: its name.
    """

    place: Place
    run: str

    @property
    def folder(self) -> str:
        """Of the marks."""
        return f"{WORK}/attempts-{self.run}"

    def deaths(self, name: str) -> int:
        """How many workers died over a picture."""
        return int(self.place.read(f"{self.folder}/{name}") or b"0")

    def begin(self, name: str, deaths: int) -> None:
        """Take a picture up."""
        self.place.mark(f"{self.folder}/{name}", str(deaths + 1).encode())

    def end(self, name: str) -> None:
        """Be through with it."""
        self.place.remove(f"{self.folder}/{name}")
