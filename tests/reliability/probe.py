"""What a call of the program did with a file: what users may see, and nothing else."""

from __future__ import annotations

import io
import os
import resource
import shutil
import signal
import tempfile
import traceback
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import tifffile
import typer

from certes.apps.cli import app

from .corpus import Target


@dataclass(frozen=True)
class Outcome:
    """What a call answered.

    Args:
        code: its exit code; ``None`` if it raised.
        err: what it said on stderr.
        left: files where results go, hidden ones too.
        raised: what came as a traceback.
    """

    code: int | None
    err: str
    left: tuple[str, ...]
    raised: str = ""

    @property
    def defect(self) -> str | None:
        """What users must never see, if that is what happened."""
        if self.raised:
            return f"raised: {self.raised}"
        if self.code not in (0, 2):
            return f"exit code {self.code}: {self.err}"
        if "Traceback" in self.err:
            return f"a traceback: {self.err}"
        lines = [line for line in self.err.splitlines() if not line.startswith("warning: ")]
        errors = [line for line in lines if line.startswith("error: ")]
        if len(errors) != (self.code == 2) or len(lines) != len(errors):
            return f"exit code {self.code} with other than one line: {self.err!r}"
        return self._wrong_files()

    def _wrong_files(self) -> str | None:
        hidden = [name for name in self.left if Path(name).name.startswith(".")]
        if hidden:
            return f"left behind: {hidden}"
        if self.code == 2 and self.left:
            return f"failed, and wrote {self.left}"
        return "nothing written" if self.code == 0 and not self.left else None


class TooLongError(BaseException):
    """A call that was stopped; no handler of the program's may catch it."""


def placed(target: Target, name: str, content: bytes, work: Path) -> Path:
    """Put a file where the call of a target finds it; that place, which is new."""
    place = work / "given"
    shutil.rmtree(place, ignore_errors=True)
    if target.folder is None:
        path = place / Path(name).name
        place.mkdir()
        path.write_bytes(content)
        return path
    shutil.copytree(target.folder, place)
    (place / name).write_bytes(content)
    return place


def called(
    target: Target, path: Path, work: Path, seconds: int = 60, program: typer.Typer = app
) -> Outcome:
    """Call the program in this process; `seconds` of computing are what it may take."""
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    arguments = [str(argument) for argument in target.call(path, out)]
    unheard, raised, code = io.BytesIO(), "", None
    with _heard() as err:
        try:
            with _limited(seconds), _below_python(unheard):
                typer.main.get_command(program).main(arguments, prog_name="certes")
        except SystemExit as done:
            code, raised = int(done.code or 0), _senseless(out)
        except TooLongError:
            raised = f"nothing: stopped after {seconds} s"
        except Exception as error:  # what users would see as a traceback
            raised = "".join(traceback.format_exception(error)[-3:])
    said = err.getvalue() + unheard.getvalue().decode(errors="replace")
    return Outcome(code, said, left_in(out), raised)


def _senseless(out: Path) -> str:
    """Intervals that are none: NaN, or upside down."""
    for path in out.glob("*.intervals.tif"):
        lower, estimate, upper = tifffile.imread(path)
        if not ((lower <= estimate).all() and (estimate <= upper).all()):
            return f"nothing, and wrote intervals that are none: {path.name}"
    return ""


def left_in(out: Path) -> tuple[str, ...]:
    """Every file and folder in a folder, hidden ones too."""
    return tuple(sorted(str(path.relative_to(out)) for path in out.rglob("*")))


def memory() -> int:
    """What this process holds, bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def peak() -> int:
    """The most that this process held since `forget_peak`, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (words,) = (line for line in lines if line.startswith("VmHWM"))
    return int(words.split()[1]) * 1024


def forget_peak() -> None:
    """Start to measure `peak` anew."""
    Path("/proc/self/clear_refs").write_text("5")


_OUT, _ERR = io.StringIO(), io.StringIO()


@contextmanager
def _heard() -> Generator[io.StringIO]:
    """Hear stdout and stderr; yields the latter.

    By the same streams each time: typer never forgets a stream that it wrote to, so that its own
    CliRunner, which makes new ones for each call, grows by 2 KiB with each.
    """
    for stream in (_OUT, _ERR):
        stream.seek(0)
        stream.truncate()
    with redirect_stdout(_OUT), redirect_stderr(_ERR):
        yield _ERR


@contextmanager
def _below_python(heard: io.BytesIO) -> Generator[None, None, None]:
    """Hear what libraries write to the process's stderr by themselves."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            heard.write(file.read())


@contextmanager
def _limited(seconds: int) -> Generator[None, None, None]:
    """Computing time, so that other programs do not count."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
