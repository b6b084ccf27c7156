"""Registries: the methods of one kind by name, built from what people write and written back.

A method is written as a name (`gptq`), as a class of a user's file (`mine.py:MyRounding`), or as a
mapping with one of these and settings (`{name: gptq, damping: 0.02}`); in Python it may be the
object itself.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields
from enum import Enum
from functools import cache
from inspect import isabstract
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from subbyte.errors import RecipeError
from subbyte.io.complaints import first_complaint
from subbyte.io.numbers import check
from subbyte.io.plain import adapter, checked
from subbyte.io.texts import parse_json
from subbyte.io.user_file import (
    MACHINE,
    UserFiles,
    class_spec,
    load_user_class,
    raised,
    split_spec,
)

Method = str | dict[str, Any]
T = TypeVar("T")
ANYWHERE = UserFiles()


@dataclass(frozen=True)
class Absent:
    """Stands for a method of a user's file that is not run: it can be shown and written, not used.

    settings: as JSON.
    """

    name: str
    settings: str


class Registry(Mapping[str, type[T]], Generic[T]):
    """The methods of a kind: a mapping from their names to their classes.

    kind: how recipes and errors call one, such as rounding; contract: the class that all derive
    from; members: by name.
    """

    def __init__(self, kind: str, contract: Any, members: dict[str, type[T]]) -> None:
        self.kind, self.contract, self._members = kind, contract, members

    def __getitem__(self, name: str) -> type[T]:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def build(self, given: object, files: UserFiles = ANYWHERE) -> T:
        """The method that is written as `given`, with its settings; an object is itself.

        Raises RecipeError for an unknown name or setting, listing the known ones, for a setting of
        another type than the class says, for a file or class that is missing, and for a class that
        is none of the kind.
        """
        if isinstance(given, self.contract):
            return self.check(given)
        if not isinstance(given, str | Mapping):
            raise self._no_method(given, "a name, a mapping with a name and settings, or ")
        settings = {"name": given} if isinstance(given, str) else dict(given)
        name = settings.pop("name", None)
        if name is None:
            raise RecipeError(
                f"{self.kind}: `name` is missing in {given!r}; known: {', '.join(self)}, or a "
                f"class as path/file.py:Class"
            )
        where, spec = f"{self.kind} {name}", split_spec(name) if isinstance(name, str) else None
        if spec is not None and not files.run:
            known = f"{(files.folder / spec[0]).resolve()}:{spec[1]}"
            stand_in: T = _absent(self.contract)(known, json.dumps(settings))
            return stand_in
        if spec is not None:
            cls = load_user_class(files.find(spec[0]), spec[1], RecipeError)
            self._require_contract(cls, where)
        elif isinstance(name, str) and name in self:
            cls = self[name]
        else:
            raise RecipeError(
                f"{self.kind}: unknown method {name!r}; known: {', '.join(self)}, or a class as "
                f"path/file.py:Class"
            )
        return _configured(cls, settings, where)

    def check(self, method: object) -> T:
        """The method itself. Raises RecipeError where it is none of the kind, or its class or one
        of its settings is not what it has to be.
        """
        if not isinstance(method, self.contract):
            raise self._no_method(method, "")
        if not isinstance(method, Absent):
            cls: Any = type(method)
            where = f"{self.kind} {cls.__name__}"
            self._require_contract(cls, where)
            _check_settings(cls, {f.name: attrgetter(f.name)(method) for f in fields(cls)}, where)
            check(method)
        return method  # type: ignore[no-any-return]

    def settings(self, method: T, files: UserFiles = MACHINE) -> dict[str, Any]:
        """Inverse of `build`: the name and every setting. files: of the file that they go into."""
        if isinstance(method, Absent):
            return {"name": self.name(method, files), **parse_json(method.settings)}
        return {"name": self.name(method, files), **_plain(asdict(method))}  # type: ignore[call-overload]

    def short(self, method: T, files: UserFiles = MACHINE) -> Method:
        """Inverse of `build`: the name alone, or with those settings that are not the default.
        files: of the file that they go into.
        """
        whole = self.settings(method, files)
        if not isinstance(method, Absent):
            defaults = {f.name: _plain(_default(f)) for f in fields(method)}  # type: ignore[arg-type]
            whole = {k: v for k, v in whole.items() if k not in defaults or v != defaults[k]}
        return whole["name"] if len(whole) == 1 else whole

    def name(self, method: T, files: UserFiles = MACHINE) -> str:
        """The name by which recipes call a method: its name here, or the file and class of a
        user's. files: of the file that names it.
        """
        if isinstance(method, Absent):
            path, _, cls_name = method.name.rpartition(":")
            return f"{files.name(Path(path))}:{cls_name}"
        cls = type(method)
        return next((name for name, known in self.items() if known is cls), class_spec(cls, files))

    def _require_contract(self, cls: type, where: str) -> None:
        """A user's class keeps the contract, as far as that can be seen without running it."""
        contract = f"subbyte.methods.{self.contract.__name__}"
        if not issubclass(cls, self.contract):
            raise RecipeError(f"{where} is no {self.kind}; derive it from {contract}")
        if isabstract(cls):
            missing = ", ".join(sorted(vars(cls)["__abstractmethods__"]))
            raise RecipeError(f"{where} lacks {missing}; {contract} says what they do")
        parameters = vars(cls).get("__dataclass_params__")
        if parameters is None or not parameters.frozen:
            raise RecipeError(f"{where}: decorate the class with @dataclass(frozen=True)")

    def _no_method(self, given: object, otherwise: str) -> RecipeError:
        """The error for what is no method. otherwise: what may be given in its place."""
        name = self.contract.__name__
        if isinstance(given, type) and issubclass(given, self.contract):
            return RecipeError(
                f"{self.kind}: {given.__name__} is a class, and methods are objects; call it: "
                f"{given.__name__}()"
            )
        return RecipeError(
            f"{self.kind}: expected {otherwise}an object of kind {name}; got {given!r}"
        )


