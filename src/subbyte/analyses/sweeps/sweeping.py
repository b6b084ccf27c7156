"""A sweep from end to end: runs that are missing are done, what is there stays, tables are
written.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from subbyte.analyses.sweeps.choose import (
    Summary,
    best_setting,
    check_column,
    summaries,
    summary_columns,
    test_runs,
)
from subbyte.analyses.sweeps.space import Run, Space, make_runs
from subbyte.analyses.sweeps.store import (
    CACHE,
    RUNS,
    Results,
    Row,
    Task,
    table_csv,
    task_of,
)
from subbyte.analyses.sweeps.work import load_inputs, measured_split
from subbyte.engine.stages import Report, Stages, silent
from subbyte.io.files import write_text
from subbyte.io.folders import growing
from subbyte.io.versions import installed
from subbyte.jobs import versions
from subbyte.methods import Engine
from subbyte.records.outcome import Done, Failed, Outcome
from subbyte.records.sweep import CHOSEN, MARK, SUMMARY, Inputs, Mark

_TABLES = 20


class Tracker(Protocol):
    """A further place where runs are recorded (`track.MlflowTracker`)."""

    def log(self, task: Task, outcome: Outcome) -> None:
        """Record a run that has ended."""
        ...

    def finish(self, out: Path) -> None:
        """Record the tables of the sweep."""
        ...


@dataclass(frozen=True)
class SweepResult:
    """rows: of results.csv; chosen: the setting of chosen.csv on test images, empty where nothing
    is chosen.
    """

    rows: list[Row]
    chosen: list[Summary]

    @property
    def failures(self) -> list[tuple[str, str]]:
        """The hash of each run that failed, and why it did."""
        return [
            (row.task.key, row.outcome.error)
            for row in self.rows
            if isinstance(row.outcome, Failed)
        ]


def make_tasks(space: Space) -> list[Task]:
    """Runs with their hashes, none twice; networks and data are read for them. Raises SubbyteError
    where they do not
    fit: too few images to measure on, nothing to choose by.
    """
    if space.choose:
        check_column(space.choose)
    tasks = _tasks(make_runs(space))
    distinct = {
        (task.key, repr([task.run.value(axis) for axis in space.axes])): task for task in tasks
    }
    return list(distinct.values())


def _tasks(runs: Sequence[Run]) -> list[Task]:
    """The tasks, grouped by the inputs of their runs; each network and data set is read once, and
    its images are counted then.
    """
    code, by_run, counted = installed("subbyte"), {}, set()
    for run in sorted_by_inputs(runs):
        inputs = load_inputs(*run.inputs)
        if (run.inputs, run.calibration) not in counted:
            measured_split(inputs.data, run)
            counted.add((run.inputs, run.calibration))
        by_run[id(run)] = task_of(run, inputs.identity, code)
    return [by_run[id(run)] for run in runs]


def _inputs(tasks: Sequence[Task]) -> list[Inputs]:
    """Networks and data, without folders, and what says that they are the same again."""
    identities = {task.run.inputs: task.identity for task in tasks}
    return [
        Inputs(
            model=Path(model).name,
            checkpoint=checkpoint and Path(checkpoint).name,
            data=data.partition(":")[0],
            identity=identity,
        )
        for (model, checkpoint, data, *_), identity in identities.items()
    ]


def sorted_by_inputs(runs: Sequence[Run]) -> list[Run]:
    """Runs of equal inputs one after another, so that each input is read once."""
    return sorted(runs, key=lambda run: repr(run.inputs))


def sweep(
    space: Space,
    out: Path,
    make_engine: Callable[[Path], Engine[Task]],
    *,
    retry: bool = False,
    tracker: Tracker | None = None,
    report: Report = silent,
) -> SweepResult:
    """Do the runs of a space that `out` has not yet, and write results.csv, summary.csv and
    chosen.csv. No other process works in `out` meanwhile.

    make_engine: makes an engine, given the folder that runs may share things in. retry: do runs
    that failed again. Raises SubbyteError when space, data or `out` do not fit; what has ended by
    then is kept, as on Ctrl-C.
    """
    with growing(out, [MARK], [RUNS, CACHE]):
        return _swept(space, out, make_engine, retry, tracker, report)


def _swept(
    space: Space,
    out: Path,
    make_engine: Callable[[Path], Engine[Task]],
    retry: bool,
    tracker: Tracker | None,
    report: Report,
) -> SweepResult:
    with Stages(report).stage("read"):
        tasks = make_tasks(space)
    results = Results(out, space.name)
    if space.keep_models:
        tasks = list(map(results.keeping, tasks))
    results.describe(space, Mark(runs=len(tasks), versions=versions(), inputs=_inputs(tasks)))
    doer = _Doer(results, make_engine(out / CACHE), retry, tracker, report)
    due = 0.0

    def tables() -> None:
        nonlocal due
        # at most a part in _TABLES of the time goes into tables
        if (start := time.monotonic()) >= due:
            _write_tables(space, tasks, results)
            due = start + _TABLES * (time.monotonic() - start)

    (out / CHOSEN).unlink(missing_ok=True)  # it may be another space's
    try:
        doer.do(tasks, "sweep", tables)
    finally:
        rows = _write_tables(space, tasks, results)
    done = any(isinstance(row.outcome, Done) for row in rows)
    chosen = _chosen(space, space.choose, rows, doer) if space.choose and done else []
    if tracker is not None:
        tracker.finish(out)
    return SweepResult(rows, chosen)


def _write_tables(space: Space, tasks: Sequence[Task], results: Results) -> list[Row]:
    """Write results.csv, results.parquet and summary.csv of the runs that are there; returns the
    rows of the first.
    """
    rows = results.write_tables(tasks, space.axes)
    cells = [one.cells() for one in summaries(rows)]
    write_text(results.out / SUMMARY, table_csv(cells, summary_columns(space.axes)))
    return rows


@dataclass(frozen=True)
class _Doer:
    """Does tasks that have no result yet, and says so to everybody who wants to know."""

    results: Results
    engine: Engine[Task]
    retry: bool
    tracker: Tracker | None
    report: Report

    def do(
        self, tasks: Sequence[Task], stage: str, after_each: Callable[[], None] = lambda: None
    ) -> None:
        left = {
            task.key: task for task in tasks if not self.results.finished(task, retry=self.retry)
        }
        done = len(tasks) - len(left)
        self.report(stage, done, len(tasks), "")
        ordered = sorted(left.values(), key=lambda task: repr(task.run.inputs))
        for task, outcome in self.engine.outcomes(ordered) if ordered else ():
            self.results.add(task, outcome)
            after_each()
            if self.tracker is not None:
                self.tracker.log(task, outcome)
            done += 1
            said = (
                f"failed: {task.key}"
                if isinstance(outcome, Failed)
                else f"{outcome.headline:.2f} %"
            )
            self.report(stage, done, len(tasks), said)


def _chosen(space: Space, column: str, rows: list[Row], doer: _Doer) -> list[Summary]:
    """Test the setting that is best by a column; returns the row of chosen.csv."""
    setting = best_setting(rows, column)
    tests = _tasks(test_runs(rows, setting))
    doer.do(tests, "test the choice")
    outcomes = [(task, doer.results.read(task)) for task in tests]
    chosen = summaries([Row(task, space.name, setting, found) for task, found in outcomes if found])
    cells = [{"chosen_by": column} | one.cells() for one in chosen]
    write_text(
        doer.results.out / CHOSEN, table_csv(cells, ("chosen_by", *summary_columns(space.axes)))
    )
    return chosen
