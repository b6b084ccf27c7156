"""The summary of a sweep: means over seeds, and the best setting, which is tested once.

Over n seeds: mean, standard deviation s, half the 95 % confidence interval, t(0.975, n - 1) s /
sqrt(n). The setting is chosen by the mean on validation images; the test images are looked at for
that one alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import mean, stdev

from scipy.special import stdtrit

from subbyte.analyses.sweeps.space import Measured, Run, Setting
from subbyte.analyses.sweeps.store import Row
from subbyte.errors import RecipeError
from subbyte.records.outcome import METRICS, UNCOMPARED, Done

SUMMARIZED = tuple(name for name in METRICS if name not in UNCOMPARED)
SMALLER_IS_BETTER = ("output_error", "bits_per_weight", "packed_bytes")


def interval(values: Sequence[float]) -> float | None:
    """Half the 95 % confidence interval of a mean; None for a single value."""
    if len(values) < 2:
        return None
    return float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / sqrt(len(values))


@dataclass(frozen=True)
class OverSeeds:
    """A metric over seeds. deviation, half: standard deviation, and half the confidence interval of
    the mean; None for a single seed.
    """

    mean: float
    deviation: float | None
    half: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "OverSeeds":
        """Rounded to six decimals."""
        half = interval(values)
        return cls(
            round(mean(values), 6),
            round(stdev(values), 6) if len(values) > 1 else None,
            None if half is None else round(half, 6),
        )


@dataclass(frozen=True)
class Summary:
    """A row of summary.csv. setting: values by axis; seeds: how many; metrics: by name."""

    setting: Setting
    seeds: int
    metrics: Mapping[str, OverSeeds]

    def cells(self) -> dict[str, object]:
        """Values by column."""
        cells = self.setting | {"seeds": self.seeds}
        for name, found in self.metrics.items():
            cells |= {
                name: found.mean,
                f"{name}_sd": found.deviation,
                f"{name}_ci95": found.half,
            }
        return cells


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """The settings in the order of the rows, each over its runs that ended well."""
    groups: dict[str, tuple[Setting, list[dict[str, float]]]] = {}
    for row in rows:
        if isinstance(row.outcome, Done):
            # settings may hold lists, which can't be keys
            group = groups.setdefault(repr(row.setting), (row.setting, []))
            group[1].append(row.outcome.numbers)
    return [
        Summary(
            setting,
            len(group),
            {
                name: OverSeeds.of([float(one[name]) for one in group])
                for name in SUMMARIZED
                if all(name in one for one in group)
            },
        )
        for setting, group in groups.values()
    ]


def summary_columns(axes: tuple[str, ...]) -> tuple[str, ...]:
    """Columns of `summaries`."""
    return (
        *axes,
        "seeds",
        *(f"{name}{end}" for name in SUMMARIZED for end in ("", "_sd", "_ci95")),
    )


def check_column(column: str) -> None:
    """Raise RecipeError for a column that nothing can be chosen by."""
    if column not in SUMMARIZED:
        raise RecipeError(f"choose: there is no column {column!r}; known: {', '.join(SUMMARIZED)}")


def best_setting(rows: Sequence[Row], column: str) -> Setting:
    """The setting whose mean of `column` is best; the first of equals. Some run must have ended
    well. Raises RecipeError where the column was not measured.
    """
    found = summaries(rows)
    if not all(column in one.metrics for one in found):
        known = [name for name in SUMMARIZED if all(name in one.metrics for one in found)]
        raise RecipeError(
            f"choose: {column} was not measured, as outputs and targets are; choose by one of "
            f"{', '.join(known)}"
        )
    sign = -1 if column in SMALLER_IS_BETTER else 1
    return max(found, key=lambda one: sign * one.metrics[column].mean).setting


def test_runs(rows: Sequence[Row], setting: Setting) -> list[Run]:
    """The runs of a setting once more, measured on test images."""
    return [replace(row.task.run, split=Measured.TEST) for row in rows if row.setting == setting]
