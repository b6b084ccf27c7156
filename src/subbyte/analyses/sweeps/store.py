"""The results of a sweep on disk: a file a run, written whole when the run ends, and tables made of
them.

    DIR/space.yaml        what was asked, to read
    DIR/sweep.json        with which version of this layout, which software, which networks and data
    DIR/runs/HASH.json    one finished or failed run, under a hash of everything that determines it
    DIR/results.csv       a row a run, in the order of the space; results.parquet the same, with
                          pyarrow
    DIR/chosen.csv        the setting that was chosen, and its test accuracy by seed
    DIR/cache/            what runs share, bounded in size

Whatever kills a sweep, a run's file is there whole or not at all; a changed setting changes the
hashes it touches.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from subbyte.analyses.sweeps.space import Run, Space
from subbyte.errors import FormatError, SubbyteError
from subbyte.io.files import write_json, write_text, written
from subbyte.records.base import read_document, table_text, write_document
from subbyte.records.sweep import MARK, METRICS, RESULTS, SPACE, Mark, checked_outcome, read_outcome

FIRST = ("run", "status", "name", "model", "data", "recipe", "calibration", "seed", "split")


@dataclass(frozen=True)
class Task:
    """A run with its hash. identity: of its network and data."""

    key: str
    run: Run
    identity: str


def task_of(run: Run, identity: str, version: str) -> Task:
    """Hash everything that determines a run: settings, network, data, code."""
    content = {
        "recipe": run.recipe.model_dump(mode="json") | {"name": ""},
        "calibration": run.calibration,
        "seed": run.seed,
        "split": run.split,
        "validation": run.validation if run.split == "validation" else None,
        "inputs": identity,
        "version": version,
    }
    return Task(
        sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16], run, identity
    )


class Results:
    """The folder of a sweep. Raises SubbyteError for a folder of something else, FormatError for
    another version.
    """

    def __init__(self, out: Path, name: str) -> None:
        self.out, self.name = out, name
        self._rows: dict[str, dict[str, Any]] = {}
        mark = out / MARK
        if mark.exists():
            try:
                read_document(mark, Mark)
            except FormatError as reason:
                raise FormatError(f"{reason}; choose another --out") from reason
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise SubbyteError(f"--out {out} exists and holds no sweep; choose another folder")
        else:
            write_document(mark, Mark())
        (out / "runs").mkdir(exist_ok=True)
        (out / "cache").mkdir(exist_ok=True)

    def finished(self, task: Task, *, retry: bool = False) -> bool:
        """Whether the run is there; with `retry` it must not have failed."""
        row = self.read(task)
        return row is not None and (row["status"] == "done" or not retry)

    def read(self, task: Task) -> dict[str, Any] | None:
        """The stored outcome of a run: metrics with `status` 'done', or 'failed' with `error`; or
        None.
        """
        if task.key in self._rows:
            return self._rows[task.key]
        path = self.out / "runs" / f"{task.key}.json"
        if not path.exists():
            return None
        row = read_outcome(path).model_dump()
        self._rows[task.key] = row
        return row

    def add(self, task: Task, row: dict[str, Any]) -> None:
        """Keep what a run gave."""
        found = checked_outcome(row).model_dump()
        write_json(self.out / "runs" / f"{task.key}.json", found)
        self._rows[task.key] = found

    def write_tables(self, tasks: Iterable[Task], axes: tuple[str, ...]) -> list[dict[str, Any]]:
        """Write results.csv and results.parquet of the runs that are there; returns the rows."""
        rows = [
            self._row(task, axes, found) for task in tasks if (found := self.read(task)) is not None
        ]
        columns = (*FIRST, *(name for name in axes if name not in FIRST), *METRICS, "error")
        write_text(self.out / RESULTS, table_csv(rows, columns))
        _write_parquet(self.out / "results.parquet", rows, columns)
        return rows

    def _row(self, task: Task, axes: tuple[str, ...], found: dict[str, Any]) -> dict[str, Any]:
        run = task.run
        first = (
            task.key,
            found["status"],
            self.name,
            run.model,
            run.data.partition(":")[0],
            run.recipe.name,
            run.calibration,
            run.seed,
            run.split,
        )
        row = dict(zip(FIRST, first, strict=True))
        settings = {name: run.value(name) for name in axes}
        return row | settings | {k: found.get(k) for k in (*METRICS, "error")}

    def describe(self, space: Space, about: dict[str, Any]) -> None:
        """Keep what was asked, and what it was asked of."""
        content = space.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        write_text(self.out / SPACE, yaml.safe_dump(content, sort_keys=False))
        write_document(self.out / MARK, Mark.model_validate(about))


def table_csv(rows: Iterable[dict[str, Any]], columns: Iterable[str]) -> str:
    """Rows as CSV; lists and mappings as JSON, nothing for None."""
    columns = list(columns)
    return table_text(columns, ([_cell(row.get(name)) for name in columns] for row in rows))


def _cell(value: Any) -> Any:
    return "" if value is None else json.dumps(value) if isinstance(value, list | dict) else value


def _write_parquet(path: Path, rows: list[dict[str, Any]], columns: Iterable[str]) -> None:
    """Write rows as Parquet; without pyarrow no such file is written."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return
    table = pyarrow.table({name: _column([row.get(name) for row in rows]) for name in columns})
    with written(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def _column(values: list[Any]) -> list[Any]:
    """Numbers as they are; a column that holds anything else as text."""
    plain = all(
        value is None or (isinstance(value, int | float) and not isinstance(value, bool))
        for value in values
    )
    return values if plain else [None if value is None else str(_cell(value)) for value in values]
