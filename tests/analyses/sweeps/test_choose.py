"""Means, intervals, and the setting that is best."""

import numpy as np
import pytest
from scipy import stats

from subbyte.analyses.sweeps import sweep
from subbyte.analyses.sweeps.choose import (
    OverSeeds,
    best_setting,
    check_column,
    interval,
    summaries,
    summary_columns,
)
from subbyte.analyses.sweeps.store import Row
from subbyte.errors import RecipeError
from subbyte.records.outcome import Failed
from tests.analyses.sweeps.place import Fake, metrics, space_of, table


def rows(*values, column="agreement_percent"):
    """A row each for (setting, value)."""
    return [row(setting, metrics(**{column: value})) for setting, value in values]


def row(setting, outcome):
    return Row(None, "mine", {"a": setting}, outcome)


@pytest.mark.parametrize("values", [[1.0, 2.0], [3.5, 3.7, 3.1], [5.0, 5.0, 5.0], list(range(20))])
def test_interval_is_that_of_scipy(values):
    error = stats.sem(values)
    low, high = (
        (5.0, 5.0)
        if error == 0
        else stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
    )
    assert interval(values) == pytest.approx((high - low) / 2, abs=1e-12)


def test_interval_in_closed_form():
    assert interval([1.0, 3.0]) == pytest.approx(12.706204736)  # t(0.975, 1) sqrt(2) / sqrt(2)
    assert interval([4.0]) is None


def test_summaries():
    found = summaries(
        [
            *rows(("x", 1.0), ("y", 10.0), ("x", 2.0), ("x", 6.0)),
            row("y", Failed(error="why")),
        ]
    )
    assert [(one.setting["a"], one.seeds) for one in found] == [("x", 3), ("y", 1)]
    first, second = (one.metrics["agreement_percent"] for one in found)
    assert first.mean == 3 and second == OverSeeds(10.0, None, None)
    assert first.deviation == pytest.approx(np.std([1, 2, 6], ddof=1), abs=1e-6)
    assert first.half == pytest.approx(stats.t.ppf(0.975, 2) * 7**0.5 / 3**0.5, abs=1e-6)
    assert set(found[0].cells()) == set(summary_columns(("a",)))


def test_settings_may_be_lists_and_mappings():
    found = summaries(rows(([1, 2], 1.0), ({"n": 1}, 2.0), ([1, 2], 3.0)))
    assert [(one.setting["a"], one.seeds) for one in found] == [([1, 2], 2), ({"n": 1}, 1)]


def test_best_is_by_the_mean():
    assert best_setting(
        rows(("x", 0.0), ("y", 5.0), ("x", 9.0), ("y", 5.0)), "agreement_percent"
    ) == {"a": "y"}


def test_the_first_of_equals():
    three = rows(("x", 1.0), ("y", 5.0), ("z", 5.0))
    assert best_setting(three, "quantized_top1_percent") == {"a": "x"}
    assert best_setting(three, "agreement_percent") == {"a": "y"}


@pytest.mark.parametrize("column", ["bits_per_weight", "packed_bytes"])
def test_smaller_is_better(column):
    assert best_setting(rows(("x", 3.0), ("y", 2.0), ("z", 4.0), column=column), column) == {
        "a": "y"
    }


def test_nothing_to_choose():
    with pytest.raises(RecipeError, match="no column 'images'"):
        check_column("images")
    check_column("agreement_percent")


def by_bits(run):
    """Best at 3 bits on validation images, at 4 bits on test images; 2 bits fail with the second
    seed.
    """
    bits = run.recipe.weights.bits
    if bits == 2 and run.seed == 1:
        return Failed(error="why")
    return metrics(
        {"validation": {2: 1.0, 3: 70.0, 4: 60.0}, "test": {3: 65.0, 4: 90.0}}[run.split][bits]
        + run.seed
    )


def test_only_the_chosen_setting_is_tested(folder, tmp_path):
    engine = Fake(by_bits)
    result = sweep(space_of(folder, choose="quantized_top1_percent"), tmp_path / "out", engine)
    assert len(result.failures) == 1
    tested = [
        (task.run.recipe.weights.bits, task.run.seed)
        for task in engine.asked
        if task.run.split == "test"
    ]
    assert tested == [(3, 0), (3, 1)] and len(engine.asked) == 8
    (row,) = table(tmp_path / "out/chosen.csv")
    expected = {
        "chosen_by": "quantized_top1_percent",
        "weights.bits": "3",
        "seeds": "2",
        "quantized_top1_percent": "65.5",
    }
    assert row.items() >= expected.items()
    assert float(row["quantized_top1_percent_ci95"]) == pytest.approx(
        interval([65.0, 66.0]), abs=1e-6
    )
    assert {row["split"] for row in table(tmp_path / "out/results.csv")} == {"validation"}
    again = Fake(by_bits)
    sweep(space_of(folder, choose="quantized_top1_percent"), tmp_path / "out", again)
    assert not again.asked


@pytest.mark.parametrize(
    ("axis", "values"),
    [("data", "npz:{0}/data.npz npz:{0}/other.npz"), ("recipe", "w3 w4"), ("calibration", "20 10")],
)
def test_places_can_be_chosen(axis, values, folder, tmp_path):
    values = [yaml_value(text) for text in values.format(folder).split()]
    engine = Fake(lambda run: metrics(60.0 if run.setting[axis] == values[1] else 50.0))
    space = space_of(folder, grid={axis: values}, choose="quantized_top1_percent")
    (row,) = sweep(space, tmp_path / "out", engine).chosen
    assert row.setting[axis] == values[1] and row.seeds == 2


def yaml_value(text):
    return int(text) if text.isdigit() else text


def test_null_can_be_chosen(folder, tmp_path):
    engine = Fake(lambda run: metrics(60.0 if run.setting["weights.allocate"] is None else 50.0))
    space = space_of(
        folder, grid={"weights.allocate": ["optimum", None]}, choose="quantized_top1_percent"
    )
    (row,) = sweep(space, tmp_path / "out", engine).chosen
    assert row.setting["weights.allocate"] is None and row.seeds == 2


def test_test_images_are_looked_at_for_the_choice_alone(folder, tmp_path, monkeypatch):
    import subbyte.analyses.sweeps.work as work
    from subbyte.analyses.sweeps import Local

    seen, drawn = [], work.measured_split

    def spy(data, run):
        seen.append((run.split, run.recipe.weights.bits))
        return drawn(data, run)

    monkeypatch.setattr(work, "measured_split", spy)
    space = space_of(folder, choose="quantized_top1_percent", seeds=[0])
    (row,) = sweep(space, tmp_path / "out", lambda cache: Local(1, cache)).chosen
    assert seen[:3] == [("validation", bits) for bits in (2, 3, 4)]
    assert seen[3:] == [("test", row.setting["weights.bits"])]
