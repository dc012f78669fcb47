"""certes serve."""

from __future__ import annotations

from typing import Annotated

import typer


def serve(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the page.")] = 7860,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="Address to listen at. The default can be reached from this machine only; "
            "0.0.0.0 from all others, and nobody is asked for a password.",
        ),
    ] = "127.0.0.1",
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME|PATH",
            show_default="those that come with certes",
            help="A model to offer; give it several times for several. Users cannot name others.",
        ),
    ] = None,
    max_pixels: Annotated[
        int,
        typer.Option("--max-pixels", min=64, help="The largest picture, before and after."),
    ] = 1_048_576,
    max_upload: Annotated[
        int, typer.Option("--max-upload", min=1, help="The largest file, in megabytes.")
    ] = 50,
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=1, help="Seconds that one restoration may take.")
    ] = 600,
) -> None:
    """Serve a web page: drop a picture, restore it, and look into its intervals.

    The page shows the estimate as it comes, then a before/after slider, how wide the interval is at
    every pixel, the interval and the samples of any pixel clicked on, and the interval of the mean
    over a region; the files of certes restore can be downloaded. It works without the internet and
    loads nothing from anywhere else. Restorations wait for one another.

    Pictures and results are kept in a temporary folder of this machine, each for its own user,
    until the tab is closed, its user is away for half an hour, or the page ends (Ctrl-C). Needs the
    extra web: pip install 'certes[web]'.
    """
    from certes.apps.jobs.serve import serve as run
    from certes.apps.web.limits import Limits
    from certes.apps.web.server import Place

    limits = Limits(max_pixels, time_limit, max_upload * 2**20)
    run(Place(host, port), limits, model or [])
