"""Marks beside names, such as those of layers, in their order from the top."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from subbyte.pages.browser import axis, cell, colour, entry, log_axis, said, short, spec, symbol
from subbyte.pages.canvas import COLOURS, MARKERS, canvas, frame, legend, literal, log_x
from subbyte.pages.figure import Figure, Spec
from subbyte.pages.parts import Table

Numbers = Sequence[float | None]
"""None where there is none."""
_ROW, _SMALL_ROW = 21, 15  # pixels
_MANY_ROWS = 40


@dataclass(frozen=True)
class Marks(ABC):
    """A mark in every row.

    notes: shown when one is pointed at; without, its name and number.
    """

    name: str
    values: Numbers
    notes: Sequence[str] = ()

    beside = False
    """Whether marks of several such are drawn side by side, so that none hides another."""

    @property
    def columns(self) -> dict[str, Numbers]:
        """Columns of a table."""
        return {self.name: self.values}

    def sign(self, place: int) -> str:
        """The kind of sign that the legend shows."""
        del place
        return "fill"

    @abstractmethod
    def trace(self, place: int, shift: float, notes: list[str]) -> Spec:
        """The marks for the browser. place: of its colour; shift: down from the middle of a row;
        notes: one a row, escaped.
        """

    @abstractmethod
    def paint(self, axes: Any, place: int, shift: float) -> None:
        """Draw the marks in a picture."""

    def _there(self) -> list[int]:
        """Rows that have a mark."""
        return [k for k, value in enumerate(self.values) if value is not None]


@dataclass(frozen=True)
class Dots(Marks):
    """A dot at each value."""

    beside = True

    def sign(self, place: int) -> str:
        """See `Marks`."""
        return symbol(place)

    def trace(self, place: int, shift: float, notes: list[str]) -> Spec:
        """See `Marks`."""
        return {
            "type": "scatter",
            "mode": "markers",
            "x": short(self.values),
            "y": [k + shift for k in range(len(self.values))],
            "hovertext": notes,
            "cliponaxis": False,
            "marker": {"size": 9, "color": colour(place), "symbol": symbol(place)},
        }

    def paint(self, axes: Any, place: int, shift: float) -> None:
        """See `Marks`."""
        axes.plot(
            [self.values[k] for k in self._there()],
            [k + shift for k in self._there()],
            color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)],
            linestyle="none",
            markersize=5,
            label=literal(self.name),
        )


@dataclass(frozen=True)
class Bars(Marks):
    """A bar from 0 to each value."""

    def trace(self, place: int, shift: float, notes: list[str]) -> Spec:
        """See `Marks`."""
        return {
            "type": "bar",
            "orientation": "h",
            "x": short(self.values),
            "y": list(range(len(self.values))),
            "hovertext": notes,
            "marker": {"color": colour(place, 0.75)},
            "width": 0.7,
        }

    def paint(self, axes: Any, place: int, shift: float) -> None:
        """See `Marks`."""
        looks = {"color": COLOURS[place % len(COLOURS)], "label": literal(self.name)}
        values = [self.values[k] for k in self._there()]
        axes.barh(self._there(), values, height=0.7, alpha=0.75, **looks)


@dataclass(frozen=True)
class Spans(Marks):
    """A span from each value to another; thin: a line that may lie on a broad one."""

    to: Numbers = ()
    thin: bool = False

    @property
    def columns(self) -> dict[str, Numbers]:
        """See `Marks`."""
        return {f"{self.name}, from": self.values, f"{self.name}, to": self.to}

    def sign(self, place: int) -> str:
        """See `Marks`."""
        return "solid" if self.thin else "fill"

    def trace(self, place: int, shift: float, notes: list[str]) -> Spec:
        """See `Marks`."""
        pairs = zip(short(self.values), short(self.to), strict=True)
        looks = colour(place, 1 if self.thin else 0.5)
        return {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [v for low, high in pairs for v in (low, high, None)],
            "y": [v for k in range(len(self.values)) for v in (k, k, None)],
            "hovertext": [v for note in notes for v in (note, note, "")],
            "line": {"color": looks, "width": 2 if self.thin else 9},
            "marker": {"symbol": "line-ns-open", "size": 11 if self.thin else 1, "color": looks},
        }

    def paint(self, axes: Any, place: int, shift: float) -> None:
        """See `Marks`."""
        axes.hlines(
            self._there(),
            [self.values[k] for k in self._there()],
            [self.to[k] for k in self._there()],
            colors=COLOURS[place % len(COLOURS)],
            linewidth=1.6 if self.thin else 6,
            alpha=1 if self.thin else 0.5,
            label=literal(self.name),
        )


@dataclass(frozen=True)
class Rows(Figure):
    """Marks of several kinds in the same rows, those that come later on top."""

    title: str
    about: str
    x_label: str
    names: tuple[str, ...]
    marks: tuple[Marks, ...]
    log_x: bool = False

    @property
    def _columns(self) -> dict[str, Numbers]:
        return {name: column for marks in self.marks for name, column in marks.columns.items()}

    @property
    def _numbers(self) -> list[float]:
        return [v for column in self._columns.values() for v in column if v is not None]

    def _shift(self, place: int) -> float:
        several = sum(marks.beside for marks in self.marks)
        shifted = self.marks[place].beside and several > 1
        return 0.5 * (place / (several - 1) - 0.5) if shifted else 0.0

    def table(self) -> Table:
        """See `parts.Shown`."""
        columns = self._columns
        cells = tuple(
            (name, *(cell(column[k]) for column in columns.values()))
            for k, name in enumerate(self.names)
        )
        return Table(f"{self.title} ({self.x_label})", ("name", *columns), cells)

    def items(self) -> list[Spec]:
        """See `figure.Figure`."""
        count = len(self.names)
        row = _ROW if count <= _MANY_ROWS else _SMALL_ROW
        data: list[Spec] = []
        entries: list[Spec] = []
        for place, marks in enumerate(self.marks):
            pairs = zip(self.names, marks.values, strict=True)
            notes = marks.notes or [f"{name}: {said(value)}" for name, value in pairs]
            entries.append(entry(marks.name, [place], colour(place), marks.sign(place)))
            common: Spec = {"name": escape(marks.name), "hoverinfo": "text"}
            shown = list(map(escape, notes))
            data.append(common | marks.trace(place, self._shift(place), shown))
        x_axis = log_axis(self.x_label, self._numbers) if self.log_x else axis(self.x_label)
        names = {"tickvals": list(range(count)), "ticktext": list(map(escape, self.names))}
        font = {"size": 11 if row == _ROW else 9}
        y_axis = axis("", **names, range=[count - 0.4, -0.6], tickfont=font)
        return [spec(data, entries, x_axis, y_axis, 92 + row * count, barmode="overlay")]

    def draw(self) -> Any:
        """See `figure.Figure`."""
        count = len(self.names)
        figure, axes = canvas(8, max(5.0, 1.2 + 0.24 * count))
        for place, marks in enumerate(self.marks):
            marks.paint(axes, place, self._shift(place))
        frame(axes, self.title, self.x_label)
        axes.set_yticks(range(count), list(map(literal, self.names)), fontsize=8)
        axes.set_ylim(count - 0.4, -0.6)
        if self.log_x:
            log_x(axes, self._numbers)
        if len(self.marks) > 1:
            legend(axes)
        return figure
