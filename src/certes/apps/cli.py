"""The program `certes`: its commands, and how errors reach people.

Nothing here, nor in any command's module, imports torch: help must come at once.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from certes import __version__
from certes.apps.commands.calibrate import calibrate
from certes.apps.commands.compress import compress
from certes.apps.commands.decompress import decompress
from certes.apps.commands.degrade import degrade
from certes.apps.commands.demo import demo
from certes.apps.commands.evaluate import evaluate
from certes.apps.commands.interpolate import interpolate
from certes.apps.commands.likelihood import likelihood
from certes.apps.commands.merge import merge
from certes.apps.commands.models import models
from certes.apps.commands.restore import restore
from certes.apps.commands.sample import sample
from certes.apps.commands.score import score
from certes.apps.commands.train import train
from certes.apps.commands.tune import tune
from certes.apps.commands.verify import verify
from certes.apps.console import complain, note, say
from certes.errors import CertesError


class OneLineErrors(TyperGroup):
    """Whatever a user can mend comes as one line on stderr and exit code 2, not as a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of our output has gone: typer ends quietly
        except CertesError as error:
            complain(str(error))
        except OSError as error:
            complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        raise typer.Exit(2)


app = typer.Typer(
    name="certes",
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: certes demo. Then: certes restore cell.png --task denoise --out restored",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"certes {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Restore pictures with diffusion models, with error bars that hold.

    Pictures have values in [0, 1] (8 bit: 255 is 1), and noise is its standard deviation in the
    same units: noise of 10 grey levels in an 8-bit picture is 10/255 = 0.04.
    """


app.command(epilog="Example: certes demo --out certes-demo")(demo)
app.command(
    epilog="Examples: certes restore cell.png --task super-resolve --factor 4 --noise 0.02 "
    "--out restored; certes restore drawing.png --model run/model --out restored"
)(restore)
app.command(
    epilog="Example: certes degrade sharp.png --task deblur --kernel gaussian:2 --noise 0.02 "
    "--out degraded"
)(degrade)
app.command(
    epilog="Examples: certes train nuclei --data pictures/ --out run --licence CC0-1.0; "
    "certes train labels-cmde --data pictures/ --conditions labels/ --out run"
)(train)
app.command(
    epilog="Examples: certes tune nuclei --task inpaint --data pictures/ --out run; "
    "certes tune run/model --data pictures/ --out bounds"
)(tune)
app.command(
    epilog="Examples: certes sample --model nuclei -n 16 --out samples; certes sample "
    "--progressive --out samples"
)(sample)
app.command(epilog="Example: certes interpolate a.png b.png --model nuclei --out between")(
    interpolate
)
app.command(epilog="Example: certes compress cell.png cell.crt --bits-per-pixel 0.3")(compress)
app.command(epilog="Example: certes decompress cell.crt cell.png --samples 16")(decompress)
app.command(epilog="Example: certes likelihood cells/ --crop 128 --variance all --out bits")(
    likelihood
)
app.command(
    epilog="Example: certes calibrate --task denoise --noise 0.05 --data held-out/ "
    "--out denoise-0.05.json"
)(calibrate)
app.command(epilog="Example: certes merge part-1.tally part-2.tally --out denoise.json")(merge)
app.command(
    epilog="Example: certes evaluate --task inpaint --missing 0.8 --data test/ --out evaluation"
)(evaluate)
app.command(epilog="Example: certes score samples --data pictures/ --fit tiles")(score)
app.command(
    epilog="Examples: certes verify --synthetic; certes verify denoise-0.05.json --data test/"
)(verify)
app.add_typer(models, name="models")


def _say_warning(message: Warning | str, *_: Any) -> None:
    """What libraries and certes warn of, as one line."""
    note("warning: " + " ".join(str(message).split()))


def main() -> None:
    """Run the program; 0 on success, 2 when something was wrong with the input, 130 on Ctrl-C."""
    warnings.showwarning = _say_warning
    app()
