"""Folders of results: one process at a time works for one, and it is written whole or not at
all.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path, PurePath

from subbyte.errors import SubbyteError
from subbyte.io.files import together
from subbyte.io.locks import OPEN, Claim, claim, is_at
from subbyte.io.workplaces import delete, finish, hidden, is_hidden, sweep

INSIDE = ".lock"
"""The lock file of a folder beside which nothing can be written."""
_HELD: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())
"""The lock files that this thread holds."""


_TRIES = 1000
"""Times that other processes may take a folder away in a row."""


@contextmanager
def owned(out: Path) -> Iterator[None]:
    """Keep other processes from working for the folder or file `out`; what already does so in this
    thread goes on. What killed ones left of theirs is finished or deleted.

    Raises SubbyteError when another process is at work for it, or nothing can be written there.
    """
    try:
        made = [parent for parent in out.resolve().parents if not parent.exists()]
        lock = _lock_of(out.resolve())
    except OSError as error:  # such as that of a name that is too long
        raise _cant_be_made(out, error) from error
    if lock in _HELD.get():
        yield
        return
    handle = _taken(lock, out)
    token = _HELD.set(_HELD.get() | {lock})
    try:
        finish(out.resolve())
        yield
    finally:
        _HELD.reset(token)
        with suppress(OSError):  # an open file, where systems forbid that
            lock.unlink()
        os.close(handle)
        with suppress(OSError):  # something is in it
            for parent in made:
                parent.rmdir()


def _lock_of(out: Path) -> Path:
    """The lock file beside `out`; in it, where only it can be written to."""
    closed = out.is_dir() and (out.parent == out or not os.access(out.parent, os.W_OK))
    return out / INSIDE if closed else out.with_name(hidden(out, "lock"))


def _taken(lock: Path, named: Path) -> int:
    """The lock file, open; it holds the id of the process that has it."""
    tries = 0
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, OPEN, 0o666)
        except FileNotFoundError as error:  # another process took the folder away
            tries += 1
            if tries > _TRIES:  # nobody did: no folder can be made there, such as in /proc
                raise _cant_be_made(named, error) from error
            continue
        except OSError as error:
            raise _cant_be_made(named, error) from error
        if claim(handle) is Claim.THEIRS:
            other = os.read(handle, 20).decode("ascii", "replace")
            os.close(handle)
            raise SubbyteError(
                f"another process ({other or 'just begun'}) writes {named}; wait for it, or choose "
                "another --out"
            )
        if is_at(handle, lock):
            with suppress(OSError):  # a full disk: nobody can read who has it
                os.ftruncate(handle, 0)
                os.write(handle, str(os.getpid()).encode())
            return handle
        os.close(handle)


def _cant_be_made(out: Path, error: OSError) -> SubbyteError:
    return SubbyteError(f"--out {out} can't be made: {error.strerror}")


@contextmanager
def folder(out: Path, *, owns: Collection[str], force: bool) -> Iterator[Path]:
    """A temporary folder that takes the place of `out` when the block ends well, and vanishes when
    it does not. No other process works for `out` meanwhile.

    owns: the caller's own files, as patterns of paths in the folder, such as `*/result.json`; an
        earlier folder that holds others is not replaced.
    Raises SubbyteError when `out` is not free and `force` is not set, or it holds what is not the
    caller's, at the beginning or at the end; and when another process is at work for it.
    """
    with owned(out):
        _check_replaceable(out, owns, force)
        with together([out.resolve()]) as (fresh,):
            try:
                fresh.mkdir()
            except OSError as error:
                raise _cant_be_made(out, error) from error
            yield fresh
            _check_replaceable(out, owns, force)  # what appeared meanwhile stays


@contextmanager
def growing(out: Path, results: Collection[str], parts: Collection[str] = ()) -> Iterator[None]:
    """Work in the folder `out`, which fills step by step, and in which the same command goes on. No
    other process works in it meanwhile; what killed ones left half-written goes first.

    results: files without which it holds no result yet: work that fails before there is one leaves
        the folder as it was. parts: folders in it that files are written to.
    Raises SubbyteError when another process is at work in it.
    """
    with owned(out):
        free, there = is_free(out), out.exists()
        for place in (out, *(out / part for part in parts)):
            if place.is_dir():
                sweep(place)
        try:
            yield
        except BaseException:
            if free and out.is_dir() and not any((out / name).exists() for name in results):
                _empty(out)
                if not there:
                    with suppress(OSError):  # what could not be deleted is in it
                        out.rmdir()
            raise


def is_free(out: Path) -> bool:
    """Whether there is nothing at `out`, or a folder with nothing in it but what killed processes
    left.
    """
    return not out.exists() or (out.is_dir() and all(map(is_hidden, _within(out))))


def _empty(out: Path) -> None:
    for path in list(out.iterdir()):
        if path != out / INSIDE:
            delete(path)


def _within(out: Path) -> Iterator[Path]:
    """The files in a folder and its folders, by their paths from there."""
    return (path.relative_to(out) for path in out.rglob("*") if not path.is_dir())


def _check_replaceable(out: Path, owns: Collection[str], force: bool) -> None:
    if is_free(out):
        if out.is_mount():
            raise SubbyteError(f"--out {out} is a mount point; choose a folder in it")
        return
    if not force:
        raise SubbyteError(f"--out {out} exists; choose another folder, or --force to replace it")
    if not out.is_dir():
        raise SubbyteError(f"--out {out} is a file; it is not replaced, even with --force")
    for path in _within(out):
        if not is_hidden(path) and not any(_matches(path, pattern) for pattern in owns):
            raise SubbyteError(
                f"--out {out} holds {path}, which this command does not write; it is not "
                "replaced, even with --force"
            )


def _matches(path: PurePath, pattern: str) -> bool:
    """Whether a path is as deep as a pattern, and each part of it matches."""
    return len(path.parts) == len(PurePath(pattern).parts) and path.match(pattern)
