"""Running what a user names as `path/file.py:callable`: networks, data sets, classes.

The file is executed: it is the user's own program, like the one that imports subbyte.
"""

import copyreg
import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NamedTuple

from subbyte.errors import SubbyteError

MODULES = "_subbyte_user_"
"""The beginning of the names that modules of users' files have in sys.modules."""


def split_spec(spec: str) -> tuple[Path, str] | None:
    """'path/file.py:name' -> (path, name); None when `spec` is not of this form."""
    before, colon, after = spec.rpartition(":")
    file, name = (before, after) if colon else (spec, "")
    return (expanded(file), name) if file.endswith(".py") else None


def expanded(path: str | Path) -> Path:
    """The path with a home in place of ~; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


@dataclass(frozen=True)
class UserFiles:
    """The place where files that a user names are looked up, and whether they may run.

    folder: that of the file which names them, before the working directory; run: whether they are
    executed at all; what a packed file names is not.
    """

    folder: Path = Path()
    run: bool = True

    def find(self, path: Path) -> Path:
        """The file, in the folder or else in the working directory."""
        near = self.folder / path
        return near if near.is_file() else path

    def name(self, file: Path) -> Path:
        """The path by which a file that lies in the folder names another: relative to the folder,
        so that both can be moved, unless the two have nothing but the root in common.
        """
        folder, file = self.folder.resolve(), file.resolve()
        apart = os.path.commonpath([folder, file]) == file.anchor
        return file if apart else Path(os.path.relpath(file, folder))


MACHINE = UserFiles(Path("/"))
"""Names files by where they are on this machine."""


def call_user_file(path: Path, name: str, error: type[SubbyteError]) -> object:
    """Execute the file `path`, call its `name` without arguments and return the result.

    The file's folder is on sys.path while this runs, so that it can import its neighbours. Its
    module is kept in sys.modules under a private name, because torch.export and dataclasses look a
    class's module up there.
    Raises `error` when the file or the callable is missing, or either raises: with the line and the
    reason.
    """
    path = _CALLABLE.existing(path, name, error)
    with _folder_on_path(path.parent):
        function = _CALLABLE.pick(path, name, _execute(path, error), error)
        try:
            return function()
        except (Exception, SystemExit) as reason:
            raise error(f"{_where(path, reason)}: {name}() raised {_why(reason)}") from reason


def load_user_class(path: Path, name: str, error: type[SubbyteError]) -> type:
    """The class `name` of the file `path`, which is executed once for each content that it has.

    Raises `error` when the file or the class is missing, or executing the file raises.
    """
    path = _CLASS.existing(path, name, error)
    with _folder_on_path(path.parent):
        known = sys.modules.get(_private_name(path))
        module = _execute(path, error) if known is None else known
        cls: type = _CLASS.pick(path, name, module, error)
    copyreg.pickle(cls, _packed)  # other processes have to execute the file, too
    return cls


def _packed(value: object) -> tuple[Any, ...]:
    return _unpacked, (class_spec(type(value)), vars(value))


def _unpacked(spec: str, state: dict[str, Any]) -> object:
    path, name = split_spec(spec) or (Path(spec), "")
    value: object = object.__new__(load_user_class(path, name, SubbyteError))
    vars(value).update(state)
    return value


def class_spec(cls: type, files: UserFiles = MACHINE) -> str:
    """The name by which a user names a class: 'path/file.py:Class', or its module in place of a
    path where it was written at a prompt. files: of the file that names it.
    """
    module = sys.modules.get(cls.__module__)
    file = None if module is None else vars(module).get("__file__")
    return f"{cls.__module__ if file is None else files.name(Path(file))}:{cls.__qualname__}"


def raised(cls: type, reason: BaseException) -> str:
    """An exception of a class's methods in words: its type, its text, and the line of the class's
    file that it came through last.
    """
    module = sys.modules.get(cls.__module__)
    file = None if module is None else vars(module).get("__file__")
    lines = [f.lineno for f in traceback.extract_tb(reason.__traceback__) if f.filename == file]
    where = f" ({Path(str(file)).name}, line {lines[-1]})" if lines else ""
    return f"raised {_why(reason)}{where}"


class _Wanted(NamedTuple):
    """The kind of object that a user's file is to have under a name."""

    one: str
    several: str
    fits: Callable[[object], bool]

    def existing(self, path: Path, name: str, error: type[SubbyteError]) -> Path:
        """The file with its folders; raises where it is missing, or the name is."""
        if not path.is_file():
            raise error(f"{path}: there is no such file; give it as path/file.py:{self.one}")
        if not name:
            raise error(f"{path}: which of its {self.several}? Give it as {path}:{self.one}")
        return path.resolve()

    def pick(self, path: Path, name: str, module: ModuleType, error: type[SubbyteError]) -> Any:
        """The object that the module has under the name; raises where it is nothing that fits."""
        found = vars(module)
        if name in found and self.fits(found[name]):
            return found[name]
        own = [k for k, v in found.items() if self.fits(v) and _written_in(module, v)]
        known = sorted(k for k in own if not k.startswith("_"))
        state = f"is not {self.one}" if name in found else "is not in it"
        raise error(
            f"{path}: {name!r} {state}; its {self.several} are: {', '.join(known) or 'none'}"
        )


def _written_in(module: ModuleType, value: object) -> bool:
    """Whether a class or function is the file's own, not one that it imports."""
    if isinstance(value, type | FunctionType):
        return value.__module__ == module.__name__
    return not isinstance(value, BuiltinFunctionType)


_CALLABLE = _Wanted("callable", "callables", callable)
_CLASS = _Wanted("Class", "classes", lambda value: isinstance(value, type))


def _execute(path: Path, error: type[SubbyteError]) -> ModuleType:
    private = _private_name(path)
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


def _private_name(path: Path) -> str:
    """The name of a file's module: one for each place and content."""
    digest = hashlib.sha256(os.fsencode(path) + b"\n" + path.read_bytes()).hexdigest()
    return f"{MODULES}{path.stem}_{digest[:12]}"


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
