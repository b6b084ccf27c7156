"""Line charts. After eight colours lines get markers."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import inf, isfinite, nan
from typing import Any

from subbyte.errors import SubbyteError
from subbyte.pages.browser import axis, cell, entry, log_axis, short, spec, symbol
from subbyte.pages.canvas import COLOURS, canvas, frame, legend, literal, log_y, whole_x
from subbyte.pages.figure import Figure, Spec
from subbyte.pages.parts import Table

BAND = 0.2  # opacity of a band
_FEW = 12  # points that are worth a marker each
_MANY = 100  # points that would make a blot of a broad line
_SIGNS = {"solid": "-", "dash": "--", "dot": ":"}  # plotly's names, matplotlib's signs


@dataclass(frozen=True)
class Line:
    """One line of a chart. Points that are not finite are gaps.

    Lines of one name share a colour and a legend entry, such as a curve and its dashed simulation;
    the solid one is pale then, and broad unless it has many points, so that the dashed one is seen
    where it lies on it.
    dotted: as dashed, for a third curve of the name. strong: black and thick, whatever its name.
    low, high: ends of a band around it, such as a confidence interval; both or neither.
    Raises SubbyteError when x and y, or they and a band, differ in length.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False
    strong: bool = False
    dotted: bool = False
    low: Sequence[float] = ()
    high: Sequence[float] = ()

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise SubbyteError(
                f"line {self.name!r} of a chart has {len(self.x)} x and {len(self.y)} y"
            )
        if len(self.low) != len(self.high) or len(self.low) not in (0, len(self.x)):
            raise SubbyteError(
                f"line {self.name!r} of a chart has {len(self.x)} x and a band of {len(self.low)} "
                f"and {len(self.high)}"
            )

    @property
    def style(self) -> str:
        """The kind of line, in plotly's words."""
        return "dot" if self.dotted else "dash" if self.dashed else "solid"

    @property
    def full_name(self) -> str:
        """The name, and what tells it from the others of its colour."""
        return self.name + (" (dotted)" if self.dotted else " (dashed)" if self.dashed else "")


