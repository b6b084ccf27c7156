"""Locks that die with the process that holds them, whatever kills it: nobody has to guess from a
file's age whether somebody still writes it.

Where a system or file system has none (Windows; some network file systems) nobody is ever seen to
hold one: then names that are unlike any other still keep writers apart, and nothing is swept up.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path


class Claim(Enum):
    """Who has a lock, after it was asked for: this process, another one, or nobody knows."""

    OURS = auto()
    THEIRS = auto()
    UNKNOWN = auto()


if sys.platform == "win32":
    OPEN = os.O_RDWR | os.O_CREAT

    def claim(handle: int) -> Claim:
        """Ask for the lock of an open file, without waiting for it."""
        return Claim.UNKNOWN

else:
    import fcntl

    OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    """How a lock file is opened: never through a link, which might lead to anybody's file."""

    def claim(handle: int) -> Claim:
        """Ask for the lock of an open file or folder, without waiting for it; it lasts until the
        file is closed, at the latest when the process ends.
        """
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Claim.THEIRS
        except OSError:  # a file system without locks
            return Claim.UNKNOWN
        return Claim.OURS


@contextmanager
def claimed(folder: Path) -> Iterator[Claim]:
    """Ask for the lock of a folder that is there, and give it back when the block ends.

    Raises FileNotFoundError when somebody takes the folder away meanwhile.
    """
    if sys.platform == "win32":  # folders can't be opened there
        yield Claim.UNKNOWN
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        found = claim(handle)
        if not is_at(handle, folder):
            raise FileNotFoundError(folder)
        yield found
    finally:
        os.close(handle)


def is_at(handle: int, path: Path) -> bool:
    """Whether an open file is the one at this path; it may have been deleted since."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
