"""Clouds of points over one pair of axes, such as accuracy against size."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import inf
from typing import Any

from subbyte.pages.browser import axis, cell, colour, entry, log_axis, short, spec, symbol
from subbyte.pages.canvas import COLOURS, MARKERS, canvas, frame, legend, literal, log_x
from subbyte.pages.figure import Figure, Spec
from subbyte.pages.parts import Table

_LABELLED = 14  # points that can have their names beside them


@dataclass(frozen=True)
class Cloud:
    """Points of one colour and sign.

    labels: shown beside them; notes: shown when one is pointed at; errors: half the height of their
    error bars, which end where `within` does, as accuracies do at 0 and 100.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str] = ()
    notes: Sequence[str] = ()
    errors: Sequence[float] = ()
    within: tuple[float, float] = (-inf, inf)

    @property
    def reach(self) -> tuple[list[float], list[float]]:
        """How far the error bars reach down and up."""
        (low, high), pairs = self.within, list(zip(self.y, self.errors, strict=bool(self.errors)))
        down = [min(error, max(0.0, y - low)) for y, error in pairs]
        return down, [min(error, max(0.0, high - y)) for y, error in pairs]

    def trace(self, place: int, *, labelled: bool, right: float) -> Spec:
        """The points for the browser. right: x from which on there is no room for names on the
        right.
        """
        found: Spec = {
            "type": "scatter",
            "x": short(self.x),
            "y": short(self.y),
            "name": escape(self.name),
            "cliponaxis": False,
            "mode": "markers+text" if labelled and self.labels else "markers",
            "marker": {"size": 11, "color": colour(place), "symbol": symbol(place)},
        }
        if self.labels:
            sides = ["bottom left" if x >= right else "bottom right" for x in self.x]
            texts = [f" {escape(label)} " for label in self.labels]
            found |= {"text": texts, "textposition": sides}
        if self.notes:
            found |= {"hovertext": list(map(escape, self.notes)), "hoverinfo": "text"}
        if self.errors:
            looks = {"color": colour(place, 0.6), "thickness": 1.2, "width": 4}
            down, up = map(short, self.reach)
            found["error_y"] = {"array": up, "arrayminus": down, "symmetric": False, **looks}
        return found

    def paint(self, axes: Any, place: int, *, labelled: bool) -> None:
        """Draw the points in a picture."""
        axes.errorbar(
            self.x,
            self.y,
            yerr=self.reach if self.errors else None,
            color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)],
            markersize=7,
            linestyle="none",
            linewidth=1,
            capsize=3,
            label=literal(self.name),
        )
        for x, y, label in zip(self.x, self.y, self.labels if labelled else (), strict=False):
            axes.annotate(literal(label), (x, y), (5, -9), textcoords="offset points", fontsize=8)


@dataclass(frozen=True)
class Points(Figure):
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

    @property
    def _x(self) -> list[float]:
        return [x for cloud in self.clouds for x in cloud.x]

    def table(self) -> Table:
        """See `parts.Shown`."""
        cells = []
        for cloud in self.clouds:
            labels = cloud.labels or [""] * len(cloud.x)
            errors: Sequence[float | None] = cloud.errors or [None] * len(cloud.x)
            for label, *numbers in zip(labels, cloud.x, cloud.y, errors, strict=True):
                cells.append((cloud.name, label, *map(cell, numbers)))
        header = ("group", "point", self.x_label, self.y_label, "plus or minus")
        return Table(self.title, header, tuple(cells))

    def items(self) -> list[Spec]:
        """See `figure.Figure`."""
        data: list[Spec] = []
        entries: list[Spec] = []
        if self.steps[0]:
            entries.append(entry(self.steps_name, [0], "@ink", "dash"))
            x, y = map(short, self.steps)
            line = {"color": "@ink", "width": 1.5, "dash": "dash", "shape": "hv"}
            looks = {"type": "scatter", "mode": "lines", "line": line, "hoverinfo": "skip"}
            data.append({"x": x, "y": y, **looks})
        labelled, right = len(self._x) <= _LABELLED, max(self._x, default=0.0)
        for place, cloud in enumerate(self.clouds):
            entries.append(entry(cloud.name, [len(data)], colour(place), symbol(place)))
            data.append(cloud.trace(place, labelled=labelled, right=right))
        x_axis = log_axis(self.x_label, self._x) if self.log_x else axis(self.x_label)
        return [spec(data, entries, x_axis, axis(self.y_label))]

    def draw(self) -> Any:
        """See `figure.Figure`."""
        figure, axes = canvas(8, 5)
        if self.steps[0]:
            looks: dict[str, Any] = {"color": "#000000", "linewidth": 1, "linestyle": "--"}
            axes.step(*self.steps, where="post", label=self.steps_name, **looks)
        for place, cloud in enumerate(self.clouds):
            cloud.paint(axes, place, labelled=len(self._x) <= _LABELLED)
        frame(axes, self.title, self.x_label, self.y_label)
        if self.log_x:
            log_x(axes, self._x)
        axes.margins(0.08)
        legend(axes)
        return figure


def front(places: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Places (size, accuracy) that no other beats: none as small is as accurate, by rising size."""
    x: list[float] = []
    y: list[float] = []
    for size, accuracy in sorted(places, key=lambda place: (place[0], -place[1])):
        if not y or accuracy > y[-1]:
            x.append(size)
            y.append(accuracy)
    return x, y
