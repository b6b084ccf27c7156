"""The tables that a sweep leaves behind, and how they are read to be drawn: a row a run, a row a
setting.
"""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, log2
from pathlib import Path
from typing import Any

from subbyte.errors import FormatError

MARK, RESULTS, SUMMARY, CHOSEN, SPACE = (
    "sweep.json",
    "results.csv",
    "summary.csv",
    "chosen.csv",
    "space.yaml",
)
VERSION = 1
"""Of the layout of these files."""
TOP1 = "quantized_top1_percent"
_NEEDED = (
    "original_top1_percent",
    TOP1,
    "agreement_percent",
    "quantized_sparsity_percent",
    "bits_per_weight",
    "packed_bytes",
)
_OF_RUNS = ("run", "status", "model", "data", "seed", "split", "images", "error")
_NUMBER = re.compile(r"([-+]?[\d.]+(?:e[-+]?\d+)?)\s*(bits|bytes|KB|kB|MB|bops|)")
LABEL = "label"
_ONE = 0.5  # points
_UNITS = {"KB": 1e3, "kB": 1e3, "MB": 1e6}

Cells = dict[str, str]


def place(text: str) -> float | None:
    """Where a setting's value lies on an axis of numbers; None when it is no number.

    'ternary' is log2(3) bits; numbers with a unit, such as 2.5bits or 100KB, are numbers.
    """
    if text == "ternary":
        return log2(3)
    found = _NUMBER.fullmatch(text)
    try:
        return float(found[1]) * _UNITS.get(found[2], 1.0) if found else None
    except ValueError:
        return None


@dataclass(frozen=True)
class Setting:
    """A row of summary.csv. cells: the setting, by axis; metrics: means over `seeds` with _sd and
    _ci95.

    What a label stands for is not among the axes.
    """

    cells: Cells
    seeds: str
    metrics: Cells

    @property
    def name(self) -> str:
        """Such as 'rounding gpfq, bits 3'."""
        return ", ".join(_said(axis, text) for axis, text in self.cells.items()) or "all"

    def number(self, column: str) -> float:
        """A mean."""
        return float(self.metrics[column])

    def half_of(self, column: str) -> float | None:
        """Half the 95 % confidence interval of a mean; None of a single seed."""
        text = self.metrics.get(f"{column}_ci95", "")
        return float(text) if text else None

    @property
    def top1(self) -> float:
        """Percent."""
        return self.number(TOP1)

    @property
    def half(self) -> float | None:
        """Of top-1, in points."""
        return self.half_of(TOP1)

    @property
    def float_top1(self) -> float:
        """Of the float network, percent."""
        return self.number("original_top1_percent")

    @property
    def zeros(self) -> float:
        """Percent of the weights."""
        return self.number("quantized_sparsity_percent")

    @property
    def bytes(self) -> float:
        """Packed."""
        return self.number("packed_bytes")