@dataclass(frozen=True)
class Chart(Figure):
    """Lines over one pair of axes.

    log_y: y on a logarithmic scale, where points of 0 and below are gaps. whole_x: x is a count,
    and its axis has whole numbers only. names: in the order of their colours, so that a name has
    one colour in several charts; without, lines have colours in their own order.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    log_y: bool = False
    whole_x: bool = False
    names: tuple[str, ...] = ()
    about: str = ""

    def table(self) -> Table:
        """See `parts.Shown`."""
        banded = any(line.low for line in self.lines)
        cells = []
        for line in self.lines:
            gaps = [None] * len(line.x)
            low, high = line.low or gaps, line.high or gaps
            for x, y, *ends in zip(line.x, line.y, low, high, strict=True):
                numbers = (x, y, *(ends if banded else ()))
                cells.append((line.full_name, *map(cell, numbers)))
        header = ("line", self.x_label, self.y_label, *(("from", "to") if banded else ()))
        return Table(self.title, header, tuple(cells))

    def items(self) -> list[Spec]:
        """See `figure.Figure`."""
        data: list[Spec] = []
        entries: dict[str, Spec] = {}
        for line in drawn(self):
            sign = entries.setdefault(line.name, entry(line.name, [], line.colour, line.style))
            traces = [line.area(), line.curve()] if line.band[0] else [line.curve()]
            sign["traces"] += range(len(data), len(data) + len(traces))
            data += traces
        places = [x for line in self.lines for x in line.x if isfinite(x)]
        few = self.whole_x and max(places, default=0) - min(places, default=0) <= _FEW
        heights = [y for line in self.lines for y in line.y if isfinite(y)]
        y_axis = log_axis(self.y_label, heights) if self.log_y else axis(self.y_label)
        x_axis = axis(self.x_label, **({"dtick": 1} if few else {}))
        return [spec(data, list(entries.values()), x_axis, y_axis)]

    def draw(self) -> Any:
        """See `figure.Figure`."""
        figure, axes = canvas(8, 5)
        labelled: set[str] = set()
        for line in drawn(self):
            line.paint(axes, labelled=line.name in labelled)
            labelled.add(line.name)
        frame(axes, self.title, self.x_label, self.y_label)
        if self.log_y:
            log_y(axes)
        if self.whole_x:
            whole_x(axes)
        if self.lines:
            legend(axes)
        return figure


@dataclass(frozen=True)
class Drawn:
    """A line as it is drawn: its points with gaps as NaN, and its looks.

    place: of its colour in the palette; None: black. band: x, low and high of its points that are
        whole.
    """

    name: str
    x: list[float]
    y: list[float]
    band: tuple[list[float], list[float], list[float]]
    style: str
    place: int | None
    width: float
    opacity: float
    marked: bool

    @property
    def colour(self) -> str:
        """The colour as the page names it."""
        return "@ink" if self.place is None else f"@{self.place % len(COLOURS)}"

    @property
    def paint_colour(self) -> str:
        """The colour in hexadecimal, on white paper."""
        return "#000000" if self.place is None else COLOURS[self.place % len(COLOURS)]

    def area(self) -> Spec:
        """The band, for the browser."""
        x, low, high = self.band
        return {
            "type": "scatter",
            "mode": "none",
            "x": short([*x, *reversed(x)]),
            "y": short([*high, *reversed(low)]),
            "fill": "toself",
            "fillcolor": f"{self.colour}/{BAND:g}",
            "hoverinfo": "skip",
        }

    def curve(self) -> Spec:
        """The line, for the browser."""
        sign = symbol((self.place or 0) // len(COLOURS))
        return {
            "type": "scatter",
            "x": short(self.x),
            "y": short(self.y),
            "name": escape(self.name),
            "mode": "lines+markers" if self.marked else "lines",
            "opacity": self.opacity,
            "marker": {"size": 6, "maxdisplayed": _FEW, "color": self.colour, "symbol": sign},
            "line": {"color": self.colour, "width": self.width, "dash": self.style},
        }

    def paint(self, axes: Any, *, labelled: bool) -> None:
        """Band and line, in a picture; labelled: the legend has its name already."""
        if self.band[0]:
            axes.fill_between(*self.band, color=self.paint_colour, alpha=BAND, linewidth=0)
        axes.plot(
            self.x,
            self.y,
            color=self.paint_colour,
            linewidth=self.width,
            linestyle=_SIGNS[self.style],
            alpha=self.opacity,
            marker="o" if self.marked else None,
            markersize=4,
            markevery=max(1, len(self.x) // _FEW),
            label=None if labelled else literal(self.name),
        )


def drawn(chart: Chart) -> list[Drawn]:
    """The lines of a chart, with their looks."""
    own = [line.name for line in chart.lines if not line.strong]
    names = list(dict.fromkeys([*chart.names, *own]))
    twins = {line.name for line in chart.lines if line.dashed or line.dotted}
    lowest = 0.0 if chart.log_y else -inf
    found = []
    for line in chart.lines:
        place = 0 if line.strong else names.index(line.name)
        under = line.name in twins and not (line.dashed or line.dotted)
        broad = under and len(line.x) <= _MANY
        points = [(float(a), float(b)) for a, b in zip(line.x, line.y, strict=True)]
        kept = [isfinite(a) and isfinite(b) and b > lowest for a, b in points]
        found.append(
            Drawn(
                name=line.name,
                x=[a if isfinite(a) else nan for a, _ in points],
                y=[b if keep else nan for (_, b), keep in zip(points, kept, strict=True)],
                band=_band(line, lowest),
                style=line.style,
                place=None if line.strong else place,
                width=3.0 if line.strong else 4.5 if broad else 1.8,
                opacity=0.4 if under else 1.0,
                marked=place >= len(COLOURS) or sum(kept) <= _FEW,
            )
        )
    return found


def _band(line: Line, lowest: float) -> tuple[list[float], list[float], list[float]]:
    """The band's x, lower and upper ends, without the points that have a gap."""
    points = [
        (float(x), float(low), float(high))
        for x, low, high in zip(line.x, line.low, line.high, strict=False)
        if isfinite(x) and isfinite(low) and isfinite(high) and low > lowest
    ]
    x, low, high = ([point[k] for point in points] for k in range(3))
    return x, low, high
