"""Members of a family from the plain values of a file: which one by `kind`, the rest its fields."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from subbyte.errors import RecipeError
from subbyte.io.complaints import first_complaint

T = TypeVar("T")
_CONFIG = ConfigDict(arbitrary_types_allowed=True)


def from_plain(family: str, members: Mapping[str, type[T]], entry: object) -> T:
    """The member that `entry` describes. family: for messages; members: dataclasses by kind.

    Raises RecipeError where `entry` is no mapping, its kind is unknown, a field is missing, unknown
    or of another type than the member says, and where the member itself refuses the values.
    """
    if not isinstance(entry, Mapping):
        raise RecipeError(f"{family}: expected a mapping with a kind, got {entry!r}")
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in members:
        raise RecipeError(f"{family}: expected one of {', '.join(members)}, got {kind!r}")
    member, where = members[kind], f"{family} {kind}"
    types, known = get_type_hints(member), {f.name: f for f in fields(member)}  # type: ignore[arg-type]
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items() if k != "kind"}
    for name in values:
        if name not in known:
            raise RecipeError(f"{where}: unknown {name!r}; known: {', '.join(known) or 'none'}")
    for name, field in known.items():
        if name in values:
            values[name] = checked(f"{where}: {name}", adapter(types[name]), values[name])
        elif field.default is MISSING:
            raise RecipeError(f"{where}: {name} is missing")
    return member(**values)


def adapter(kind: Any) -> TypeAdapter[Any]:
    """The check of a type, for `checked`."""
    return TypeAdapter(kind, config=None if is_dataclass(kind) else _CONFIG)  # they have their own


def checked(where: str, kind: TypeAdapter[Any], value: object) -> object:
    """The value, if it is of a type; where: for the message. Raises RecipeError where it is not."""
    try:
        return kind.validate_python(value, strict=True)
    except ValidationError as error:
        raise RecipeError(f"{where} {first_complaint(error)[1]}") from error
