"""A CSV file that grows row by row and is whole at any moment."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from subbyte.errors import FormatError
from subbyte.io.files import write_text
from subbyte.records.base import cell, table_text
from subbyte.records.clips import read_table


class GrowingTable:
    """Rows of a CSV file that is whole at any moment; the first `key` columns say which row is
    which.

    Raises FormatError when the file that is there is damaged.
    """

    def __init__(self, path: Path, columns: Sequence[str], key: int) -> None:
        self._path, self._columns, self._key = path, tuple(columns), key
        self.rows: list[dict[str, str]] = []
        if path.exists():
            self.rows = read_table(path)
            if tuple(self.rows[0]) != self._columns:
                raise FormatError(
                    f"{path} is damaged: its columns are not {', '.join(columns)}; delete it"
                )

    def has(self, *key: object) -> bool:
        """Whether the row is there."""
        return self.find(*key) is not None

    def find(self, *key: object) -> dict[str, str] | None:
        """The row, as text."""
        wanted, names = [str(cell(part)) for part in key], self._columns[: self._key]
        return next((row for row in self.rows if [row[name] for name in names] == wanted), None)

    def add(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Append rows; the file is replaced by one that has them."""
        self.rows += [{name: str(cell(row[name])) for name in self._columns} for row in rows]
        cells = ([row[name] for name in self._columns] for row in self.rows)
        write_text(self._path, table_text(self._columns, cells))
