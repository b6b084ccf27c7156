"""Writing files whole or not at all."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from subbyte.errors import NumericsError


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; renamed to it when the block ends well, deleted when it does
    not.

    An OSError, such as that of a full disk, says which file it is about.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def written_together(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    """Temporary names for files that belong together, all in one folder under their own last parts;
    they take their places when the block ends well, the first one last, and vanish when it does
    not. Files but the first may be left out; one of that name that was there goes all the same.
    When the block does not end well, and where a file can't be put in its place, what was there
    stays.
    """
    home = paths[0].parent
    home.mkdir(parents=True, exist_ok=True)
    folder = home / f".{paths[0].name}.{os.getpid()}.partial"
    shutil.rmtree(folder, ignore_errors=True)
    earlier = folder / "earlier"
    earlier.mkdir(parents=True)
    try:
        yield [folder / path.name for path in paths]
        for path in filter(Path.exists, paths):
            path.rename(earlier / path.name)
        try:
            made = [path for path in paths[1:] if (folder / path.name).exists()]
            for path in (*made, paths[0]):
                (folder / path.name).replace(path)
        except OSError as error:
            for path in paths:
                path.unlink(missing_ok=True)
                if (earlier / path.name).exists():
                    (earlier / path.name).rename(path)
            error.filename = str(paths[0])
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with written(path) as temporary:
        temporary.write_text(text)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with written(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON, whole or not at all. Raises NumericsError for NaN and Inf, of
    which JSON has none.
    """
    try:
        text = json.dumps(value, indent=2, allow_nan=False)
    except ValueError as error:
        raise NumericsError(f"{path}: NaN or Inf can't be written ({error})") from error
    write_text(path, text + "\n")
