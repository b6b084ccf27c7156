"""The numbers that weights may be, as recipes write them: a family, a count, a list, an alphabet.

An alphabet is written as methods are: as a name of `core.ALPHABETS`, as a mapping with `name` and
its fields, or in Python as the object itself.
"""

from collections.abc import Mapping
from typing import Any

from subbyte.core import ALPHABETS, Alphabet
from subbyte.core.alphabets import alphabet_from
from subbyte.core.levels import POWER_COUNTS
from subbyte.errors import RecipeError

FAMILIES = ("wide", "odd", "apot")
Levels = str | int | list[float] | Alphabet
_MOST = 256  # codes, as bytes hold


def read_levels(given: object) -> Levels | None:
    """The levels that are written as `given`. Raises RecipeError for what is none."""
    if given is None or given in FAMILIES:
        return given
    if type(given) is int and given in POWER_COUNTS:
        return given
    if isinstance(given, list) and all(type(level) in (int, float) for level in given):
        return given
    if isinstance(given, Alphabet):
        return _checked(given)
    entry = {"name": given} if isinstance(given, str) else given
    name = entry.get("name") if isinstance(entry, Mapping) else None
    if isinstance(entry, Mapping) and isinstance(name, str) and name in ALPHABETS:
        fields = {key: value for key, value in entry.items() if key != "name"}
        return _checked(alphabet_from({**fields, "kind": name}))
    raise RecipeError(
        f"levels must be {', '.join(FAMILIES)}, a number of powers of two "
        f"({', '.join(map(str, POWER_COUNTS))}), a list of numbers, or an alphabet: an object, or "
        f"one of {', '.join(ALPHABETS)}, alone or as `name` beside its fields; got {given!r}"
    )


def plain_levels(levels: object) -> object:
    """Inverse of `read_levels`, as plain values."""
    if not isinstance(levels, Alphabet):
        return levels
    fields: dict[str, Any] = levels.to_dict()
    return {"name": fields.pop("kind"), **fields}


def count_of(levels: object) -> int | None:
    """The number of levels where they state it themselves; None where bits do."""
    if isinstance(levels, Alphabet):
        return levels.count
    if isinstance(levels, list):
        return len(levels)
    return levels if isinstance(levels, int) else None


def _checked(alphabet: Alphabet) -> Alphabet:
    """An alphabet that files can name, and whose levels are known before data."""
    if ALPHABETS.get(alphabet.kind) is not type(alphabet):
        name = type(alphabet).__name__
        raise RecipeError(
            f"levels: files do not know the alphabet {alphabet.kind!r}; register it: "
            f"subbyte.core.ALPHABETS[{name}.kind] = {name}"
        )
    alphabet_from(alphabet.to_dict())  # its fields are of their types
    if not 2 <= alphabet.count <= _MOST or not alphabet.positions:
        raise RecipeError(
            f"levels: an alphabet of {alphabet.kind!r} does not say its 2 to {_MOST} levels before "
            f"data are seen"
        )
    if alphabet.positions[0] >= 0 and not alphabet.has_zero_point:
        raise RecipeError(
            f"levels: the alphabet {alphabet.kind!r} has no numbers below 0, which weights have"
        )
    return alphabet
