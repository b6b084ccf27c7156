"""A sweep from end to end: stopped, killed, changed, on a full disk."""

import errno
import random
import shutil
import time

import pytest

from subbyte.analyses.sweeps import Local, sweep
from subbyte.errors import FormatError, SubbyteError
from subbyte.records.outcome import Failed
from tests.analyses.sweeps.place import (
    Fake,
    command,
    metrics,
    space_of,
    table,
    without_seconds,
    write_space,
)


class Log:
    """A tracker that remembers."""

    def __init__(self):
        self.logged, self.finished = [], []

    def log(self, task, outcome):
        self.logged.append((task.key, outcome.status))

    def finish(self, out):
        self.finished.append(out)


def test_tables_trackers_and_reports(folder, tmp_path):
    tracker, reports = Log(), []
    result = sweep(
        space_of(folder),
        tmp_path / "out",
        Fake(),
        tracker=tracker,
        report=lambda *what: reports.append(what),
    )
    assert result.failures == [] and result.chosen == [] and len(result.rows) == 6
    assert [row.task.key for row in result.rows] == [key for key, _ in tracker.logged]
    assert tracker.finished == [tmp_path / "out"]
    told = [(stage, done, total) for stage, done, total, _ in reports]
    assert told[:2] == [("read", 0, 0), ("read", 1, 1)]
    assert told[2:] == [("sweep", n, 6) for n in range(7)]
    summary = table(tmp_path / "out/summary.csv")
    assert [(row["weights.bits"], row["seeds"]) for row in summary] == [
        ("2", "2"),
        ("3", "2"),
        ("4", "2"),
    ]


def test_runs_of_equal_inputs_come_together_and_rows_in_the_order_of_the_space(folder, tmp_path):
    engine = Fake()
    models = [f"{folder}/net.py:{name}" for name in ("net", "other")]
    result = sweep(
        space_of(folder, grid={"weights.bits": [2, 3], "model": models}), tmp_path / "out", engine
    )
    asked = [task.run.model for task in engine.asked]
    assert asked == [models[0]] * 4 + [models[1]] * 4
    assert [row.task.run.model for row in result.rows] == [models[0]] * 2 + [models[1]] * 2 + [
        models[0]
    ] * 2 + [models[1]] * 2


def test_equal_runs_are_done_once(folder, tmp_path):
    engine = Fake()
    twice = [{"weights.bits": 3}, {}]  # the recipe's bits are 3
    result = sweep(
        space_of(folder, recipe="w3", grid={"weights.bits": [3, 3]}, list=twice),
        tmp_path / "out",
        engine,
    )
    assert len(engine.asked) == len(result.rows) == 2
    assert [row["seeds"] for row in table(tmp_path / "out/summary.csv")] == ["2"]


def test_a_setting_left_open_is_as_the_recipe_has_it(folder, tmp_path):
    """And not what `null` says, which is float."""
    engine = Fake(lambda run: metrics(90.0 if run.recipe.weights.bits is None else 50.0))
    space = space_of(
        folder, recipe="ternary", grid={}, list=[{"weights.bits": None}, {}, {"weights.bits": 8}]
    )
    sweep(space, tmp_path / "out", engine)
    summary = [
        (row["weights.bits"], row["quantized_top1_percent"], row["seeds"])
        for row in table(tmp_path / "out/summary.csv")
    ]
    assert summary == [("", "90.0", "2"), ("ternary", "50.0", "2"), ("8", "50.0", "2")]


def test_a_choice_of_another_space_is_forgotten(folder, tmp_path):
    sweep(space_of(folder, choose="quantized_top1_percent"), tmp_path / "out", Fake())
    assert (tmp_path / "out/chosen.csv").exists()
    sweep(space_of(folder, measure="test"), tmp_path / "out", Fake())
    assert not (tmp_path / "out/chosen.csv").exists()


def test_tables_agree_when_a_sweep_is_stopped(folder, tmp_path):
    def stops(run):
        if run.calibration == 17 and run.seed == 1:
            raise KeyboardInterrupt
        return metrics()

    sweep(space_of(folder), tmp_path / "out", Fake(stops))
    with pytest.raises(KeyboardInterrupt):
        sweep(space_of(folder, calibration=17), tmp_path / "out", Fake(stops))
    assert [row["seeds"] for row in table(tmp_path / "out/summary.csv")] == ["1"]
    assert len(table(tmp_path / "out/results.csv")) == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"validation": 79}, "79"),
        ({"calibration": 81}, "81"),
        ({"choose": "top1"}, "no column 'top1'"),
    ],
)
def test_what_can_not_be_measured_is_said_before_anything_is_done(folder, tmp_path, changes, why):
    engine = Fake()
    with pytest.raises(SubbyteError, match=why):
        sweep(space_of(folder, **changes), tmp_path / "out", engine)
    assert not engine.asked and not (tmp_path / "out").exists()


def test_nothing_is_chosen_where_every_run_fails(folder, tmp_path):
    engine = Fake(lambda _: Failed(error="why"))
    result = sweep(space_of(folder, choose="agreement_percent"), tmp_path / "out", engine)
    assert len(result.failures) == 6 and result.chosen == []


def count(space, out, **options):
    engine = Fake(options.pop("outcome", lambda _: metrics()))
    sweep(space, out, engine, **options)
    return [(task.run.recipe.weights.bits, task.run.seed) for task in engine.asked]


