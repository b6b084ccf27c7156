"""A sweep from end to end: runs that are missing are done, what is there stays, tables are written."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from subbyte.files import write_text
from subbyte.pipeline import versions
from subbyte.sweep.choose import best_setting, summaries, summary_columns, test_runs
from subbyte.sweep.engines import Engine
from subbyte.sweep.space import Run, Space, make_runs
from subbyte.sweep.store import Results, Task, table_csv, task_of
from subbyte.sweep.work import load_inputs

Report = Callable[[str, int, int, str], None]
_TABLES = 20


class Tracker(Protocol):
    """Where runs are recorded besides (`track.MlflowTracker`)."""

    def log(self, task: Task, outcome: dict[str, Any]) -> None:
        """Record a run that has ended."""
        ...

    def finish(self, out: Path) -> None:
        """Record the tables of the sweep."""
        ...


@dataclass(frozen=True)
class SweepResult:
    """rows: of results.csv; failed: how many of them did; chosen: rows of chosen.csv, empty where nothing is chosen."""

    rows: list[dict[str, Any]]
    failed: int
    chosen: list[dict[str, Any]]


def make_tasks(space: Space) -> list[Task]:
    """Runs with their hashes; networks and data are read for them. Raises SubbyteError where they do not fit."""
    return _tasks(make_runs(space))


def _tasks(runs: Sequence[Run]) -> list[Task]:
    code = version("subbyte")
    tasks = [task_of(run, load_inputs(*run.inputs).identity, code) for run in sorted_by_inputs(runs)]
    by_run = {id(task.run): task for task in tasks}
    return [by_run[id(run)] for run in runs]


def _inputs(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Networks and data, and what says that they are the same again."""
    identities = {task.run.inputs: task.identity for task in tasks}
    return [
        {"model": inputs[0], "checkpoint": inputs[1], "data": inputs[2], "identity": identity}
        for inputs, identity in identities.items()
    ]


def sorted_by_inputs(runs: Sequence[Run]) -> list[Run]:
    """Runs of equal inputs one after another, so that each input is read once."""
    return sorted(runs, key=lambda run: repr(run.inputs))


def sweep(
    space: Space,
    out: Path,
    make_engine: Callable[[Path], Engine],
    *,
    retry: bool = False,
    tracker: Tracker | None = None,
    report: Report | None = None,
) -> SweepResult:
    """Do the runs of a space that `out` has not yet, and write results.csv, summary.csv and chosen.csv.

    make_engine: makes an engine, given the folder that runs may share things in. retry: do runs that failed again.
    Raises SubbyteError when space, data or `out` do not fit; what has ended by then is kept, as on Ctrl-C.
    """
    tasks = make_tasks(space)
    results = Results(out, space.name)
    results.describe(space, {"versions": versions(), "inputs": _inputs(tasks)})
    engine = make_engine(out / "cache")
    _do(tasks, results, engine, retry=retry, tracker=tracker, report=report, axes=space.axes)
    rows = results.write_tables(tasks, space.axes)
    write_text(out / "summary.csv", table_csv(summaries(rows, space.axes), summary_columns(space.axes)))
    chosen = _chosen(space, tasks, rows, results, engine, retry, report) if space.choose else []
    results.trim_cache()
    if tracker is not None:
        tracker.finish(out)
    return SweepResult(rows, sum(row["status"] == "failed" for row in rows), chosen)


def _do(
    tasks: Sequence[Task], results: Results, engine: Engine, *, retry: bool, tracker: Tracker | None,
    report: Report | None, axes: tuple[str, ...],
) -> None:  # fmt: skip
    left = list({task.key: task for task in tasks if not results.finished(task, retry=retry)}.values())
    done = len(tasks) - len(left)
    due = 0.0
    try:
        for task, outcome in engine.outcomes(sorted(left, key=lambda task: repr(task.run.inputs))) if left else ():
            results.add(task, outcome)
            if (start := time.monotonic()) >= due:  # at most a part in _TABLES of the time goes into tables
                results.write_tables(tasks, axes)
                due = start + _TABLES * (time.monotonic() - start)
            if tracker is not None:
                tracker.log(task, outcome)
            done += 1
            if report is not None:
                top = outcome.get("quantized_top1_percent")
                report("sweep", done, len(tasks), f"failed: {task.key}" if top is None else f"{top:.2f} %")
    except BaseException:
        results.write_tables(tasks, axes)
        raise


def _chosen(
    space: Space, tasks: Sequence[Task], rows: list[dict[str, Any]], results: Results, engine: Engine, retry: bool,
    report: Report | None,
) -> list[dict[str, Any]]:  # fmt: skip
    assert space.choose is not None
    setting = best_setting(rows, space.axes, space.choose)
    tests = _tasks(test_runs([task.run for task in tasks], rows, setting))
    left = [task for task in tests if not results.finished(task, retry=retry)]
    for number, (task, outcome) in enumerate(engine.outcomes(left) if left else (), 1):
        results.add(task, outcome)
        if report is not None:
            report("test the choice", number, len(left), "")
    found = [{"status": "done"} | (results.read(task) or {}) | dict(setting) for task in tests]
    columns = ("chosen_by", *summary_columns(space.axes))
    chosen = [{"chosen_by": space.choose} | row for row in summaries(found, space.axes)]
    write_text(results.out / "chosen.csv", table_csv(chosen, columns))
    return chosen
