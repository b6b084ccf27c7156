"""The files of a sweep: sweep.json, what it is a sweep of; runs/HASH.json (see `outcome`);
results.csv, a row a run; summary.csv, a row a setting; chosen.csv, the setting that was chosen, on
the test images.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, log2
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from subbyte.errors import FormatError
from subbyte.io.complaints import short
from subbyte.io.texts import read_text
from subbyte.records.base import Count, Document, Record, Seconds, read_cells, read_document
from subbyte.records.outcome import TOP1

MARK, RESULTS, SUMMARY, CHOSEN, SPACE = (
    "sweep.json",
    "results.csv",
    "summary.csv",
    "chosen.csv",
    "space.yaml",
)
LABEL = "label"
"""The axis that names settings which go together."""
_SCORE = "score"
_CHOSEN_BY, _SEEDS = "chosen_by", "seeds"
_OF_RUNS = ("run", "status", "model", "data", "seed", "split", "images", "error")
_NUMBER = re.compile(r"([-+]?[\d.]+(?:e[-+]?\d+)?)\s*(bits|bytes|KB|kB|MB|bops|)")
_UNITS = {"KB": 1e3, "kB": 1e3, "MB": 1e6}
_DONE = "done"
_CLOSE = 0.5  # points
_ADVICE = "the same `subbyte sweep` command writes it anew"

Cells = dict[str, str]


class Inputs(Record):
    """A network and its data, without folders. identity: what says that they are the same again."""

    model: str
    checkpoint: str | None = None
    data: str
    identity: str


class Mark(Document):
    """Contents of sweep.json. runs: how many there are to be; versions: of the software."""

    VERSION: ClassVar[int] = 1
    WRITER: ClassVar[str] = "subbyte sweep"

    runs: Count = 0
    versions: dict[str, str] = Field(default_factory=dict)
    inputs: list[Inputs] = Field(default_factory=list)


class Swept(Record):
    """A sweep that was done. runs, settings, chosen: rows of results.csv, summary.csv and
    chosen.csv; failed: why runs failed, by their hash.
    """

    name: str
    runs: list[dict[str, object]]
    settings: list[dict[str, object]]
    chosen: list[dict[str, object]]
    failed: dict[str, str]


class Planned(Record):
    """A sweep that is to be done. runs: the setting and the seed of each; left: how many have no
    result yet; seconds: that these take, very roughly.
    """

    name: str
    runs: list[dict[str, object]]
    left: Count
    seconds: Seconds


def place(text: str) -> float | None:
    """The place of a setting's value on an axis of numbers; None when it is no number.

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
class Mean:
    """A mean over seeds. half: of its 95 % confidence interval; None of a single seed."""

    value: float
    half: float | None = None


