"""certes models list | show."""

from __future__ import annotations

from typing import Annotated

import typer

from certes.apps import options
from certes.apps.console import say, show_json, show_table

models = typer.Typer(no_args_is_help=True, help="The models that can restore.")


@models.command("list", epilog="Example: certes models list")
def list_models(as_json: options.Json = False) -> None:
    """List the models that come with certes."""
    from certes.apps.jobs.models import list_bundled

    found = list_bundled()
    if as_json:
        show_json({"models": found})
    elif not found:
        say("No model comes with this copy of certes; certes train makes one.")
    else:
        columns = ("model", "channels", "trained on", "licence", "cards")
        keys = ("name", "channels", "training_data", "licence")
        rows = [(*(str(m[key]) for key in keys), str(len(m["cards"]))) for m in found]
        show_table(columns, rows)


@models.command("show", epilog="Example: certes models show nuclei")
def show_model(
    name: Annotated[
        str, typer.Argument(metavar="NAME|PATH", show_default=False, help="As for --model.")
    ],
    as_json: options.Json = False,
) -> None:
    """Show what is known of a model: training, hash, and its calibration cards."""
    from certes.apps.jobs.models import describe

    description = describe(name)
    if as_json:
        show_json(description)
        return
    for key, value in description.items():
        if key != "cards":
            say(f"{key}: {value}")
    for card in description["cards"]:
        say(f"card {card['name']}: {card['operator']}, noise {card['noise']}")
        say(f"    {card['guarantee']}")
