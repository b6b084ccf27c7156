"""The terminal: where commands print, progress bars, and errors as one clear line.

What is printed is taken as it is: nothing in it is markup, and letters that the terminal's encoding
lacks are shown as their codes.
"""

import errno
import functools
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from subbyte.errors import SubbyteError

console = Console(emoji=False, markup=False, highlight=False)
errors = Console(stderr=True, emoji=False, markup=False, highlight=False)
_WORD = re.compile(r"(\S{200})\S{100,}")  # longer than a path, such as a number of 5,000 digits
F = TypeVar("F", bound=Callable[..., Any])


class Terminated(KeyboardInterrupt):
    """SIGTERM, which means what Ctrl-C means."""


def command(function: F) -> F:
    """Turn errors the user can mend into one line on stderr and exit code 1; Ctrl-C and SIGTERM
    into exit codes 130 and 143.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with _terminable():
                return function(*args, **kwargs)
        except SubbyteError as error:
            _tell(str(error))
            raise typer.Exit(1) from error
        except OSError as error:
            if error.errno in (None, errno.EPIPE):  # nobody reads on
                raise
            _tell(_of_files(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as reason:
            raise interrupted(reason, "nothing was written") from None

    return wrapped  # type: ignore[return-value]


def interrupted(reason: KeyboardInterrupt, left: str) -> typer.Exit:
    """Say what an interrupted command leaves; the way out, with its exit code."""
    errors.print(f"interrupted: {left}", soft_wrap=True)
    return typer.Exit(143 if isinstance(reason, Terminated) else 130)


@contextmanager
def _terminable() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C while the block runs."""
    if threading.current_thread() is not threading.main_thread():  # no other may
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def print_anything() -> None:
    """See that a letter that stdout's encoding lacks is no error: the work is done by then."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _tell(error: str) -> None:
    error = _WORD.sub(lambda word: f"{word[1]}...", error)
    errors.print(Text.assemble(("error:", "bold red"), " ", error), soft_wrap=True)


def _of_files(error: OSError) -> str:
    """A full disk, a folder that can't be written to: what, where, and what to do."""
    assert error.errno is not None
    where = "" if error.filename is None else f"{error.filename}: "
    what = os.strerror(error.errno) if where else error.strerror or ""
    return f"{where}{what}; nothing is left half-written. Make room, or choose another folder"


@contextmanager
def progress() -> Iterator[Callable[[str, int, int, str], None]]:
    """A progress bar a stage, with an estimate of the time left, on stderr."""
    columns = [
        TextColumn("{task.description:<20}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}", markup=False),
    ]
    with Progress(*columns, console=errors, transient=not sys.stderr.isatty()) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int, what: str) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, what="")
            bars.update(
                tasks[stage], completed=done, total=total, what="" if done == total else what
            )

        yield report
