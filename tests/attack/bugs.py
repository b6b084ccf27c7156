"""Bugs that the harness has to find: each is planted in a child before its command runs.

A harness that finds nothing proves nothing until it has been seen to find these.
"""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from subbyte.cli import terminal
from subbyte.graph import memory
from subbyte.io import checkpoints, files, folders, workplaces
from subbyte.io.locks import Claim
from subbyte.learn.training import loop
from subbyte.learn.training.record import Record


def _in_place() -> None:
    """Files are written where they belong from the first byte on."""

    @contextlib.contextmanager
    def written_together(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        yield paths

    files.written_together = written_together


def _no_lock() -> None:
    """Whoever asks for a lock has it."""
    folders.claim = lambda handle: Claim.OURS


def _lock_by_name() -> None:
    """A lock file counts as held for as long as it is there, whoever wrote it."""
    take = folders._taken

    def taken(lock: Path, named: Path) -> int:
        if lock.exists():
            raise folders.SubbyteError(f"another process writes {named}")
        return take(lock, named)

    folders._taken = taken


def _not_swept() -> None:
    """What killed processes left stays."""
    folders.sweep = lambda folder: None
    workplaces.leftovers = lambda target: iter(())


def _swallowed_signal() -> None:
    """SIGTERM is heard, and nothing is done about it."""
    terminal._terminate = lambda *_: None  # type: ignore[assignment,return-value]


def _wrong_code() -> None:
    """SIGTERM ends with the exit code of Ctrl-C."""
    terminal._terminate = signal.default_int_handler  # type: ignore[assignment]


def _deleted_first() -> None:
    """An earlier result is deleted before the new one is in its place."""

    def exchange(work: Path, paths: Sequence[Path]) -> None:
        workplaces.delete(paths[0])
        (work / workplaces.NEW / paths[0].name).replace(paths[0])

    files._exchange = exchange


def _checkpoint_stays() -> None:
    """A checkpoint of work that is done is not deleted."""
    checkpoints.Kept.done = lambda self: None  # type: ignore[method-assign]


def _checkpoint_first() -> None:
    """A checkpoint says that an epoch is done before its log is written."""
    write, save, due = Record.write, loop.save_checkpoint, list[Any]()

    def save_first(*arguments: Any) -> None:
        save(*arguments)
        write(*due.pop())

    Record.write = lambda *arguments: due.append(arguments)  # type: ignore[method-assign]
    loop.save_checkpoint = save_first


def _mapped_unreserved() -> None:
    """Values are paged to files whose bytes nobody has reserved."""

    def to_file(self: memory.Memory, value: torch.Tensor) -> torch.Tensor:
        with memory.tempfile.NamedTemporaryFile(dir=self.folder) as file:
            file.truncate(value.nbytes)
            mapped = torch.from_file(file.name, True, value.numel(), dtype=value.dtype)
        return mapped.reshape(value.shape).copy_(value)

    memory.Memory._to_file = to_file  # type: ignore[method-assign]


def _full_disk_passed_over() -> None:
    """A file that can't be written is left out without a word."""
    write = files.together

    @contextlib.contextmanager
    def together(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
        with contextlib.suppress(OSError), write(paths) as temporary:
            yield temporary

    files.together = together


def _markup() -> None:
    """Names are read as markup by the terminal library."""
    for one in (terminal.console, terminal.errors):
        one._markup = True


def _text_by_locale() -> None:
    """Text is written in the encoding of the locale, here ASCII."""

    def write_text(path: Path, text: str) -> None:
        files.write_bytes(path, text.encode("ascii"))

    _everywhere("write_text", write_text)


def _everywhere(name: str, value: Any) -> None:
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and module.__name__.startswith("subbyte."):
            vars(module).update({name: value} if name in vars(module) else {})


BUGS: dict[str, Callable[[], None]] = {
    function.__name__.lstrip("_"): function
    for function in (
        _in_place,
        _no_lock,
        _lock_by_name,
        _not_swept,
        _swallowed_signal,
        _wrong_code,
        _deleted_first,
        _checkpoint_stays,
        _checkpoint_first,
        _mapped_unreserved,
        _full_disk_passed_over,
        _markup,
        _text_by_locale,
    )
}
FOUND_BY = {
    "in_place": ("kill", "train"),
    "no_lock": ("second", "train"),
    "lock_by_name": ("kill", "aciq"),
    "not_swept": ("kill", "aciq"),
    "swallowed_signal": ("term", "train"),
    "wrong_code": ("term", "aciq"),
    "deleted_first": ("kill", "quantize --force"),
    "checkpoint_stays": ("kill", "tune"),
    "checkpoint_first": ("kill", "train"),
    "mapped_unreserved": ("tmp", "quantize"),
    "full_disk_passed_over": ("files", "aciq"),
    "markup": ("paths", "aciq"),
    "text_by_locale": ("paths", "sweep"),
}
"""The part of the harness, and the command, by which each has to be found."""
