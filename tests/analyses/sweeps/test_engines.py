"""Where runs are done: in this process, in workers, and what is left when they fail or die."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from subbyte.analyses.sweeps import Local, make_tasks, sweep
from subbyte.analyses.sweeps.engines import DIED
from subbyte.errors import RecipeError
from subbyte.records.outcome import Failed
from tests.analyses.sweeps.place import (
    ROOT,
    metrics,
    space_of,
    table,
    without_seconds,
    without_times,
)


def outcomes(jobs, space, cache):
    found = {}
    for task, outcome in Local(jobs, cache).outcomes(make_tasks(space)):
        assert task.key not in found
        found[task.key] = without_times(outcome)
    return found


def nets(folder, *names):
    return [f"{folder}/net.py:{name}" for name in names]


@pytest.mark.slow
def test_workers_give_the_same_rows_and_a_run_that_fails_is_alone(folder, tmp_path):
    axes = {"model": nets(folder, "broken", "net"), "weights.bits": [2, 3]}
    space = space_of(folder, grid=axes, seeds=[0], choose="quantized_top1_percent")
    results = [
        sweep(space, tmp_path / str(jobs), lambda cache, jobs=jobs: Local(jobs, cache))
        for jobs in (1, 2)
    ]
    assert [len(result.failures) for result in results] == [2, 2]
    for name in ("results.csv", "summary.csv", "chosen.csv"):
        assert without_seconds(tmp_path / "1" / name) == without_seconds(tmp_path / "2" / name)
    rows = table(tmp_path / "2/results.csv")
    assert [(row["status"], bool(row["error"])) for row in rows] == [("failed", True)] * 2 + [
        ("done", False)
    ] * 2
    assert not multiprocessing.active_children()


def test_what_a_run_raises_is_its_outcome(folder, tmp_path, monkeypatch):
    def odd(run, *_):
        if run.recipe.weights.bits == 3:
            raise ZeroDivisionError("by zero")
        return metrics()

    monkeypatch.setattr("subbyte.analyses.sweeps.engines.execute", odd)
    tasks = make_tasks(space_of(folder, seeds=[0]))
    found = [outcome for _, outcome in Local(1, tmp_path).outcomes(tasks)]
    assert found == [metrics(), Failed(error="ZeroDivisionError: by zero"), metrics()]


def test_jobs(tmp_path):
    with pytest.raises(RecipeError, match="jobs must be a whole number, at least 1, got 0"):
        Local(0, tmp_path)


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_run_alone(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_PARENT", str(os.getpid()))
    axes = {"model": nets(folder, "net", "deadly", "other"), "weights.bits": [2, 3]}
    space = space_of(
        folder,
        grid=axes,
        seeds=[0],
        **{"except": [{"model": nets(folder, "deadly"), "weights.bits": 3}]},
    )
    tasks = make_tasks(space)
    found = outcomes(2, space, tmp_path)
    alone = outcomes(
        1,
        space_of(folder, grid=axes | {"model": nets(folder, "net", "other")}, seeds=[0]),
        tmp_path,
    )
    (dead,) = [task.key for task in tasks if task.run.model.endswith("deadly")]
    assert len(found) == len(tasks) == 5
    assert found == alone | {dead: Failed(error=DIED).model_dump()}


def driver(folder, out, jobs):
    """A process that does a sweep of many runs with workers, in a group of its own."""
    code = f"""
from pathlib import Path
from subbyte.analyses.sweeps import Local, sweep
from tests.analyses.sweeps.place import space_of
if __name__ == "__main__":
    space = space_of(Path({str(folder)!r}), seeds=list(range(500)))
    sweep(space, Path({str(out)!r}), lambda cache: Local({jobs}, cache))
"""
    path = out.with_suffix(".py")
    path.write_text(code)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    return subprocess.Popen(
        [sys.executable, path],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def group(pid):
    """Living processes of a group; zombies are none."""
    listed = subprocess.run(
        ["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    return [
        line
        for line in listed.splitlines()
        if line.split()[0] == str(pid) and not line.split()[1].startswith("Z")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_do_not_outlive_the_sweep(how, folder, tmp_path):
    process = driver(folder, tmp_path / "out", 2)
    wait_for(lambda: len(list(tmp_path.glob("out/runs/*.json"))) >= 2)
    (os.kill if how == signal.SIGKILL else os.killpg)(process.pid, how)
    _, text = process.communicate(timeout=60)
    wait_for(lambda: not group(process.pid), 30)
    if how == signal.SIGINT:
        assert (
            len(table(tmp_path / "out/results.csv"))
            == len(list(tmp_path.glob("out/runs/*.json")))
            >= 2
        )
        assert "SpawnProcess" not in text and text.count("Traceback") == 1
