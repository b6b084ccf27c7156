"""Writing files whole or not at all."""

import contextlib
import json
import os
from collections.abc import Iterator
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