def test_a_changed_setting_does_again_what_it_touches(folder, tmp_path):
    out = tmp_path / "out"
    assert len(count(space_of(folder), out)) == 6
    assert count(space_of(folder), out) == []
    assert count(space_of(folder, grid={"weights.bits": [2, 3, 4, 5]}), out) == [(5, 0), (5, 1)]
    assert count(space_of(folder, seeds=[1, 2]), out) == [(2, 2), (3, 2), (4, 2)]
    assert count(
        space_of(folder, **{"list": [{"weights.bits": 3, "weights.scalar": 1.5}]}), out
    ) == [(3, 0), (3, 1)]
    assert len(count(space_of(folder, calibration=17), out)) == 6
    assert count(space_of(folder, name="other", choose=None), out) == []
    assert len(table(out / "results.csv")) == 6


def test_a_changed_network_or_data_file_does_all_again(folder, tmp_path):
    here = tmp_path / "here"
    shutil.copytree(folder, here)
    out = tmp_path / "out"
    assert len(count(space_of(here), out)) == 6
    assert count(space_of(folder), out) == []  # the same content elsewhere
    from subbyte.analyses.sweeps.work import load_inputs

    (here / "net.py").write_text(
        (here / "net.py").read_text().replace("nn.ReLU()", "nn.Hardtanh()")
    )
    load_inputs.cache_clear()
    assert len(count(space_of(here), out)) == 6
    shutil.copy(folder / "other.npz", here / "data.npz")
    load_inputs.cache_clear()
    assert len(count(space_of(here), out)) == 6


def test_retry(folder, tmp_path):
    def failing(run):
        return Failed(error="why") if run.recipe.weights.bits == 3 else metrics()

    out = tmp_path / "out"
    assert len(count(space_of(folder), out, outcome=failing)) == 6
    assert count(space_of(folder), out) == []
    assert count(space_of(folder), out, retry=True) == [(3, 0), (3, 1)]
    assert {row["status"] for row in table(out / "results.csv")} == {"done"}
    assert count(space_of(folder), out, retry=True) == []


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, OSError(errno.ENOSPC, "full"), SubbyteError("why")]
)
def test_what_had_ended_is_kept(error, folder, tmp_path):
    def stops(run):
        if (run.recipe.weights.bits, run.seed) == (4, 0):
            raise error
        return metrics(run.recipe.weights.bits)

    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        count(space_of(folder), tmp_path / "out", outcome=stops)
    assert [row["weights.bits"] for row in table(tmp_path / "out/results.csv")] == [
        "2",
        "2",
        "3",
        "3",
    ]
    assert count(space_of(folder), tmp_path / "out") == [(4, 0), (4, 1)]


def test_tables_cost_little_however_many_runs(folder, tmp_path, monkeypatch):
    from subbyte.analyses.sweeps.store import Results

    written, write = [], Results.write_tables
    monkeypatch.setattr(
        Results,
        "write_tables",
        lambda *what: (time.sleep(0.05), written.append(1), write(*what))[2],
    )
    sweep(space_of(folder, seeds=list(range(20))), tmp_path / "out", Fake())
    assert len(written) < 10 and len(table(tmp_path / "out/results.csv")) == 60


def test_damaged_and_foreign_folders(folder, tmp_path):
    out = tmp_path / "out"
    count(space_of(folder), out)
    damaged = sorted((out / "runs").iterdir())[0]
    damaged.write_text(damaged.read_text()[:30])
    with pytest.raises(FormatError, match=f"{damaged.name} is damaged"):
        count(space_of(folder), out)
    damaged.unlink()
    assert len(count(space_of(folder), out)) == 1
    with pytest.raises(SubbyteError, match="holds no sweep"):
        count(space_of(folder), folder)


def killed_and_gone_on(space, out, kills, runs, chance):
    """Start a sweep, kill it after a number of runs and some part of the next; in the end let it
    finish.
    """
    for kill in range(kills):
        process = command("sweep", space, "--out", out)
        wanted = 1 + runs * (kill + 1) // (kills + 2)
        while len(list(out.glob("runs/*.json"))) < wanted:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        time.sleep(chance.random() * 0.3)
        process.kill()
        process.communicate()
    left = runs - len(list(out.glob("runs/*.json")))
    process = command("sweep", space, "--out", out)
    _, text = process.communicate()
    assert process.returncode == 0, text
    return left


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 22])
def test_killed_three_times_and_gone_on(seeds, folder, tmp_path):
    runs = 3 * seeds
    path = write_space(
        folder,
        tmp_path / "space.yaml",
        name="killed",
        seeds=list(range(seeds)),
        choose="agreement_percent",
    )
    left = killed_and_gone_on(path, tmp_path / "killed", 3, runs, random.Random(seeds))
    assert left < runs
    space = space_of(folder, name="killed", seeds=list(range(seeds)), choose="agreement_percent")
    sweep(space, tmp_path / "whole", lambda cache: Local(1, cache))
    for name in ("results.csv", "summary.csv", "chosen.csv"):
        assert without_seconds(tmp_path / "killed" / name) == without_seconds(
            tmp_path / "whole" / name
        )
    assert len(table(tmp_path / "killed/results.csv")) == runs


def test_the_chosen_setting_is_tested_and_tracked_besides(folder, tmp_path):
    tracker, reports = Log(), []
    engine = Fake(lambda run: metrics(10.0 * run.recipe.weights.bits))
    space = space_of(folder, choose="quantized_top1_percent")
    result = sweep(
        space, tmp_path / "out", engine, tracker=tracker, report=lambda *what: reports.append(what)
    )
    assert [one.setting["weights.bits"] for one in result.chosen] == [4]
    tests = [task.key for task in engine.asked if task.run.split == "test"]
    assert len(tests) == 2 and [key for key, _ in tracker.logged][-2:] == tests
    assert [what[:3] for what in reports[-2:]] == [
        ("test the choice", 1, 2),
        ("test the choice", 2, 2),
    ]
