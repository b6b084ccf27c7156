"""Folders of results, written whole or not at all."""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from subbyte.errors import SubbyteError


@contextmanager
def folder(out: Path, *, owns: Collection[str], force: bool) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its place when the block ends well, and vanishes
    when it does not.

    owns: the caller's own files, as patterns of paths in the folder, such as `*/result.json`; an
        earlier folder that holds others is not replaced.
    Raises SubbyteError when `out` exists without `force`, or holds what is not the caller's.
    """
    if out.exists():
        _check_replaceable(out, owns, force)
    fresh, previous = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.previous")
    shutil.rmtree(fresh, ignore_errors=True)  # leftovers of a killed run
    if out.exists():
        shutil.rmtree(previous, ignore_errors=True)
    made = [parent for parent in fresh.parents if not parent.exists()]
    try:
        fresh.mkdir(parents=True)
    except OSError as error:
        raise SubbyteError(f"--out {out} can't be made: {error.strerror}") from error
    try:
        yield fresh
        if out.exists():
            out.rename(previous)
        fresh.rename(out)
    finally:
        # an error or Ctrl-C between both names: the earlier result comes back
        if previous.exists() and not out.exists():
            previous.rename(out)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(previous, ignore_errors=True)
        for parent in made:
            if not any(parent.iterdir()):
                parent.rmdir()


def _check_replaceable(out: Path, owns: Collection[str], force: bool) -> None:
    if not force:
        raise SubbyteError(f"--out {out} exists; choose another folder, or --force to replace it")
    if not out.is_dir():
        raise SubbyteError(f"--out {out} is a file; it is not replaced, even with --force")
    files = [path.relative_to(out) for path in out.rglob("*") if path.is_file()]
    foreign = [path for path in files if not any(_matches(path, pattern) for pattern in owns)]
    if foreign:
        raise SubbyteError(
            f"--out {out} holds {foreign[0]}, which this command does not write; it is not "
            "replaced, even with --force"
        )


def _matches(path: PurePath, pattern: str) -> bool:
    """Whether a path is as deep as a pattern, and each part of it matches."""
    return len(path.parts) == len(PurePath(pattern).parts) and path.match(pattern)
