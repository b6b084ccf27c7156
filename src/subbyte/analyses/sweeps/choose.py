"""The summary of a sweep: means over seeds, and the best setting, which is tested once.

Over n seeds: mean, standard deviation s, half the 95 % confidence interval, t(0.975, n - 1) s /
sqrt(n). The setting is chosen by the mean on validation images; the test images are looked at for
that one alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from statistics import mean, stdev
from typing import Any

from scipy.special import stdtrit

from subbyte.analyses.sweeps.space import Run, Setting
from subbyte.errors import RecipeError
from subbyte.records.sweep import METRICS

SUMMARIZED = tuple(name for name in METRICS if not name.endswith("_seconds") and name != "images")
SMALLER_IS_BETTER = ("bits_per_weight", "packed_bytes")


def interval(values: Sequence[float]) -> float | None:
    """Half the 95 % confidence interval of a mean; None for a single value."""
    if len(values) < 2:
        return None
    return float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / sqrt(len(values))


def summaries(rows: Sequence[dict[str, Any]], axes: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row a setting: how many seeds, and of each metric the mean, standard deviation and
    confidence interval.
    """
    found = []
    for key, group in _by_setting(rows, axes):
        row: dict[str, Any] = dict(zip(axes, key, strict=True)) | {"seeds": len(group)}
        for name in SUMMARIZED:
            values = [float(one[name]) for one in group]
            row[name] = round(mean(values), 6)
            row[f"{name}_sd"] = round(stdev(values), 6) if len(values) > 1 else None
            half = interval(values)
            row[f"{name}_ci95"] = None if half is None else round(half, 6)
        found.append(row)
    return found


def summary_columns(axes: tuple[str, ...]) -> tuple[str, ...]:
    """Columns of `summaries`."""
    return (
        *axes,
        "seeds",
        *(f"{name}{end}" for name in SUMMARIZED for end in ("", "_sd", "_ci95")),
    )


def _by_setting(
    rows: Sequence[dict[str, Any]], axes: tuple[str, ...]
) -> list[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    """Settings in the order of the rows, each with the rows of its runs that ended well."""
    groups: dict[str, tuple[tuple[Any, ...], list[dict[str, Any]]]] = {}
    for row in rows:
        if row["status"] == "done":
            key = tuple(row.get(name) for name in axes)
            # settings may be lists, which can't be keys
            groups.setdefault(repr(key), (key, []))[1].append(row)
    return list(groups.values())


def check_column(column: str) -> None:
    """Raise RecipeError for a column that nothing can be chosen by."""
    if column not in SUMMARIZED:
        raise RecipeError(f"choose: there is no column {column!r}; known: {', '.join(SUMMARIZED)}")


def best_setting(rows: Sequence[dict[str, Any]], axes: tuple[str, ...], column: str) -> Setting:
    """The setting whose mean of `column` is best; the first of equals. Some run must have ended
    well.
    """
    found = summaries(rows, axes)
    sign = -1 if column in SMALLER_IS_BETTER else 1
    best = max(found, key=lambda row: sign * float(row[column]))
    return {name: best[name] for name in axes}


def test_runs(runs: Sequence[Run], rows: Sequence[dict[str, Any]], setting: Setting) -> list[Run]:
    """The runs of a setting once more, measured on test images; rows: of results.csv, in the order
    of the runs.
    """
    return [
        replace(run, split="test")
        for run, row in zip(runs, rows, strict=True)
        if all(row.get(name) == value for name, value in setting.items())
    ]
