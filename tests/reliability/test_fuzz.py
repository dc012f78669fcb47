"""Spoiled files: read, or refused in one line that says so.

`benchmarks/fuzz.py` does the same at length, `benchmarks/fuzz_atheris.py` guided by coverage.
"""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certes.apps.cli import OneLineErrors
from certes.errors import CertesError
from certes.networks.model import load
from certes.public import load as load_any

from .corpus import Target, make_targets
from .mutations import mutated
from .probe import called, placed
from .readers import READERS, reads, stream_reader, trusting


def quick(examples: int) -> settings:
    """The same examples at every run."""
    unhurried = {"deadline": None, "suppress_health_check": list(HealthCheck)}
    return settings(max_examples=examples, derandomize=True, database=None, **unhurried)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def targets(work: Path) -> dict[str, Target]:
    return {target.name: target for target in make_targets(work)}


@st.composite
def spoiled(draw: st.DrawFn, seeds: dict[str, bytes]) -> tuple[str, bytes]:
    """A file with bytes replaced, taken out or put in, wherever hypothesis likes."""
    name = draw(st.sampled_from(sorted(seeds)))
    content = seeds[name]
    if draw(st.booleans()):
        return name, mutated(name, content, draw(st.randoms(use_true_random=False)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        gone = draw(st.integers(0, 8))
        content = content[:start] + draw(st.binary(max_size=8)) + content[start + gone :]
    return name, content


@pytest.mark.parametrize("place", READERS)
def test_readers(targets: dict[str, Target], work: Path, place: str) -> None:
    @quick(200)
    @given(spoiled(targets[place].seeds))
    def check(file: tuple[str, bytes]) -> None:
        path = work / Path(file[0]).name
        path.write_bytes(file[1])
        reads(READERS[place], path)

    check()


def test_streams(targets: dict[str, Target], work: Path) -> None:
    model = load(work / "models" / "pixels", "cpu")

    @quick(100)
    @given(spoiled(targets["stream"].seeds))
    def check(file: tuple[str, bytes]) -> None:
        path = work / "a.crt"
        path.write_bytes(file[1])
        reads(stream_reader(model), path)

    check()


@pytest.mark.parametrize("kind", ["pixels", "conditional", "bounds", "functions", "diffusers"])
def test_models(targets: dict[str, Target], work: Path, kind: str) -> None:
    target, place = targets[f"{kind} model"], work / f"spoiled-{kind}"
    assert target.folder is not None
    shutil.copytree(target.folder, place)

    @quick(40)
    @given(spoiled(target.seeds))
    def check(file: tuple[str, bytes]) -> None:
        name, content = file
        (place / name).write_bytes(content)
        reads(lambda path: load_any(path, "cpu"), place)
        (place / name).write_bytes(target.seeds[name])

    check()


def test_readers_that_raise_what_they_like_are_found_out(
    targets: dict[str, Target], work: Path
) -> None:
    """The negative control."""
    seeds = {k: v for k, v in targets["picture"].seeds.items() if k.endswith(".png")}

    @quick(200)
    @given(spoiled(seeds))
    def check(file: tuple[str, bytes]) -> None:
        path = work / Path(file[0]).name
        path.write_bytes(file[1])
        reads(trusting, path)

    with pytest.raises(struct.error):
        check()


def test_the_program(targets: dict[str, Target], tmp_path: Path) -> None:
    """A spoiled file in every place where the program reads one."""
    for number, target in enumerate(targets.values()):
        rng = random.Random(number)
        name = rng.choice(sorted(target.seeds))
        path = placed(target, name, mutated(name, target.seeds[name], rng), tmp_path)
        assert called(target, path, tmp_path).defect is None, (target.name, name)


def test_a_program_that_lets_errors_through_is_found_out(
    targets: dict[str, Target], tmp_path: Path
) -> None:
    """The negative control: tracebacks, odd exit codes, many words, files left behind."""
    target = targets["picture"]
    path = placed(target, "a.png", b"", tmp_path)
    out = tmp_path / "out"

    def leave() -> None:
        (out / ".certes-a").mkdir(parents=True)
        raise CertesError("a")

    wrong: dict[str, Callable[[], None]] = {
        "raised: ": lambda: struct.unpack("I", b"")[0],
        "exit code 3": lambda: exit_with(3),
        "with other than one line": lambda: typer.echo("two\nlines", err=True),
        "left behind": leave,
        "nothing written": lambda: None,
    }
    for words, action in wrong.items():
        program = typer.Typer(cls=OneLineErrors, pretty_exceptions_enable=False)
        program.callback()(lambda: None)
        program.command(
            "restore", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
        )(action)
        assert words in str(called(target, path, tmp_path, program=program).defect)


def exit_with(code: int) -> None:
    raise typer.Exit(code)
