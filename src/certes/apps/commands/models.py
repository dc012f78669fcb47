"""certes models list | show | export | measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from certes.apps import options
from certes.apps.console import say, show_json, show_table

models = typer.Typer(no_args_is_help=True, help="The models that can restore.")

Source = Annotated[
    str,
    typer.Argument(
        metavar="NAME|PATH",
        show_default=False,
        help="As for --model.",
    ),
]

_LINE = 200


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
        columns = ("model", "kind", "trained on", "licence", "channels", "cards")
        show_table(columns, [_row(model) for model in found], words=4)


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    kind = model["kind"] if model["summary"] is None else f"{model['kind']}: {model['summary']}"
    known = (str(model[key]) for key in ("training_data", "licence", "channels"))
    return (model["name"], kind, *known, str(len(model["cards"])))


@models.command("show", epilog="Example: certes models show nuclei")
def show_model(name: Source, as_json: options.Json = False) -> None:
    """Show what is known of a model.

    Training, hash, scores, the expected divergence of its steps, how much its answers depend on the
    resolution or the size of pictures, and its calibration cards.
    """
    from certes.apps.jobs.models import describe
    from certes.apps.model_page import SECTIONS, sections

    description = describe(name)
    if as_json:
        show_json(description)
        return
    for key, value in description.items():
        if key not in SECTIONS:
            say(f"{key}: {_short(value)}")
    for section in sections(description):
        say(f"\n{section.title}\n{section.said}")
        show_table(section.columns, section.rows, section.words)


def _short(value: object) -> str:
    """A line: the tables of some schedules have a thousand entries."""
    text = str(value)
    return text if len(text) <= _LINE else f"{text[:_LINE]} ... (all of it: --json)"


@models.command("export", epilog="Example: certes models export run/model ddpm/")
def export_model(
    name: Source,
    out: Annotated[
        Path, typer.Argument(metavar="DIR", show_default=False, help="A new folder for it.")
    ],
    as_json: options.Json = False,
) -> None:
    """Write a model as a diffusers folder, for DDPMPipeline.from_pretrained(DIR).

    Models that diffusers cannot express are refused, saying what of them.
    """
    from certes.apps.jobs.models import export

    result = export(name, out)
    if as_json:
        show_json(result)
    else:
        say(f"{result['model']} is in {result['folder']}, for diffusers")


@models.command(
    "measure",
    epilog="Example: certes models measure 256x256_diffusion_uncond.pt --data photos/ --out model",
)
def measure_model(
    name: Source,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            show_default=False,
            help="Folder of pictures like those the model was trained on (or those themselves).",
        ),
    ],
    out: options.Out,
    licence: Annotated[
        str, typer.Option("--licence", help="Licence of the model, for its card.")
    ] = "unknown",
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Measure a model's errors and save a model folder that knows them.

    Checkpoints of diffusers and guided-diffusion come without: measured, they get the calibrated
    sampler, calibrated variances and the codec, as if trained here.
    """
    from certes.apps.jobs.models import measure

    result = measure(name, data, out, licence, device)
    if as_json:
        show_json(result)
    else:
        say(f"Measured on {result['pictures']} pictures; the model is in {result['folder']}")
