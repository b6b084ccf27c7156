"""The doors by which text comes in: JSON and YAML are read here and nowhere else.

Whatever lies in a file, its reader gets plain values (None, booleans, numbers, text, lists and
mappings), or an error with one line that names the file and the place. Refused are: text that is
not UTF-8, values that are nested deeper than 64, whole numbers of more than 64 bits, NaN and Inf,
names that are there twice, halves of characters, and YAML whose aliases make much of little.
"""

import json
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from subbyte.errors import FormatError, RecipeError, SubbyteError

Plain = dict[str, Any]
"""A mapping of plain values."""
DEEPEST = 64
"""Lists and mappings within one another."""
_LARGEST = 2**63  # whole numbers lie below, in size
_MOST = 100_000  # values of a YAML file, each alias counted as what it stands for
_SHOWN = 200  # letters of a reader's reason


def read_text(
    path: Path | Traversable, where: str = "", error: type[SubbyteError] = FormatError
) -> str:
    """The text of a file in UTF-8. where: what begins the message; the file's path by default.

    Raises `error` where it can't be read.
    """
    try:
        return path.read_bytes().decode()
    except OSError as reason:
        raise error(f"{where or path} can't be read: {reason.strerror}") from reason
    except UnicodeDecodeError as reason:
        raise error(
            f"{where or path} can't be read: not text in UTF-8 ({reason.reason} at byte "
            f"{reason.start})"
        ) from reason


def parse_json(
    text: str | bytes, where: object = "", error: type[SubbyteError] = FormatError
) -> Any:
    """The plain values of JSON. where: what begins the message.

    Raises `error` where it is none, or more than the module's text allows.
    """
    try:
        whole = text if isinstance(text, str) else text.decode()
        found = json.loads(whole, object_pairs_hook=_mapping)
    except (ValueError, RecursionError) as reason:
        raise error(f"{where}: no JSON that can be read ({_short(reason)})") from reason
    return _plain(found, where, error)


def parse_mapping(
    text: str | bytes, where: object = "", error: type[SubbyteError] = FormatError
) -> Plain:
    """The mapping of plain values that JSON holds. Raises `error` as `parse_json`."""
    found = parse_json(text, where, error)
    if not isinstance(found, dict):
        raise error(f"{where}: must be a mapping, got {type(found).__name__}")
    return found


def parse_yaml(text: str, where: object = "", error: type[SubbyteError] = RecipeError) -> Any:
    """The plain values of YAML. Raises `error` as `parse_json`."""
    try:
        found = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as reason:
        raise error(f"{where}: not YAML: {_short(reason)}") from reason
    return _plain(found, where, error)


def read_settings(path: Path | Traversable, where: str) -> Plain:
    """The settings in a YAML file, one mapping. where: what begins the message.

    Raises RecipeError where the file holds anything else.
    """
    settings = parse_yaml(read_text(path, where, RecipeError), where)
    if not isinstance(settings, dict):
        raise RecipeError(f"{where}: expected a mapping of settings, got {type(settings).__name__}")
    return settings


def _short(reason: Exception) -> str:
    if isinstance(reason, RecursionError):
        return f"nested deeper than {DEEPEST}"
    if isinstance(reason, yaml.MarkedYAMLError) and reason.problem and reason.problem_mark:
        return f"{reason.problem}, line {reason.problem_mark.line + 1}"[:_SHOWN]
    return " ".join(str(reason).split())[:_SHOWN]


def _mapping(pairs: list[tuple[str, Any]]) -> Plain:
    """A mapping of JSON. Raises ValueError for a name that is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise ValueError(f"{_name(twice)} is there twice")
    return found


class _Loader(yaml.SafeLoader):
    """Reads plain values, each name of a mapping once, and no more values than `_MOST`."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._values, self._sizes = 0, dict[int, int]()

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Count a value with all that it holds, also where an alias repeats it."""
        alias, before = self.check_event(yaml.AliasEvent), self._values
        node: Any = super().compose_node(parent, index)
        if alias and id(node) not in self._sizes:
            raise _refused("a value holds itself", node)
        self._values += self._sizes[id(node)] if alias else 1
        if self._values > _MOST:
            raise _refused(f"it has more than {_MOST:,} values, aliases counted", node)
        self._sizes.setdefault(id(node), self._values - before)
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Refuse a name that is there twice: before merges, which may repeat one."""
        node: Any = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                raise _refused(f"{_name(key.value)} is there twice", key)
            seen.add((key.tag, str(key.value)))
        return node


def _refused(why: str, node: Any) -> yaml.YAMLError:
    return yaml.YAMLError(f"{why}, line {node.start_mark.line + 1}")


def _plain(value: Any, where: object, error: type[SubbyteError]) -> Any:
    """The value itself. Raises `error`, naming the place, where a part of it is not plain."""
    for place, found in _parts(value):
        if place is not None and place.depth > DEEPEST:
            raise error(f"{where}: nested deeper than {DEEPEST}")
        if why := _refusal(found):
            raise error(f"{where}: {place}: {why}" if place else f"{where}: {why}")
    return value


def _parts(value: Any) -> Iterator[tuple["_Place | None", Any]]:
    """All values within one, itself first."""
    waiting: list[tuple[_Place | None, Any]] = [(None, value)]
    while waiting:
        place, found = waiting.pop()
        yield place, found
        if isinstance(found, dict):
            waiting += [(_Place(place, key), key) for key in found]
            waiting += [(_Place(place, key), entry) for key, entry in found.items()]
        elif isinstance(found, list):
            waiting += [(_Place(place, key), entry) for key, entry in enumerate(found)]


class _Place:
    """The way to a value: from the place of the list or mapping that holds it, None for the whole
    text.
    """

    __slots__ = ("before", "depth", "key")

    def __init__(self, before: "_Place | None", key: object) -> None:
        self.before, self.key = before, key
        self.depth: int = 1 if before is None else before.depth + 1

    def __str__(self) -> str:
        own = _name(self.key)
        return own if self.before is None else f"{self.before}.{own}"


def _refusal(found: Any) -> str:
    """The reason why a value is not plain; "" where it is."""
    if isinstance(found, str):
        return "" if found.isascii() or _whole(found) else "holds half a character"
    if isinstance(found, float):
        return "" if isfinite(found) else f"must be a finite number, got {found}"
    if isinstance(found, int):
        return "" if abs(found) < _LARGEST else "a whole number of more than 64 bits"
    if found is None or isinstance(found, list | dict):
        return ""
    return f"a {type(found).__name__} is neither text nor a number; put it in quotes"


def _whole(text: str) -> bool:
    """Whether there are no halves of characters, which can't be written or shown."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(key: object) -> str:
    return ascii(key)[:40].strip("'") if isinstance(key, str) else str(key)[:40]
