"""The section about the files of a result: how large and how fast they are, and how to run them."""

from subbyte.pages.parts import Code, Part, Section, Table, Text
from subbyte.pages.speed import said_speed
from subbyte.pages.wording import size
from subbyte.records import Exported, Result

_HEADER = ("file", "for", "bytes", "times smaller than float", "times as fast as float (95 %)")


def deployment_sections(result: Result) -> list[Section]:
    """Every exported file with its size, its speed and lines of code that run it; none where
    nothing was exported.
    """
    if not result.exports and not result.not_exported:
        return []
    parts: list[Part] = []
    if result.exports:
        parts.append(Table("Files", _HEADER, tuple(_row(one, result) for one in result.exports)))
        warned = [said_speed(one) for one in result.exports if one.speed and one.speed.low > 1]
        parts += [Text(f"{text[0].upper()}{text[1:]}.") for text in warned]
    parts += [Text(f"No {name} file: {why}.") for name, why in result.not_exported.items()]
    for one in result.exports:
        if one.usage:
            parts.append(Code(f"{one.file} in Python; `inputs` are arrays, in order", one.usage))
    return [Section("Files and how to run them", tuple(parts))]


def told(result: Result) -> str:
    """Size and speed of the first file in a sentence; '' where there is none."""
    if not result.exports:
        return ""
    one = result.exports[0]
    if one.speed is None:
        return f"{one.file} has {size(one.bytes)}; its speed was not measured."
    speed, batch = 1 / one.speed.median, f"at batch {one.timing.batch}" if one.timing else ""
    return f"{one.file} has {size(one.bytes)} and runs at {speed:.2f} x the speed of float {batch}."


def _row(one: Exported, result: Result) -> tuple[str, ...]:
    form = f"{one.name}, {one.form}" if one.form else one.name
    times = f"{result.bytes.float / one.bytes:.2f}" if one.bytes else ""
    speed = "" if one.speed is None else one.speed.faster
    return one.file, form, f"{one.bytes:,}", times, speed
