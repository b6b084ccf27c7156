"""The answer of a command: tables for people, which it prints itself, or one JSON object for
programs (`--json`), which is made here of the record that it returns.

    {"command": "quantize", "written": ["runs/a", "runs/a/report.html"], "result": {...}}
"""

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import typer
from pydantic import ConfigDict, TypeAdapter

from subbyte.cli.terminal import Exit, clear_errors, console
from subbyte.recipe import Plan

T = TypeVar("T")
_VALUES: TypeAdapter[Any] = TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="null"))


@dataclass(frozen=True)
class Answer(Generic[T]):
    """The outcome of a command. record: what it found, as files of results have it; written: the
    folders and files that it wrote, the main one first; code: with which it ends.
    """

    record: T
    written: tuple[Path, ...] = ()
    code: Exit = Exit.DONE

    def text(self, command: str) -> str:
        """The JSON object. It is ASCII, so that no locale and no name of a file is in its way;
        numbers that JSON has not, such as NaN, are null.
        """
        written = list(map(str, self.written))
        found = {"command": command, "written": written, "result": _plain(self.record)}
        return json.dumps(found, indent=2, allow_nan=False) + "\n"


def _plain(record: object) -> Any:
    """Values that JSON has."""
    own = record.to_dict() if isinstance(record, Plan) else record
    return _VALUES.dump_python(own, mode="json", by_alias=True)


QuietOption = Annotated[
    bool, typer.Option("--quiet", help="Print nothing but warnings and errors.")
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on stdout, and all else on stderr."),
]
_SHARED = {"quiet": QuietOption, "json": JsonOption}


def command(function: Callable[..., Answer[Any] | None]) -> Callable[..., None]:
    """Make a function a command: with --quiet and --json, errors as one line, and exit codes.

    The function returns its answer; None where another process of the same work answers.
    """

    @functools.wraps(function)
    def wrapped(*arguments: Any, quiet: bool, json: bool, **options: Any) -> None:
        with clear_errors():
            with ExitStack() as stack:
                stack.enter_context(_quiet(quiet))
                if json:
                    stack.enter_context(_stdout_to_stderr())
                answer = function(*arguments, **options)
            if answer is None:
                return
            if json:
                sys.stdout.write(answer.text(function.__name__))
                sys.stdout.flush()
        if answer.code is not Exit.DONE:
            raise typer.Exit(answer.code)

    own = inspect.signature(function)
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
        for name, option in _SHARED.items()
    ]
    parameters = [*own.parameters.values(), *shared]
    wrapped.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {**function.__annotations__, **_SHARED}
    return wrapped


@contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    before, console.quiet = console.quiet, wanted
    try:
        yield
    finally:
        console.quiet = before


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send to stderr what is printed within, also by libraries, users' files and processes that are
    started.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
