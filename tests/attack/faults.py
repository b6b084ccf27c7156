"""Faults at the n-th operation that changes what is on disk: kill -9, SIGTERM, or a stop.

Operations are counted by Python's audit events: files opened to be written, renamed, deleted, cut;
folders made and deleted; locks asked for. What libraries write past Python lies between two of
them, and a kill there leaves what a kill before the second one leaves, but for the part of the file
that is there: so the file that was opened last is cut to half its length before every other kill.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

EVENTS = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "os.link",
    "os.symlink",
    "fcntl.flock",
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Counter:
    """Counts operations below a folder, and does something at one of them."""

    def __init__(self, home: str, at: int, act: Callable[["Counter"], None]) -> None:
        self.home, self.at, self.act = home, at, act
        self.count, self.last, self.pid = 0, "", os.getpid()

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """See `sys.addaudithook`."""
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, str | bytes) or not flags & _WRITES:
                return
        elif event not in EVENTS:
            return
        if os.getpid() != self.pid or not self._below(event, arguments[0]):
            return
        self.count += 1
        if self.count == self.at:
            self.act(self)
        if event == "open":
            self.last = os.fsdecode(arguments[0])

    def _below(self, event: str, path: object) -> bool:
        if event == "fcntl.flock" or isinstance(path, int):
            return True
        text = os.path.abspath(os.fsdecode(path))  # type: ignore[arg-type]  # noqa: PTH100
        return text.startswith(self.home)


def _tear(counter: Counter) -> None:
    if counter.count % 2 and counter.last:
        with contextlib.suppress(OSError):
            os.truncate(counter.last, os.stat(counter.last).st_size // 2)  # noqa: PTH116


def _kill(counter: Counter) -> None:
    counter.at = 0
    _tear(counter)
    os.kill(os.getpid(), signal.SIGKILL)


def _send(number: signal.Signals) -> Callable[[Counter], None]:
    return lambda counter: os.kill(os.getpid(), number)


ACTS: dict[str, Callable[[Counter], None]] = {
    "kill": _kill,
    "term": _send(signal.SIGTERM),
    "stop": _send(signal.SIGSTOP),
    "none": lambda counter: None,
}


def install(home: str, act: str = "none", at: int = 0, counted: str = "") -> None:
    """Do `act` at the operation of number `at`. counted: a file that takes the number of operations
    when the command ends.
    """
    counter = Counter(home, at, ACTS[act])
    sys.addaudithook(counter.hook)
    if counted:
        leave = os._exit

        def exit_(code: int) -> None:
            total, counter.at = counter.count, -1
            Path(counted).write_text(str(total))
            leave(code)

        os._exit = exit_  # type: ignore[assignment]
