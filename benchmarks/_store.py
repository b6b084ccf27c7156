"""What the long benchmarks share: a CSV file that is whole at any moment, the time left, fewer
images for trying.
"""

import csv
import time
from dataclasses import replace
from pathlib import Path

from subbyte.data import DataSet

Row = dict[str, object]


class Store:
    """Rows in a CSV file, each written at once; runs whose row is there need not be done again.

    key: the columns that say which run a row is of. Values are compared as the file has them, as
        text.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], key: tuple[str, ...]) -> None:
        self.path, self.columns, self.key = path, columns, key
        self.rows: list[dict[str, str]] = []
        if path.exists():
            with path.open(newline="") as file:
                reader = csv.DictReader(file)
                self.rows = list(reader)
            if tuple(reader.fieldnames or ()) != columns:
                raise SystemExit(
                    f"{path} has other columns than this benchmark writes; choose another --out"
                )

    def find(self, run: Row) -> dict[str, str] | None:
        """The row of a run, or None; of `run` only the key counts."""
        wanted = [str(run[name]) for name in self.key]
        return next((row for row in self.rows if [row[name] for name in self.key] == wanted), None)

    def add(self, row: Row) -> None:
        """Append a row: the file is written anew beside the old one and takes its place."""
        self.rows.append({name: str(row[name]) for name in self.columns})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_name(f".{self.path.name}.partial")
        with fresh.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        fresh.replace(self.path)


class Progress:
    """One line a run, with the time left: a run of a kind seen before takes as long as that one,
    others the mean.

    kinds: of all runs to come, in order; what makes runs take equally long, such as the method's
        name.
    """

    def __init__(self, kinds: list[str]) -> None:
        self._left, self._total = list(kinds), len(kinds)
        self._seconds: dict[str, list[float]] = {}
        self._start = time.perf_counter()

    def done(self, what: str) -> None:
        """The next run is over."""
        now = time.perf_counter()
        self._seconds.setdefault(self._left.pop(0), []).append(now - self._start)
        self._start = now
        print(
            f"[{self._total - len(self._left)}/{self._total}] {what}; {_span(self._estimate())} "
            f"left",
            flush=True,
        )

    def _estimate(self) -> float:
        everything = [value for values in self._seconds.values() for value in values]
        known = {kind: sum(values) / len(values) for kind, values in self._seconds.items()}
        mean = sum(everything) / len(everything)
        return sum(known.get(kind, mean) for kind in self._left)


def limited(data: DataSet, images: int | None) -> DataSet:
    """With the first so many test images only, and a name that says so; None: all of them."""
    if images is None:
        return data
    return replace(
        data,
        name=f"{data.name}[:{images}]",
        test=data.test.take(range(min(images, len(data.test)))),
    )


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
