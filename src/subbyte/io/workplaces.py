"""Workplaces: hidden folders beside what is made in them, which take their name and a lock.

    .NAME.PID-RANDOM.partial/new/NAME     what is being written
                            /ready/NAME   all of it is written, and is about to take its place
                            /earlier/NAME what it replaces

A process that is killed leaves its workplace, without a lock. The next one that makes the same
puts in place what was ready, or else earlier, where nothing is any more, and sweeps up the rest.
"""

import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path, PurePath
from shutil import disk_usage
from tempfile import mkdtemp

from subbyte.errors import FormatError, ResourceError
from subbyte.io.locks import Claim, claimed

log = logging.getLogger("subbyte")

NEW, READY, EARLIER = "new", "ready", "earlier"
_PARTIAL = re.compile(r"(?s)\..+\.[0-9]+-[0-9a-f]{8}\.partial")
_HIDDEN = re.compile(r"(?s)\..+\.partial(\..*)?|\.(.+\.)?lock")  # those of earlier versions, too
_ROOM = 1 << 20  # bytes of a temporary folder that is not full
_LONGEST = 200  # bytes of a name that is part of another


@contextmanager
def workplace(target: Path) -> Iterator[Path]:
    """An empty folder to make `target` in, beside it; it vanishes with all that is left in it when
    the block ends. What processes that were killed left of theirs goes first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    finish(target)
    with ExitStack() as stack:
        folder = _begun(target, stack)
        (folder / NEW).mkdir()
        yield folder


def _begun(target: Path, stack: ExitStack) -> Path:
    """A new workplace under a lock; both go with the stack. The lock goes first: its descriptor may
    be the only one by which the workplace can be looked into.
    """
    while True:
        folder = target.with_name(hidden(target, f"{os.getpid()}-{secrets.token_hex(4)}.partial"))
        stack.callback(_left, folder, target)
        folder.mkdir()
        with suppress(FileNotFoundError):  # another process swept it up before it had its lock
            stack.enter_context(claimed(folder))
            return folder


def _left(folder: Path, target: Path) -> None:
    """Delete a workplace, unless an earlier target could not be put back."""
    if _is_missing(target, folder / EARLIER):
        log.warning("%s is in %s, and the next command for it puts it back", target, folder)
        return
    try:
        delete(folder)
    except KeyboardInterrupt:
        delete(folder)
        raise


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder among the temporary ones; it vanishes with all that is left in it when the
    block ends.

    Raises ResourceError where the block fails for lack of room there, in whatever words: libraries
    have none for it.
    """
    folder = Path(mkdtemp(prefix="subbyte-"))
    try:
        yield folder
    except (OSError, FormatError) as error:
        free = disk_usage(folder).free
        if free > _ROOM:
            raise
        raise ResourceError(
            f"the temporary folder {folder.parent} is full ({free:,} bytes free); give TMPDIR one "
            f"with more room ({error})"
        ) from error
    finally:
        delete(folder)


def delete(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it; one folder is open at a time, as
    hardly any more may be. A warning says what can't be deleted, the first of it by name.
    """
    failed = list(_not_deleted(path))
    if failed:
        log.warning("%s stays, delete it: %s (%s)", path, failed[0].strerror, failed[0].filename)


def _not_deleted(path: Path) -> Iterator[OSError]:
    """Delete what can be deleted; the errors of the rest."""
    try:
        if not path.is_dir() or path.is_symlink():
            path.unlink()
        elif not _was_empty(path):
            for part in list(path.iterdir()):
                yield from _not_deleted(part)
            path.rmdir()
    except FileNotFoundError:  # another process deletes it, too
        return
    except OSError as error:
        yield error


def _was_empty(folder: Path) -> bool:
    """Delete a folder if it is empty, for which nothing has to be opened; whether it was."""
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def hidden(target: Path, end: str) -> str:
    """The name of a hidden file that goes with `target`; a long name stands there as its digest, as
    file systems allow 255 bytes.
    """
    name = os.fsencode(target.name)
    short = target.name if len(name) <= _LONGEST else sha256(name).hexdigest()
    return f".{short}.{end}"


def leftovers(target: Path) -> Iterator[Path]:
    """The workplaces of `target`, whoever has them."""
    start = hidden(target, "")
    for path in list(target.parent.iterdir()):
        if path.name.startswith(start) and _PARTIAL.fullmatch(path.name):
            yield path


def is_hidden(path: PurePath) -> bool:
    """Whether something is a lock, a workplace, or in one."""
    return any(_HIDDEN.fullmatch(part) for part in path.parts)


def sweep(folder: Path) -> None:
    """Delete what processes that were killed left in a folder."""
    for path in list(folder.iterdir()):
        if _PARTIAL.fullmatch(path.name):
            _discard(path)


def finish(target: Path) -> None:
    """Delete the workplaces of `target` whose processes are dead; what was ready takes its place
    first, where the target is gone because it was about to be replaced.
    """
    for other in leftovers(target):
        with suppress(FileNotFoundError), claimed(other) as claim:
            if claim is Claim.OURS:
                for whole in (other / READY, other / EARLIER):
                    if _is_missing(target, whole):
                        put(whole, target)
                delete(other)


def _is_missing(target: Path, folder: Path) -> bool:
    """Whether a target is in a folder of a workplace in place of where it is to be."""
    return not target.exists() and (folder / target.name).exists()


def _discard(other: Path) -> None:
    with suppress(FileNotFoundError), claimed(other) as claim:
        if claim is Claim.OURS:
            delete(other)


def put(ready: Path, target: Path) -> None:
    """Move all that lies in a folder to where `target` is to be, and the target last: whoever sees
    it sees all.
    """
    for path in sorted(ready.iterdir(), key=lambda path: path.name == target.name):
        path.replace(target.with_name(path.name))
