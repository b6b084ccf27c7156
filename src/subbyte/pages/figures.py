"""What a page can draw besides lines (`charts.Chart`): points, rows of marks, heat maps, histograms
on grids.

A figure says what is to be seen; `plotted` makes it interactive, `pictures` a PNG, `numbers` a
table of what it shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from subbyte.pages.charts import Chart, Table

Grains = Sequence[float | None]
"""Numbers, None where there is none."""
MANY_LEVELS = 32  # beyond which levels are no longer drawn one by one


@dataclass(frozen=True)
class Cloud:
    """Points of one colour and sign.

    labels: shown beside them; notes: shown when one is pointed at; errors: half the height of their
        error bars.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str] = ()
    notes: Sequence[str] = ()
    errors: Sequence[float] = ()


@dataclass(frozen=True)
class Points:
    """Clouds over one pair of axes. steps: corners of a line drawn as stairs, such as a Pareto
    front's.
    """

    title: str
    about: str
    x_label: str
    y_label: str
    clouds: tuple[Cloud, ...]
    log_x: bool = False
    steps: tuple[Sequence[float], Sequence[float]] = ((), ())
    steps_name: str = ""


@dataclass(frozen=True)
class Marks:
    """A mark in every row: a dot, a bar from 0, or a span, broad or thin, from `values` to `to`.

    notes: shown when one is pointed at.
    """

    name: str
    values: Grains
    style: Literal["dot", "bar", "broad", "thin"] = "dot"
    to: Grains = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Rows:
    """Marks beside names, such as those of layers, in their order from the top."""

    title: str
    about: str
    x_label: str
    names: tuple[str, ...]
    marks: tuple[Marks, ...]
    log_x: bool = False


@dataclass(frozen=True)
class Heat:
    """A matrix in colours, the first row on top. values: say the colour; texts: stand in the cells.

    diverging: around 0, in two colours; otherwise in one, which is palest at `palest`, by default
        the smallest value.
    """

    title: str
    about: str
    x_label: str
    y_label: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    values: tuple[Grains, ...]
    texts: tuple[Sequence[str], ...]
    diverging: bool = False
    palest: float | None = None


