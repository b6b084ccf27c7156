"""The terminal: where commands print, progress bars, and errors as one clear line."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

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

from subbyte.errors import SubbyteError

console = Console(emoji=False, markup=False)
errors = Console(stderr=True, emoji=False)
F = TypeVar("F", bound=Callable[..., Any])


def command(function: F) -> F:
    """Turn errors the user can mend into one line on stderr and exit code 1; Ctrl-C into exit code
    130.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except SubbyteError as error:
            errors.print(
                f"[bold red]error:[/] {_plain(str(error))}", soft_wrap=True, highlight=False
            )
            raise typer.Exit(1) from error
        except OSError as error:
            if error.errno is None or error.filename is None:
                raise
            errors.print(
                f"[bold red]error:[/] {_plain(_of_files(error))}", soft_wrap=True, highlight=False
            )
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            errors.print("interrupted: nothing was written", highlight=False)
            raise typer.Exit(130) from None

    return wrapped  # type: ignore[return-value]


def _of_files(error: OSError) -> str:
    """A full disk, a folder that can't be written to: what, where, and what to do."""
    assert error.errno is not None
    what = os.strerror(error.errno)
    return (
        f"{error.filename}: {what}; nothing is left half-written. Make room, or choose another "
        f"folder"
    )


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


@contextmanager
def progress() -> Iterator[Callable[[str, int, int, str], None]]:
    """A progress bar a stage, with an estimate of the time left, on stderr."""
    columns = [
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}"),
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