@dataclass(frozen=True)
class Setting:
    """A row of summary.csv. cells: the setting, by axis; seeds: how many; means: of what was
    measured, by name.

    What a label stands for is not among the axes.
    """

    cells: Cells
    seeds: str
    means: Mapping[str, Mean]

    @property
    def name(self) -> str:
        """The setting in words, such as 'rounding gpfq, bits 3'."""
        return ", ".join(_said(axis, text) for axis, text in self.cells.items()) or "all"

    @property
    def score(self) -> Mean:
        """Top-1 accuracy of the quantized network or another score, percent."""
        top1 = self.means.get("quantized_top1_percent")
        return self.means["quantized_score_percent"] if top1 is None else top1

    @property
    def float_score(self) -> float:
        """The same of the float network, percent."""
        top1 = self.means.get("original_top1_percent")
        return (self.means["original_score_percent"] if top1 is None else top1).value

    @property
    def agreement(self) -> float | None:
        """Agreement with the float network, percent; None where outputs name no classes."""
        found = self.means.get("agreement_percent")
        return None if found is None else found.value

    @property
    def zeros(self) -> Mean:
        """Weights that are 0, percent."""
        return self.means["quantized_sparsity_percent"]

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight, with scales and zero points."""
        return self.means["bits_per_weight"].value

    @property
    def bytes(self) -> float:
        """Bytes of the packed network."""
        return self.means["packed_bytes"].value


_NEEDED = (
    "quantized_sparsity_percent",
    "bits_per_weight",
    "packed_bytes",
)
_SCORES = (
    "original_top1_percent",
    "quantized_top1_percent",
    "agreement_percent",
    "original_score_percent",
    "quantized_score_percent",
)


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
        mark = read_document(folder / MARK, Mark)
        rows = _cells(folder / RESULTS, _OF_RUNS)
        if not rows:
            raise FormatError(f"{folder / RESULTS} has no rows: no run has ended yet")
        settings, axes = _settings(folder / SUMMARY)
        if not settings and any(_is_done(row) for row in rows):
            raise FormatError(
                f"{folder / SUMMARY} is damaged (it has no rows); start the sweep again, and it "
                f"goes on"
            )
        chosen = _settings(folder / CHOSEN)[0] if (folder / CHOSEN).exists() else ()
        return cls(
            name,
            rows[0].get("name") or name,
            axes,
            tuple(rows),
            max(len(rows), mark.runs),
            settings,
            chosen,
            read_text(folder / SPACE) if (folder / SPACE).exists() else "",
            (
                *((f"version of {one}", text) for one, text in mark.versions.items()),
                *((f"fingerprint of {o.model}, {o.data}", o.identity) for o in mark.inputs),
            ),
        )

    @property
    def best(self) -> Setting:
        """The most accurate, the first of equals; some setting must be there."""
        return max(self.settings, key=lambda one: one.score.value)

    @property
    def scored(self) -> str:
        """The name of the score that settings are compared by."""
        return next((row[_SCORE] for row in self.rows if row.get(_SCORE)), TOP1)

    @cached_property
    def float_score(self) -> float | None:
        """Percent, where it is one for all settings, but for the validation images that differ by
        what calibrates.
        """
        found = [one.float_score for one in self.settings]
        return (
            round(sum(found) / len(found), 4)
            if found and max(found) - min(found) < _CLOSE
            else None
        )

    @property
    def failed(self) -> list[Cells]:
        """Rows of runs that failed."""
        return [row for row in self.rows if not _is_done(row)]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of results.csv that say anything."""
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
        """The values of an axis: rising where they are numbers, else as they come."""
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


def _is_done(row: Cells) -> bool:
    return row["status"] == _DONE


def _said(axis: str, text: str) -> str:
    """A value with its axis, such as 'bits 3'; words speak for themselves. Axes of one last part
    are told apart.
    """
    part, _, last = axis.rpartition(".")
    whole = f"{part} {last}" if part not in ("", "weights") else last
    return f"{whole} {text or 'none'}" if not text or place(text) is not None else text


def _settings(path: Path) -> tuple[tuple[Setting, ...], tuple[str, ...]]:
    """Settings and axes; those are the columns before `seeds`."""
    rows = _cells(path, (_SEEDS, *_NEEDED), numbers=_NEEDED, optional=_SCORES)
    header = list(rows[0]) if rows else [_SEEDS]
    axes = _free([name for name in header[: header.index(_SEEDS)] if name != _CHOSEN_BY], rows)
    found = [
        Setting(
            {axis: row[axis] for axis in axes},
            row[_SEEDS],
            {
                name: Mean(float(row[name]), _half(row, name))
                for name in (*_SCORES, *_NEEDED)
                if row.get(name)
            },
        )
        for row in rows
    ]
    return tuple(found), axes


def _half(row: Cells, name: str) -> float | None:
    text = row.get(f"{name}_ci95", "")
    return float(text) if text else None


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


def _cells(
    path: Path, needed: Sequence[str], numbers: Sequence[str] = (), optional: Sequence[str] = ()
) -> list[Cells]:
    """Rows of a CSV file. Raises FormatError when it is missing, damaged, lacks a column, or a
    number is none; there must be one of the `optional` numbers.
    """
    rows = read_cells(path, _ADVICE)
    for k, row in enumerate(rows, 1):
        missing = [name for name in needed if name not in row]
        if missing:
            raise FormatError(f"{path} is damaged (row {k} has no {missing[0]}); {_ADVICE}")
        there = [name for name in optional if row.get(name)]
        if optional and not there:
            raise FormatError(f"{path} is damaged (row {k} has no score); {_ADVICE}")
        numbered = [*numbers, *there]
        columns = [*numbered, *(f"{name}_ci95" for name in numbered if row.get(f"{name}_ci95"))]
        wrong = [name for name in columns if not _is_number(row[name])]
        if wrong:
            raise FormatError(
                f"{path} is damaged (row {k}: {wrong[0]} is {short(row[wrong[0]])}); {_ADVICE}"
            )
    return rows


def _is_number(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False
