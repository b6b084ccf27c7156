"""The results of a sweep on disk: a file a run, written whole when the run ends, and tables made of
them.

    DIR/space.yaml        what was asked, to read
    DIR/sweep.json        with which version of this layout, which software, which networks and data
    DIR/runs/HASH.json    one finished or failed run, under a hash of everything that determines it
    DIR/runs/HASH.safetensors  its packed network, where the space says `keep_models`
    DIR/results.csv       a row a run, in the order of the space; results.parquet the same, with
                          pyarrow
    DIR/chosen.csv        the setting that was chosen, and its test accuracy by seed
    DIR/cache/            what runs share, bounded in size

Whatever kills a sweep, a run's file is there whole or not at all; a changed setting changes the
hashes it touches.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import yaml

from subbyte.analyses.sweeps.space import Measured, Run, Setting, Space
from subbyte.errors import FormatError, SubbyteError
from subbyte.io.files import write_json, write_text, written
from subbyte.io.folders import is_free
from subbyte.records.base import read_document, table_text, write_document
from subbyte.records.outcome import METRICS, Done, Outcome, read_outcome
from subbyte.records.sweep import MARK, RESULTS, SPACE, Mark

RUNS, CACHE = "runs", "cache"
FIRST = ("run", "status", "name", "model", "data", "recipe", "calibration", "seed", "split")


@dataclass(frozen=True)
class Task:
    """A run with its hash. identity: of its network and data; packed: the file that its network is
    kept in, None where it is not.
    """

    key: str
    run: Run
    identity: str
    packed: Path | None = None


def task_of(run: Run, identity: str, version: str) -> Task:
    """Hash everything that determines a run: settings, network, data, code."""
    content = {
        "recipe": run.recipe.model_dump(mode="json") | {"name": ""},
        "calibration": run.calibration,
        "seed": run.seed,
        "split": run.split,
        "task": run.task,
        "validation": run.validation if run.split is Measured.VALIDATION else None,
        "inputs": identity,
        "version": version,
    }
    return Task(
        sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16], run, identity
    )


@dataclass(frozen=True)
class Row:
    """A run that has ended, as results.csv holds it. sweep: the space's name; setting: the values
    of the run by axis.
    """

    task: Task
    sweep: str
    setting: Setting
    outcome: Outcome

    def cells(self) -> dict[str, object]:
        """Values by column."""
        run = self.task.run
        first = (
            self.task.key,
            self.outcome.status,
            self.sweep,
            run.model,
            run.data.partition(":")[0],
            run.recipe.name,
            run.calibration,
            run.seed,
            run.split,
        )
        measured = self.outcome.model_dump(exclude={"status"})
        return dict(zip(FIRST, first, strict=True)) | self.setting | measured


class Results:
    """The folder of a sweep. Raises SubbyteError for a folder of something else, FormatError for
    another version.
    """

    def __init__(self, out: Path, name: str) -> None:
        self.out, self.name = out, name
        self._outcomes: dict[str, Outcome] = {}
        mark = out / MARK
        if mark.exists():
            try:
                read_document(mark, Mark)
            except FormatError as reason:
                raise FormatError(f"{reason}; choose another --out") from reason
        elif not is_free(out):
            raise SubbyteError(f"--out {out} exists and holds no sweep; choose another folder")
        else:
            write_document(mark, Mark())
        (out / RUNS).mkdir(exist_ok=True)
        (out / CACHE).mkdir(exist_ok=True)

    def finished(self, task: Task, *, retry: bool = False) -> bool:
        """Whether the run is there, with its network where that is kept; with `retry` it must not
        have failed.
        """
        found = self.read(task)
        if isinstance(found, Done):
            return task.packed is None or task.packed.exists()
        return found is not None and not retry

    def keeping(self, task: Task) -> Task:
        """The task with the file that its network is kept in."""
        return replace(task, packed=self.out / RUNS / f"{task.key}.safetensors")

    def read(self, task: Task) -> Outcome | None:
        """The stored outcome of a run; None where it has not ended."""
        if task.key in self._outcomes:
            return self._outcomes[task.key]
        path = self.out / RUNS / f"{task.key}.json"
        if not path.exists():
            return None
        found = read_outcome(path)
        self._outcomes[task.key] = found
        return found

    def add(self, task: Task, outcome: Outcome) -> None:
        """Keep what a run gave."""
        write_json(self.out / RUNS / f"{task.key}.json", outcome.model_dump())
        self._outcomes[task.key] = outcome

    def write_tables(self, tasks: Iterable[Task], axes: tuple[str, ...]) -> list[Row]:
        """Write results.csv and results.parquet of the runs that are there; returns the rows."""
        rows = [
            Row(task, self.name, {name: task.run.value(name) for name in axes}, found)
            for task in tasks
            if (found := self.read(task)) is not None
        ]
        cells = [row.cells() for row in rows]
        named = (*FIRST, *(name for name in axes if name not in FIRST))
        columns = (*named, *METRICS, "score", "error")
        write_text(self.out / RESULTS, table_csv(cells, columns))
        _write_parquet(self.out / "results.parquet", cells, columns)
        return rows

    def describe(self, space: Space, mark: Mark) -> None:
        """Keep what was asked, and what it was asked of."""
        content = space.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        write_text(self.out / SPACE, yaml.safe_dump(content, sort_keys=False))
        write_document(self.out / MARK, mark)


def table_csv(rows: Iterable[Mapping[str, object]], columns: Iterable[str]) -> str:
    """Rows as CSV; lists and mappings as JSON, nothing for None."""
    columns = list(columns)
    return table_text(columns, ([_cell(row.get(name)) for name in columns] for row in rows))


def _cell(value: object) -> object:
    return "" if value is None else json.dumps(value) if isinstance(value, list | dict) else value


def _write_parquet(
    path: Path, rows: Sequence[Mapping[str, object]], columns: Iterable[str]
) -> None:
    """Write rows as Parquet; without pyarrow no such file is written."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return
    table = pyarrow.table({name: _column([row.get(name) for row in rows]) for name in columns})
    with written(path) as temporary, temporary.open("wb") as file:  # its names are text
        pyarrow.parquet.write_table(table, file)


def _column(values: list[object]) -> list[object]:
    """Numbers as they are; a column that holds anything else as text."""
    plain = all(
        value is None or (isinstance(value, int | float) and not isinstance(value, bool))
        for value in values
    )
    return values if plain else [None if value is None else str(_cell(value)) for value in values]