@dataclass(frozen=True)
class Histogram:
    """How values lie: counts by bin from `start` on, each `width` wide, out of `total` values, some
    beyond all bins.

    levels: of the grid; taken: rounded values on each, out of their sum; rounded: of each bin,
    where levels are not common or too many. ends: of the grid, beyond which values are clipped.
    """

    name: str
    about: str
    x_label: str
    start: float
    width: float
    counts: tuple[int, ...]
    total: int
    levels: tuple[float, ...] = ()
    taken: tuple[int, ...] = ()
    rounded: tuple[int, ...] = ()
    ends: tuple[float, float] | None = None

    @property
    def edges(self) -> list[float]:
        """Of the bins, one more than there are."""
        return [self.start + k * self.width for k in range(len(self.counts) + 1)]

    @property
    def stems(self) -> bool:
        """Whether rounded values are shown level by level."""
        return bool(self.taken) and len(self.levels) <= MANY_LEVELS

    @property
    def step(self) -> float:
        """What a percentage is counted for: the mean distance of two levels where there are stems,
        or a bin.
        """
        if not self.stems:
            return self.width
        return (self.levels[-1] - self.levels[0]) / (len(self.levels) - 1)

    @property
    def heights(self) -> list[float]:
        """Percent of the values, a step, in each bin."""
        return [100 * count / max(1, self.total) * self.step / self.width for count in self.counts]

    @property
    def after(self) -> list[float]:
        """Percent of the rounded values: on each level with stems, else in each bin; [] where there
        are none.
        """
        counts = list(self.taken) if self.stems else self._by_bin()
        return [100 * count / max(1, sum(counts)) for count in counts]

    def _by_bin(self) -> list[int]:
        if not self.taken:
            return list(self.rounded)
        counts = [0] * len(self.counts)
        for level, count in zip(self.levels, self.taken, strict=True):
            counts[min(max(int((level - self.start) // self.width), 0), len(counts) - 1)] += count
        return counts


@dataclass(frozen=True)
class Chooser:
    """Histograms of which one is shown large, and all of them small. what: they are of, such as
    'layer'.

    before, after: what their bars and stems are called. logarithm: the share is on a logarithmic
        scale at first.
    """

    title: str
    about: str
    what: str
    before: str
    after: str
    figures: tuple[Histogram, ...]
    logarithm: bool = False


Figure = Chart | Points | Rows | Heat | Chooser


def numbers(figure: Figure) -> Table:
    """What a figure shows, as a table."""
    if isinstance(figure, Chart):
        return _of_lines(figure)
    if isinstance(figure, Points):
        return _of_points(figure)
    if isinstance(figure, Rows):
        return _of_rows(figure)
    if isinstance(figure, Heat):
        shown = [(name, *texts) for name, texts in zip(figure.rows, figure.texts, strict=True)]
        return Table(
            figure.title, (f"{figure.y_label} / {figure.x_label}", *figure.columns), tuple(shown)
        )
    return _of_histograms(figure)


def _of_lines(figure: Chart) -> Table:
    banded = any(line.low for line in figure.lines)
    cells = []
    for line in figure.lines:
        name, gaps = line.name + _kind(line.dashed, line.dotted), [None] * len(line.x)
        for x, y, low, high in zip(
            line.x, line.y, line.low or gaps, line.high or gaps, strict=True
        ):
            cells.append((name, _n(x), _n(y), *((_n(low), _n(high)) if banded else ())))
    header = ("line", figure.x_label, figure.y_label, *(("from", "to") if banded else ()))
    return Table(figure.title, header, tuple(cells))


def _kind(dashed: bool, dotted: bool) -> str:
    return " (dotted)" if dotted else " (dashed)" if dashed else ""


def _of_points(figure: Points) -> Table:
    cells = []
    for cloud in figure.clouds:
        labels = cloud.labels or [""] * len(cloud.x)
        errors: Grains = cloud.errors or [None] * len(cloud.x)
        for label, x, y, error in zip(labels, cloud.x, cloud.y, errors, strict=True):
            cells.append((cloud.name, label, _n(x), _n(y), _n(error)))
    return Table(
        figure.title,
        ("group", "point", figure.x_label, figure.y_label, "plus or minus"),
        tuple(cells),
    )


def _of_rows(figure: Rows) -> Table:
    header, columns = ["name"], []
    for marks in figure.marks:
        spans = bool(marks.to)
        header += [f"{marks.name}, from", f"{marks.name}, to"] if spans else [marks.name]
        columns += [marks.values, marks.to] if spans else [marks.values]
    cells = tuple(
        (name, *(_n(column[k]) for column in columns)) for k, name in enumerate(figure.names)
    )
    return Table(f"{figure.title} ({figure.x_label})", tuple(header), cells)


def _of_histograms(figure: Chooser) -> Table:
    cells = []
    for one in figure.figures:
        edges = one.edges
        bins: Grains = one.after if one.after and not one.stems else [None] * len(one.counts)
        for k, count in enumerate(one.counts):
            cells.append((one.name, "bin", _n(edges[k]), _n(edges[k + 1]), str(count), _n(bins[k])))
        if one.stems:
            for level, count, share in zip(one.levels, one.taken, one.after, strict=True):
                cells.append((one.name, "level", _n(level), _n(level), str(count), _n(share)))
    header = (
        figure.what,
        "kind",
        "from",
        "to",
        "values",
        f"{figure.after} %" if figure.after else "percent",
    )
    return Table(figure.title, header, tuple(cells))


def _n(number: float | None) -> str:
    return "" if number is None or not isfinite(number) else f"{number:.6g}"
