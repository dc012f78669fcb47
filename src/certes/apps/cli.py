"""The program `certes`: its commands, and how errors reach people.

Nothing here, nor in any command's module, imports torch: help must come at once.
"""

from __future__ import annotations

import signal
import threading
import warnings
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from certes import __version__
from certes.apps.commands.batch import batch
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
from certes.apps.commands.serve import serve
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
            complain(_said_by_the_system(error))
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            complain(
                "memory: there is not enough for this; give smaller pictures, fewer --samples, or "
                "a machine that has more"
            )
        raise typer.Exit(2)


def _said_by_the_system(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason


def _out_of_memory(error: Exception) -> bool:
    """Python's own, and torch's, which has a type of its own on GPUs alone."""
    words = str(error)
    return isinstance(error, MemoryError) or "out of memory" in words or "can't allocate" in words


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
    epilog="Examples: certes batch cells/ restored/ --task denoise --noise 0.05; certes batch "
    "s3://bucket/cells s3://bucket/restored --task denoise --address auto"
)(batch)
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
app.command(epilog="Example: certes serve --port 8000")(serve)
app.add_typer(models, name="models")


def _say_warning(message: Warning | str, *_: Any) -> None:
    """What libraries and certes warn of, as one line."""
    note("warning: " + " ".join(str(message).split()))


def _say_of_thread(failed: threading.ExceptHookArgs) -> None:
    """What ended a thread beside the program, such as that which writes logs of training."""
    _say_warning(f"{failed.exc_type.__name__}: {failed.exc_value}")


def _end(number: int, frame: object) -> NoReturn:
    """What is open is closed, and what is unfinished removed, on the way out."""
    raise SystemExit(128 + number)


def main() -> None:
    """Run the program; 0 on success, 2 when something was wrong with the input, 130 on Ctrl-C.

    Told to end (SIGTERM, or SIGHUP by a terminal that is closed), it cleans up as on Ctrl-C.
    """
    warnings.showwarning = _say_warning
    threading.excepthook = _say_of_thread
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # Who started us may have said that it shall be ignored, as nohup does.
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    app()