@dataclass(frozen=True)
class Sweep:
    """A folder of `subbyte sweep`.

    name: tells the folder from others; title: the space's name; rows: of results.csv, those that
    failed too; runs: how many there are to be; space: as YAML; about: versions and inputs.
    """

    name: str
    title: str
    axes: tuple[str, ...]
    rows: tuple[Cells, ...]
    runs: int
    settings: tuple[Setting, ...]
    chosen: tuple[Setting, ...]
    space: str
    about: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, name: str, folder: Path) -> "Sweep":
        """Raises FormatError when a file is missing, damaged or of another version, or no run has
        ended.
        """
        mark = read_mark(folder / MARK)
        if mark["version"] != VERSION:
            raise FormatError(
                f"{folder / MARK} says version {mark['version']} of the results; this subbyte "
                f"reads version {VERSION}"
            )
        rows = read_cells(folder / RESULTS, _OF_RUNS)
        if not rows:
            raise FormatError(f"{folder / RESULTS} has no rows: no run has ended yet")
        settings, axes = _settings(folder / SUMMARY)
        if not settings and any(row["status"] == "done" for row in rows):
            raise FormatError(
                f"{folder / SUMMARY} is damaged (it has no rows); start the sweep again, and it "
                f"goes on"
            )
        chosen = _settings(folder / CHOSEN)[0] if (folder / CHOSEN).exists() else ()
        space = (folder / SPACE).read_text() if (folder / SPACE).exists() else ""
        title = rows[0].get("name") or name
        runs = max(len(rows), int(mark.get("runs", 0)))
        return cls(
            name,
            title,
            axes,
            tuple(rows),
            runs,
            settings,
            chosen,
            space,
            _about(mark, folder / MARK),
        )

    @property
    def best(self) -> Setting:
        """The most accurate, the first of equals; some setting must be there."""
        return max(self.settings, key=lambda one: one.top1)

    @cached_property
    def float_top1(self) -> float | None:
        """Percent, where it is one for all settings, but for the validation images that differ by
        what calibrates.
        """
        found = [one.float_top1 for one in self.settings]
        return (
            round(sum(found) / len(found), 4) if found and max(found) - min(found) < _ONE else None
        )

    @property
    def failed(self) -> list[Cells]:
        """Rows of runs that failed."""
        return [row for row in self.rows if row["status"] == "failed"]

    @property
    def columns(self) -> tuple[str, ...]:
        """Of results.csv that say anything."""
        return tuple(name for name in self.rows[0] if any(row[name] for row in self.rows))

    @cached_property
    def _values(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for axis in self.axes:
            texts = list(dict.fromkeys(one.cells[axis] for one in self.settings))
            places = [place(text) for text in texts]
            if all(one is not None for one in places):
                texts = [
                    text
                    for _, text in sorted(
                        zip(places, texts, strict=True), key=lambda pair: pair[0] or 0.0
                    )
                ]
            found[axis] = tuple(texts)
        return found

    def values(self, axis: str) -> tuple[str, ...]:
        """Of an axis: rising where they are numbers, else as they come."""
        return self._values[axis]

    def numeric(self, axis: str) -> bool:
        """Whether an axis has at least two values, all of them numbers."""
        return len(self.values(axis)) > 1 and all(
            place(text) is not None for text in self.values(axis)
        )

    def grouped(self, axes: Sequence[str]) -> dict[tuple[str, ...], list[Setting]]:
        """Settings by their values of some axes, which are said with the axis's name where they are
        numbers.
        """
        found: dict[tuple[str, ...], list[Setting]] = {}
        for one in self.settings:
            key = tuple(_said(axis, one.cells[axis]) for axis in axes)
            found.setdefault(key, []).append(one)
        return found


def _said(axis: str, text: str) -> str:
    """A value with its axis, such as 'bits 3'; words speak for themselves. Axes of one last part
    are told apart.
    """
    part, _, last = axis.rpartition(".")
    whole = f"{part} {last}" if part not in ("", "weights") else last
    return f"{whole} {text or 'none'}" if not text or place(text) is not None else text


def _settings(path: Path) -> tuple[tuple[Setting, ...], tuple[str, ...]]:
    """Settings and axes; those are the columns before `seeds`."""
    rows = read_cells(path, ("seeds", *_NEEDED), numbers=_NEEDED)
    header = list(rows[0]) if rows else ["seeds"]
    axes = _free([name for name in header[: header.index("seeds")] if name != "chosen_by"], rows)
    found = [
        Setting(
            {axis: row[axis] for axis in axes},
            row["seeds"],
            {k: v for k, v in row.items() if k not in axes},
        )
        for row in rows
    ]
    return tuple(found), axes


def _free(axes: Sequence[str], rows: Sequence[Cells]) -> tuple[str, ...]:
    """Axes without those that the labels stand for: that have one value for each label."""
    if LABEL not in axes:
        return tuple(axes)
    labels = len({row[LABEL] for row in rows})
    return tuple(
        axis
        for axis in axes
        if axis == LABEL or len({(row[LABEL], row[axis]) for row in rows}) > labels
    )


def read_cells(path: Path, needed: Sequence[str], numbers: Sequence[str] = ()) -> list[Cells]:
    """Rows of a CSV file. Raises FormatError when it is missing, damaged, lacks a column, or a
    number is none.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        for number, row in enumerate(rows, 1):
            missing = [name for name in needed if name not in row]
            if missing or None in row or None in row.values():
                raise ValueError(
                    f"row {number} has no {missing[0]}" if missing else f"row {number} is cut short"
                )
            for name in numbers:
                if not isfinite(float(row[name])):
                    raise ValueError(f"row {number}: {name} is {row[name]}")
        return rows
    except (OSError, ValueError, csv.Error) as reason:
        raise FormatError(
            f"{path} is damaged ({reason}); the same `subbyte sweep` command writes it anew"
        ) from reason


def read_mark(path: Path) -> dict[str, Any]:
    """What sweep.json says, of whatever version. Raises FormatError when it is damaged."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        found["version"], int(found.get("runs", 0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as reason:
        raise FormatError(f"{path} is damaged ({reason})") from reason
    return found


def _about(found: dict[str, Any], path: Path) -> tuple[tuple[str, str], ...]:
    try:
        inputs = [
            (f"fingerprint of {one['model']}, {one['data']}", one["identity"])
            for one in found.get("inputs", [])
        ]
        return (
            *((f"version of {name}", text) for name, text in found.get("versions", {}).items()),
            *inputs,
        )
    except (KeyError, TypeError, AttributeError) as reason:
        raise FormatError(f"{path} is damaged ({reason})") from reason
