"""Writing files whole or not at all, and text as UTF-8 whatever the locale."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from subbyte.errors import FormatError, NumericsError
from subbyte.io.workplaces import EARLIER, NEW, READY, put, workplace


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary path of the same name; it takes the place of `path` when the block ends well, and
    vanishes when it does not.

    An OSError, such as that of a full disk, says which file it is about.
    """
    with written_together([path]) as (temporary,):
        yield temporary


@contextlib.contextmanager
def written_together(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    """Temporary paths for files (or folders) that belong together, all in one folder under their
    own last parts; they take their places when the block ends well, the first one last, and vanish
    when it does not. Files but the first may be left out; one of that name that was there goes all
    the same. When the block does not end well, and where a file can't be put in its place, what was
    there stays.
    """
    try:
        with together(paths) as temporary:
            yield temporary
    except OSError as error:
        error.filename = str(paths[0])
        raise


@contextlib.contextmanager
def together(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    """`written_together`, for long work whose errors may be about anything."""
    for path in paths:
        path.exists()  # raises for a name that is too long, before the work
    with workplace(paths[0]) as work:
        yield [work / NEW / path.name for path in paths]
        _exchange(work, paths)


def _exchange(work: Path, paths: Sequence[Path]) -> None:
    """Put what is new in the place of what is there. A single file is replaced in one step;
    otherwise the first path is the first to go and the last to come: while it is missing, whoever
    finds the workplace of a killed process knows what to do.
    """
    (main, *others), new = paths, work / NEW
    made = [path for path in others if (new / path.name).exists()]
    if not main.is_dir() and not made and not any(map(Path.exists, others)):
        (new / main.name).replace(main)
        return
    (new / main.name).stat()  # raises where the block did not make it
    earlier, ready = work / EARLIER, work / READY
    earlier.mkdir()
    new.rename(ready)
    try:
        for path in filter(Path.exists, paths):
            path.rename(earlier / path.name)
        put(ready, main)
    except BaseException:
        ready.rename(new)  # it is not what comes next, should this process be killed
        for path in made:
            if not (new / path.name).exists():  # it was put in its place
                path.unlink(missing_ok=True)
        put(earlier, main)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes(path, readable(text).encode())


def readable(text: str) -> str:
    """Text that can be encoded. Names of files have their bytes in it where the locale's encoding
    lacks their letters: those are UTF-8 again, or else marks of what is no text.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def check_name(path: Path) -> None:
    """Raise FormatError for a name that is no text in UTF-8, by which many libraries can't open a
    file.
    """
    if readable(str(path)) != str(path):
        raise FormatError(
            f"{path}: files can't be opened by a name that is no text in UTF-8; choose another"
        )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with written(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON, whole or not at all. Raises NumericsError for NaN and Inf, of
    which JSON has none.
    """
    try:
        text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise NumericsError(f"{path}: NaN or Inf can't be written ({error})") from error
    write_text(path, text + "\n")
