"""Tables that fit the terminal: numbers stay whole, texts are folded, names are shortened in the
middle; where there are too many columns, tables follow one another, each with the names.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table as RichTable

Justify = Literal["left", "right"]
_NAME, _TEXT = 24, 20
"""Letters that a name and a line of text have at least, if they are that long."""
_EDGES = 3  # of a column: two spaces and a line


@dataclass
class _Column:
    """header: of several lines, perhaps. Figures are justified to the right, and never folded."""

    header: str
    justify: Justify
    cells: list[str] = field(default_factory=list)

    @property
    def figures(self) -> bool:
        return self.justify == "right"

    @property
    def natural(self) -> int:
        """The width that it would like."""
        return max(map(_width, (self.header, *self.cells)))

    @property
    def least(self) -> int:
        """The width that it needs: of its widest word; of figures, of the widest cell."""
        if not self.figures:
            return min(self.natural, max(_TEXT, _longest_word(self.header)))
        return max(_longest_word(self.header), *map(_width, self.cells), 1)


class Table:
    """A table to print, made as rich's tables are.

    keys: how many columns, from the first, say what a row is of; each table that follows has them.
    The first column has names.
    """

    def __init__(self, title: str | None = None, keys: int = 1) -> None:
        self.title, self.keys = title, keys
        self._columns: list[_Column] = []
        self._sections: set[int] = set()  # numbers of the rows that a line is above
        self._rows = 0

    def add_column(self, header: str, justify: Justify = "left") -> None:
        """Add a column; figures are justified to the right."""
        self._columns.append(_Column(header, justify))

    def add_row(self, *cells: str) -> None:
        """Add a row, a cell a column."""
        for column, text in zip(self._columns, cells, strict=True):
            column.cells.append(text)
        self._rows += 1

    def add_section(self) -> None:
        """Draw a line above the next row."""
        self._sections.add(self._rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RichTable]:
        """One table, or several, that fit."""
        title = self.title
        for columns in self._blocks(options.max_width):
            yield self._table(columns, options.max_width, title)
            title = None

    def _blocks(self, width: int) -> Iterator[list[_Column]]:
        """The columns, as many at a time as fit beside the names."""
        keys, others = self._columns[: self.keys], self._columns[self.keys :]
        room = width - 1 - sum(min(column.natural, _NAME) + _EDGES for column in keys)
        block, left = keys, room
        for column in others:
            if column.least + _EDGES > left and len(block) > len(keys):
                yield block
                block, left = keys, room
            block = [*block, column]
            left -= column.least + _EDGES
        yield block

    def _table(self, columns: Sequence[_Column], width: int, title: str | None) -> RichTable:
        names, *others = columns
        room = width - 1 - _EDGES * len(columns)
        tight = sum(column.natural for column in columns) > room
        needed = sum(column.least if tight else column.natural for column in others)
        most = max(1, room - needed)
        table = RichTable(title=title, title_justify="left")
        table.add_column(names.header, justify=names.justify, no_wrap=True)
        for column in others:
            header = _folded(column.header, column.least) if tight else column.header
            table.add_column(
                header, justify=column.justify, no_wrap=column.figures, overflow="fold"
            )
        shown = [[shortened(name, most) for name in names.cells], *(one.cells for one in others)]
        for row, cells in enumerate(zip(*shown, strict=True)):
            if row in self._sections:
                table.add_section()
            table.add_row(*cells)
        return table


def shortened(text: str, most: int) -> str:
    """A text of at most so many letters, with dots in place of its middle."""
    if cell_len(text) <= most:
        return text
    kept = max(0, most - 1)
    head = kept // 2
    return f"{text[:head]}…{text[len(text) - (kept - head) :]}" if kept else "…"


def _width(text: str) -> int:
    return max(map(cell_len, text.split("\n")), default=0)


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _folded(text: str, width: int) -> str:
    """Lines of at most a width, broken between words."""
    return "\n".join(line for part in text.split("\n") for line in wrap(part, width) or [""])
