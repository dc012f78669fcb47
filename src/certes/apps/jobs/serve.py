"""Serve the web page until told to end."""

from __future__ import annotations

import threading

from certes.apps.console import note, say
from certes.apps.web.limits import Limits
from certes.apps.web.server import LOOPBACK, Place, serving
from certes.networks.model import bundled_models


def serve(place: Place, limits: Limits, models: list[str]) -> None:
    """Serve the page; returns on Ctrl-C.

    Raises: CertesError when it cannot be served there, or one of the models cannot be had.
    """
    if place.host not in LOOPBACK:
        note(
            f"warning: {place.host} can be reached from other machines: whoever can connect may "
            "upload pictures and use this machine; the page asks for no password"
        )
    with serving(place, limits, tuple(models) or tuple(bundled_models())) as address:
        say(f"certes is at {address} (Ctrl-C ends it)")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            note("ended; all pictures and results of the page are removed")
