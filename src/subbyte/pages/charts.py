"""Line charts as PNG pictures, and as HTML pages that hold all they need and work offline.

Matplotlib draws the pictures, plotly.js the pages: the optional extra `plots`. The same input gives
the same bytes. Colours are told apart with every kind of colour vision (Okabe and Ito; Tol); after
eight of them lines get markers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

from subbyte.errors import SubbyteError
from subbyte.io.files import write_text, written

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933")
BAND = 0.2  # opacity of a band
# no button sends anything away
_CONFIG = {"displaylogo": False, "showSendToCloud": False, "plotlyServerURL": ""}
_FEW = 12  # points that are worth a marker each
_MANY = 100  # points that would make a blot of a broad line
_STYLES = {"solid": "-", "dash": "--", "dot": ":"}  # plotly's names, matplotlib's signs
_STYLE = """
body { font-family: sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em; color: #222;
  line-height: 1.45 }
h1 { font-size: 1.5em } h2 { font-size: 1.1em; margin-top: 2em }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: 0.25em 0.8em; text-align: right; border-bottom: 1px solid #ddd }
th { border-bottom: 2px solid #888 } th:first-child, td:first-child { text-align: left }
"""


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


@dataclass(frozen=True)
class Chart:
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


@dataclass(frozen=True)
class Table:
    """A table of a page; the first column is set to the left."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Drawn:
    """A line as it is drawn: its points with gaps as NaN, and its looks.

    place: of its colour among `COLOURS`; None: black. band: x, low and high of its points that are
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
    in_legend: bool

    @property
    def colour(self) -> str:
        """In hexadecimal, on white paper."""
        return "#000000" if self.place is None else COLOURS[self.place % len(COLOURS)]


def drawn(chart: Chart) -> list[Drawn]:
    """The lines of a chart, with their looks."""
    names = list(
        dict.fromkeys([*chart.names, *(line.name for line in chart.lines if not line.strong)])
    )
    twins = {line.name for line in chart.lines if line.dashed or line.dotted}
    shown: set[str] = set()
    found = []
    for line in chart.lines:
        place = 0 if line.strong else names.index(line.name)
        lowest = 0.0 if chart.log_y else -inf
        style = "dot" if line.dotted else "dash" if line.dashed else "solid"
        under = line.name in twins and style == "solid"
        broad = under and len(line.x) <= _MANY
        points = [(float(a), float(b)) for a, b in zip(line.x, line.y, strict=True)]
        kept = [isfinite(a) and isfinite(b) and b > lowest for a, b in points]
        found.append(
            Drawn(
                name=line.name,
                x=[a if isfinite(a) else nan for a, _ in points],
                y=[b if keep else nan for (_, b), keep in zip(points, kept, strict=True)],
                band=_band(line, lowest),
                style=style,
                place=None if line.strong else place,
                width=3.0 if line.strong else 4.5 if broad else 1.8,
                opacity=0.4 if under else 1.0,
                marked=place >= len(COLOURS) or sum(kept) <= _FEW,
                in_legend=line.name not in shown,
            )
        )
        shown.add(line.name)
    return found


def _band(line: Line, lowest: float) -> tuple[list[float], list[float], list[float]]:
    """Without the points that have a gap."""
    points = [
        (float(x), float(low), float(high))
        for x, low, high in zip(line.x, line.low, line.high, strict=False)
        if isfinite(x) and isfinite(low) and isfinite(high) and low > lowest
    ]
    x, low, high = ([point[k] for point in points] for k in range(3))
    return x, low, high


def write_png(chart: Chart, path: Path) -> None:
    """Draw a chart, 1200 x 750 pixels or wider for its legend. Raises SubbyteError when matplotlib
    is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
    except ImportError as error:
        raise SubbyteError("pictures need matplotlib: pip install 'subbyte[plots]'") from error
    figure = Figure(figsize=(8, 5), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for line in drawn(chart):
        if line.band[0]:
            axes.fill_between(*line.band, color=line.colour, alpha=BAND, linewidth=0)
        axes.plot(
            line.x,
            line.y,
            color=line.colour,
            linewidth=line.width,
            linestyle=_STYLES[line.style],
            alpha=line.opacity,
            marker="o" if line.marked else None,
            markersize=4,
            markevery=max(1, len(line.x) // _FEW),
            label=literal(line.name) if line.in_legend else None,
        )
    axes.set_title(literal(chart.title), loc="left", fontsize=11, wrap=True)
    axes.set_xlabel(literal(chart.x_label))
    axes.set_ylabel(literal(chart.y_label))
    if chart.log_y:
        axes.set_yscale("log", nonpositive="mask")
        low, high = axes.get_ylim()
        if high < 1000 * low:  # powers of ten alone would be too few
            axes.yaxis.set_major_locator(
                LogLocator(subs=(1, 2, 5))
                if high > 20 * low
                else MaxNLocator("auto", steps=[1, 2, 5, 10])
            )
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
    if chart.whole_x:
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if chart.lines:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
    with written(path) as temporary:
        figure.savefig(temporary, format="png", bbox_inches="tight", metadata={"Software": None})


def write_html(title: str, parts: Sequence[Chart | Table | str], path: Path) -> None:
    """Write a page of charts, tables and paragraphs. Raises SubbyteError when plotly is missing."""
    body = [f"<h1>{escape(title)}</h1>"]
    for number, part in enumerate(parts):
        if isinstance(part, Chart):
            body.append(_plot(part, f"chart-{number}"))
        elif isinstance(part, Table):
            body.append(_table(part))
        else:
            body.append(f"<p>{escape(part)}</p>")
    script = (
        f"<script>{_plotly().offline.get_plotlyjs()}</script>"
        if any(isinstance(p, Chart) for p in parts)
        else ""
    )
    write_text(
        path,
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta '
        f'charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n{script}\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n",
    )


def _plot(chart: Chart, name: str) -> str:
    graph = _plotly().graph_objects
    figure = graph.Figure()
    for line in drawn(chart):
        if line.band[0]:
            x, low, high = line.band
            figure.add_trace(
                graph.Scatter(
                    x=[*x, *reversed(x)],
                    y=[*high, *reversed(low)],
                    fill="toself",
                    fillcolor=line.colour,
                    opacity=BAND,
                    mode="none",
                    legendgroup=line.name,
                    showlegend=False,
                    hoverinfo="skip",
                )
            )
        figure.add_trace(
            graph.Scatter(
                x=line.x,
                y=line.y,
                name=escape(line.name),
                legendgroup=line.name,
                showlegend=line.in_legend,
                mode="lines+markers" if line.marked else "lines",
                marker={"size": 6, "maxdisplayed": _FEW},
                opacity=line.opacity,
                line={"color": line.colour, "width": line.width, "dash": line.style},
            )
        )
    axis = {"gridcolor": "#dddddd", "linecolor": "#444444", "ticks": "outside", "zeroline": False}
    log = {"type": "log", "exponentformat": "power"} if chart.log_y else {}
    places = [x for line in chart.lines for x in line.x if isfinite(x)]
    short = chart.whole_x and max(places, default=0) - min(places, default=0) <= _FEW
    figure.update_layout(
        template="none",
        height=520,
        hovermode="closest",
        margin={"t": 60, "r": 20},
        title={"text": escape(chart.title), "x": 0.02, "font": {"size": 16}},
        xaxis=axis | ({"dtick": 1} if short else {}) | {"title": {"text": escape(chart.x_label)}},
        yaxis=axis | log | {"title": {"text": escape(chart.y_label)}, "automargin": True},
    )
    # a page of its own draws nothing from the network: plotly.js is inlined once by the caller
    return str(figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=_CONFIG))


def _plotly() -> Any:
    try:
        import plotly.graph_objects
        import plotly.offline
    except ImportError as error:
        raise SubbyteError("pages with charts need plotly: pip install 'subbyte[plots]'") from error
    return plotly


def _table(table: Table) -> str:
    rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in table.rows]
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f"<h2>{escape(table.title)}</h2>\n<table>\n<tr>{head}</tr>\n{body}\n</table>"


def literal(text: str) -> str:
    """Text for matplotlib, which reads $...$ as mathematics, and leaves names that start with _ out
    of legends.
    """
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", r"\$")
