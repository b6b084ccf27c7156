"""Running what a user names as `path/file.py:callable`, for networks and for data sets alike.

The file is executed: it is the user's own program, like the one that imports subbyte.
"""

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from subbyte.errors import SubbyteError


def split_spec(spec: str) -> tuple[Path, str] | None:
    """'path/file.py:name' -> (path, name); None when `spec` is not of this form."""
    file, colon, name = spec.rpartition(":")
    if not colon and spec.endswith(".py"):
        return Path(spec).expanduser(), ""
    return (Path(file).expanduser(), name) if file.endswith(".py") else None


def call_user_file(path: Path, name: str, error: type[SubbyteError]) -> object:
    """Execute the file `path`, call its `name` without arguments and return the result.

    The file's folder is on sys.path while this runs, so that it can import its neighbours. Its
    module is kept
    in sys.modules under a private name, because torch.export and dataclasses look a class's module
    up there.
    Raises `error` when the file or the callable is missing, or either raises: with the line and the
    reason.
    """
    if not path.is_file():
        raise error(f"{path}: there is no such file; give it as path/file.py:callable")
    if not name:
        raise error(f"{path}: which of its callables? Give it as {path}:callable")
    path = path.resolve()
    with _folder_on_path(path.parent):
        module = _execute(path, error)
        function = getattr(module, name, None)
        if not callable(function):
            names = sorted(
                k for k, v in vars(module).items() if callable(v) and not k.startswith("_")
            )
            what = "is not callable" if hasattr(module, name) else "is not in it"
            raise error(f"{path}: {name!r} {what}; its callables are: {', '.join(names) or 'none'}")
        try:
            return function()
        except (Exception, SystemExit) as reason:
            raise error(f"{_where(path, reason)}: {name}() raised {_why(reason)}") from reason


def _execute(path: Path, error: type[SubbyteError]) -> ModuleType:
    private = f"_subbyte_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(private, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[private] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as reason:  # a script without a main guard may call sys.exit
        del sys.modules[private]
        raise error(f"{_where(path, reason)}: executing the file raised {_why(reason)}") from reason
    return module


@contextmanager
def _folder_on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with suppress(ValueError):  # the file may have changed sys.path itself
            sys.path.remove(str(folder))


def _where(path: Path, reason: BaseException) -> str:
    """'path, line n': the innermost line of the user's file, or of the file with the syntax
    error.
    """
    if isinstance(reason, SyntaxError) and reason.filename is not None:
        return f"{reason.filename}, line {reason.lineno}"
    lines = [
        f.lineno for f in traceback.extract_tb(reason.__traceback__) if f.filename == str(path)
    ]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _why(reason: BaseException) -> str:
    return f"{type(reason).__name__}: {reason}"
