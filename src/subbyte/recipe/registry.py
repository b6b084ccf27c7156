"""Methods as recipes write them: a name, or a mapping with a name and settings; and back."""

from dataclasses import asdict, fields
from math import isfinite
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from subbyte.errors import RecipeError

Method = str | dict[str, Any]
T = TypeVar("T")


def build_method(registry: dict[str, type[T]], method: Method, kind: str) -> T:
    """The method that a recipe names, with its settings.

    Raises RecipeError for an unknown name or setting, listing the known ones.
    """
    name, settings = (method, {}) if isinstance(method, str) else (method.get("name"), dict(method))
    settings.pop("name", None)
    if not isinstance(name, str) or name not in registry:
        raise RecipeError(f"{kind}: unknown method {name!r}; known: {', '.join(registry)}")
    cls = registry[name]
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise RecipeError(
            f"{kind} {name}: unknown setting {unknown[0]!r}; known: {', '.join(known) or 'none'}"
        )
    if bad := [key for key, value in settings.items() if not _finite(value)]:
        raise RecipeError(
            f"{kind} {name}: {bad[0]}: must be a finite number, got {settings[bad[0]]}"
        )
    try:
        return TypeAdapter(cls).validate_python(settings)
    except ValidationError as error:
        first = error.errors()[0]
        message = str(first["msg"]).removeprefix("Value error, ")
        if not first["loc"]:  # the settings do not go together: the method says so itself
            raise RecipeError(f"{kind} {message}") from error
        raise RecipeError(
            f"{kind} {name}: {'.'.join(map(str, first['loc']))}: {message}, got {first['input']!r}"
        ) from error


def _finite(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or isfinite(value)


def method_settings(registry: dict[str, type[T]], method: T) -> dict[str, Any]:
    """Inverse of `build_method`: the name and every setting."""
    name = next(name for name, cls in registry.items() if type(method) is cls)
    settings = asdict(method)  # type: ignore[call-overload]
    return {
        "name": name,
        **{k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()},
    }
