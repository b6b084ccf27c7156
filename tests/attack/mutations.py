"""Seeded damage: of bytes as disks and networks do it, and of plain values as other programs and
attackers do it.
"""

import json
import math
from collections.abc import Callable
from random import Random
from typing import Any

Content = bytes
DEEP, LONG, SPLIT = "@@deep@@", "@@long@@", "@@split@@"
"""Stand for text that JSON's own writer can't write."""
_TEXTS = {DEEP: "[" * 3000 + "]" * 3000, LONG: "9" * 5000, SPLIT: '"\\ud800"'}
_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 255, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30),
    *(0.5, -0.0, 1e-320, 1e308, math.nan, math.inf, -math.inf),
    *("", "x", "nan", "1e999", "\0", "~x.py:Y", "../../x", "[/b]", "a" * 10_000, "float32"),
    *([], {}, [[]], [None], {"": None}, {"kind": "uniform"}, [2**40, 2**40], [-1]),
    *(DEEP, LONG, SPLIT),
)


def damaged(content: Content, random: Random) -> Content:
    """Bytes with one to three faults."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = random.choice(_FAULTS)(content, random)
    return content


def _flipped(content: Content, random: Random) -> Content:
    changed = bytearray(content)
    if changed:
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(content: Content, random: Random) -> Content:
    return content[: random.randrange(len(content) + 1)]


def _inserted(content: Content, random: Random) -> Content:
    at = random.randrange(len(content) + 1)
    return content[:at] + random.randbytes(random.choice((1, 2, 8, 100))) + content[at:]


def _removed(content: Content, random: Random) -> Content:
    at = random.randrange(len(content) + 1)
    return content[:at] + content[at + random.choice((1, 2, 8, 100)) :]


def _overwritten(content: Content, random: Random) -> Content:
    """Lengths and counts among others: with the largest and the smallest numbers."""
    at, size = random.randrange(len(content) + 1), random.choice((1, 2, 4, 8))
    number = random.choice((b"\0", b"\xff", b"\x7f" + b"\xff" * 7, b"\x80" + b"\0" * 7))
    return content[:at] + (number * 8)[:size] + content[at + size :]


def _repeated(content: Content, random: Random) -> Content:
    at = random.randrange(len(content) + 1)
    return content[:at] + content[at : at + 64] + content[at:]


_FAULTS = (_flipped, _flipped, _flipped, _cut, _inserted, _removed, _overwritten, _repeated)


def changed(value: Any, random: Random) -> Any:
    """A copy of plain values with one place changed: another type, a name or an entry more or less,
    a huge number, NaN.
    """
    value = json.loads(json.dumps(value))
    holder = {"": value}
    places = list(_places(holder))
    inside, key = random.choice(places)
    match random.randrange(5):
        case 0 if inside is not holder:
            del inside[key]
        case 1 if isinstance(inside, list):
            inside.insert(key, random.choice(_ODD))
        case 1:
            inside[random.choice(("more", "name", "kind", "version", ""))] = random.choice(_ODD)
        case 2:
            other, place = random.choice(places)
            inside[key] = json.loads(json.dumps(other[place]))
        case _:
            inside[key] = random.choice(_ODD)
    return holder[""]


def _places(value: Any) -> Any:
    """Every list or mapping below a value with each of its keys."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def as_json(value: Any) -> Content:
    """JSON that may be none: with NaN, deep nesting, long numbers and halves of characters."""
    text = json.dumps(value)
    for stand_in, odd in _TEXTS.items():
        text = text.replace(f'"{stand_in}"', odd)
    return text.encode()


def as_yaml(value: Any, random: Random) -> Content:
    """YAML by way of JSON; at times with names twice, aliases of aliases, tags."""
    text = as_json(value).decode().replace("NaN", ".nan").replace("Infinity", ".inf")
    levels = [f"b{k}: &b{k} [{', '.join([f'*b{k - 1}'] * 9)}]" for k in range(1, 12)]
    merges = [f"b{k}: &b{k} {{<<: [{', '.join([f'*b{k - 1}'] * 9)}]}}" for k in range(1, 12)]
    extra = random.choice(
        (
            *("", "", "", "", "", ""),
            "name: x, name: y, ",
            "&a more: *a, ",
            "more: !!python/object/apply:os.system [touch /tmp/pwned], ",
            "more: 2020-99-99, ",
            f"b0: &b0 [x, y], {', '.join(levels)}, ",
            f"b0: &b0 {{x: 1}}, {', '.join(merges)}, ",
        )
    )
    return text.replace("{", "{" + extra, 1).encode()


def in_cells(content: Content, random: Random) -> Content:
    """CSV with a cell, a row or a column of its head changed."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    row = random.choice(rows)
    match random.randrange(4):
        case 0:
            rows.insert(random.randrange(len(rows)), random.choice(rows))
        case 1:
            rows.remove(row)
        case _:
            odd = str(random.choice(_ODD)).replace(DEEP, '"').replace(SPLIT, "\r")
            row[random.randrange(len(row))] = odd
    return "\n".join(map(",".join, rows)).encode()


Change = Callable[[Content, Random], Content]