def _check_settings(cls: type, settings: Mapping[str, Any], where: str) -> None:
    """Raise RecipeError for a setting that is not finite, or of another type than its class says.
    where: its kind and name.
    """
    try:
        types = _types(cls)
    except Exception as error:  # annotations are expressions of the user's
        raise RecipeError(f"{where}: the types of its settings can't be read: {error}") from error
    for name, value in settings.items():
        checked(f"{where}: {name}:", types[name], value)


@cache
def _types(cls: type) -> dict[str, TypeAdapter[Any]]:
    """The checks of a class's settings, by name."""
    hints = get_type_hints(cls)
    return {f.name: adapter(hints[f.name]) for f in fields(cls)}


def _configured(cls: type[T], settings: dict[str, Any], where: str) -> T:
    """A method of a class with these settings. where: its kind and name."""
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise RecipeError(
            f"{where}: unknown setting {unknown[0]!r}; known: {', '.join(known) or 'none'}"
        )
    try:
        method = TypeAdapter(cls).validate_python(settings)
    except ValidationError as error:
        path, why = first_complaint(error)
        if not path:  # the settings do not go together: the method says so itself
            raise RecipeError(f"{where.split()[0]} {why}") from error
        raise RecipeError(f"{where}: {'.'.join(map(str, path))}: {why}") from error
    except Exception as error:  # a user's class may raise what it likes when it is made
        raise RecipeError(f"{where}: {raised(cls, error)}") from error
    check(method)  # a user's class may do without the contract's own check
    return method


def _default(setting: Field[Any]) -> Any:
    """The default of a setting; MISSING, which no value equals, where it has none."""
    factory = setting.default_factory
    return setting.default if factory is MISSING else factory()


def _plain(value: Any) -> Any:
    """Settings as YAML has them: lists in place of tuples, and the texts of choices."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(below) for key, below in value.items()}
    return [_plain(below) for below in value] if isinstance(value, list | tuple) else value


@cache
def _absent(contract: Any) -> Any:
    """The class of absent methods of a kind, which refuse to work."""

    def refuse(self: Absent, *given: object, **named: object) -> NoReturn:
        raise RecipeError(
            f"{self.name} is a class of a user's file, which is not run when a packed file is read"
        )

    verbs = dict.fromkeys(contract.__abstractmethods__, refuse)
    return type(f"Absent{contract.__name__}", (Absent, contract), dict(verbs))
