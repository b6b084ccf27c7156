"""The terminal: where commands print, errors as one clear line, and exit codes.

What is printed is taken as it is: nothing in it is markup, and letters that the terminal's encoding
lacks are shown as their codes.
"""

import errno
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

from subbyte.errors import SubbyteError

console = Console(emoji=False, markup=False, highlight=False)
errors = Console(stderr=True, emoji=False, markup=False, highlight=False)
_WORD = re.compile(r"(\S{200})\S{100,}")  # longer than a path, such as a number of 5,000 digits


class Terminated(KeyboardInterrupt):
    """SIGTERM, which means what Ctrl-C means."""


class Exit(IntEnum):
    """The exit codes of commands."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    FAILED = 3
    INTERRUPTED = 130
    TERMINATED = 143

    @property
    def meaning(self) -> str:
        """When a command ends with it, in words."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.DONE: "The work is done.",
    Exit.ERROR: "An error that can be mended: one line on stderr says what is wrong, where, and "
    "what to do. Nothing is left half-written. Also `verify` where a value differs, and `sweep` "
    "where the answer is no to whether so many runs are meant.",
    Exit.USAGE: "An option that there is not, or a value that it does not take; nothing was begun.",
    Exit.FAILED: "`sweep` alone: the sweep is done, and some of its runs failed; the others are "
    "written.",
    Exit.INTERRUPTED: "Ctrl-C (SIGINT): what is left, and how to go on, is said on stderr.",
    Exit.TERMINATED: "SIGTERM, in the same way.",
}


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn errors the user can mend into one line on stderr and exit code 1; Ctrl-C and SIGTERM
    into exit codes 130 and 143.
    """
    try:
        with _terminable():
            yield
    except SubbyteError as error:
        _tell(str(error))
        raise typer.Exit(Exit.ERROR) from error
    except OSError as error:
        if error.errno in (None, errno.EPIPE):  # nobody reads on
            raise
        _tell(_of_files(error))
        raise typer.Exit(Exit.ERROR) from error
    except KeyboardInterrupt as reason:
        raise interrupted(reason, "nothing was written") from None


def interrupted(reason: KeyboardInterrupt, left: str) -> typer.Exit:
    """Say what an interrupted command leaves; the way out, with its exit code."""
    errors.print(f"interrupted: {left}", soft_wrap=True)
    code = Exit.TERMINATED if isinstance(reason, Terminated) else Exit.INTERRUPTED
    return typer.Exit(code)


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
