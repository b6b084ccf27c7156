"""Figures as PNG pictures, drawn by matplotlib: the optional extra `plots`. The same figure gives
the same bytes.
"""

from math import ceil
from pathlib import Path
from typing import Any

from subbyte.errors import SubbyteError
from subbyte.io.files import written
from subbyte.pages.charts import COLOURS, Chart, literal, write_png
from subbyte.pages.figures import Chooser, Figure, Grains, Heat, Histogram, Marks, Points, Rows

_MARKERS = "osD^PX*v"
_COLUMNS = 4  # of small histograms
_LABELLED = 14


def write_picture(figure: Figure, path: Path) -> None:
    """Draw a figure. Raises SubbyteError when matplotlib is missing."""
    if isinstance(figure, Chart):
        write_png(figure, path)
    elif isinstance(figure, Chooser):
        _small_ones(figure, path)
    else:
        rows = len(
            figure.names
            if isinstance(figure, Rows)
            else figure.rows
            if isinstance(figure, Heat)
            else ()
        )
        canvas, axes = _canvas(8, max(5.0, 1.2 + 0.24 * rows))
        if isinstance(figure, Points):
            _points(axes, figure)
        elif isinstance(figure, Rows):
            _rows(axes, figure)
        else:
            _heat(axes, figure)
        axes.set_title(literal(figure.title), loc="left", fontsize=11, wrap=True)
        _save(canvas, path)


def _canvas(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise SubbyteError("pictures need matplotlib: pip install 'subbyte[plots]'") from error
    canvas = Canvas(figsize=(width, height), dpi=150)
    FigureCanvasAgg(canvas)
    return canvas, canvas.subplots(rows, columns, squeeze=rows * columns == 1)


def _save(canvas: Any, path: Path) -> None:
    with written(path) as temporary:
        canvas.savefig(temporary, format="png", bbox_inches="tight", metadata={"Software": None})


def _plain(axes: Any, x_label: str, y_label: str = "") -> None:
    axes.set_xlabel(literal(x_label))
    axes.set_ylabel(literal(y_label))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(axes: Any) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)


def _log_x(axes: Any, values: Grains) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    some = [value for value in values if value is not None and value > 0]
    short = bool(some) and max(some) < 1000 * min(some)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _points(axes: Any, figure: Points) -> None:
    if figure.steps[0]:
        axes.step(
            *figure.steps,
            where="post",
            color="#000000",
            linewidth=1,
            linestyle="--",
            label=figure.steps_name,
        )
    labelled = sum(len(cloud.x) for cloud in figure.clouds) <= _LABELLED
    for place, cloud in enumerate(figure.clouds):
        axes.errorbar(
            cloud.x,
            cloud.y,
            yerr=cloud.errors or None,
            color=COLOURS[place % 8],
            marker=_MARKERS[place % 8],
            markersize=7,
            linestyle="none",
            linewidth=1,
            capsize=3,
            label=literal(cloud.name),
        )
        for x, y, label in zip(cloud.x, cloud.y, cloud.labels, strict=False):
            if labelled:
                axes.annotate(
                    literal(label), (x, y), (5, -9), textcoords="offset points", fontsize=8
                )
    _plain(axes, figure.x_label, figure.y_label)
    if figure.log_x:
        _log_x(axes, [x for cloud in figure.clouds for x in cloud.x])
    axes.margins(0.08)
    _legend(axes)


def _rows(axes: Any, figure: Rows) -> None:
    for place, marks in enumerate(figure.marks):
        _marks(axes, figure, marks, place)
    _plain(axes, figure.x_label)
    axes.set_yticks(range(len(figure.names)), [literal(name) for name in figure.names], fontsize=8)
    axes.set_ylim(len(figure.names) - 0.4, -0.6)
    if figure.log_x:
        _log_x(axes, [value for marks in figure.marks for value in (*marks.values, *marks.to)])
    if len(figure.marks) > 1:
        _legend(axes)


def _marks(axes: Any, figure: Rows, marks: Marks, place: int) -> None:
    colour, label = COLOURS[place % 8], literal(marks.name)
    there = [k for k, value in enumerate(marks.values) if value is not None]
    values = [marks.values[k] for k in there]
    if marks.style == "bar":
        axes.barh(there, values, height=0.7, color=colour, alpha=0.75, label=label)
    elif marks.style == "dot":
        several = len([other for other in figure.marks if other.style == "dot"])
        shift = 0.0 if several == 1 else 0.5 * (place / (several - 1) - 0.5)
        axes.plot(
            values,
            [k + shift for k in there],
            color=colour,
            marker=_MARKERS[place % 8],
            linestyle="none",
            markersize=5,
            label=label,
        )
    else:
        thin = marks.style == "thin"
        ends = [marks.to[k] for k in there]
        axes.hlines(
            there,
            values,
            ends,
            colors=colour,
            linewidth=1.6 if thin else 6,
            alpha=1 if thin else 0.5,
            label=label,
        )


def _heat(axes: Any, figure: Heat) -> None:
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap

    matrix = np.array(
        [[np.nan if v is None else v for v in row] for row in figure.values], dtype=float
    )
    colours = [COLOURS[0], "#ffffff", COLOURS[1]] if figure.diverging else ["#ffffff", COLOURS[0]]
    ends: dict[str, float] = {}
    if figure.diverging:
        most = float(np.nanmax(np.abs(matrix), initial=0)) or 1.0
        ends = {"vmin": -most, "vmax": most}
    elif figure.palest is not None:
        ends = {"vmin": figure.palest}
    axes.imshow(
        matrix, cmap=LinearSegmentedColormap.from_list("subbyte", colours), aspect="auto", **ends
    )
    axes.set_xticks(
        range(len(figure.columns)),
        [literal(name) for name in figure.columns],
        rotation=45,
        ha="right",
    )
    axes.set_yticks(range(len(figure.rows)), [literal(name) for name in figure.rows])
    axes.set_xlabel(literal(figure.x_label))
    axes.set_ylabel(literal(figure.y_label))
    if len(figure.columns) <= 16:
        low, high = (
            float(np.nanmin(matrix, initial=np.inf)),
            float(np.nanmax(matrix, initial=-np.inf)),
        )
        for y, row in enumerate(figure.texts):
            for x, text in enumerate(row):
                dark = not figure.diverging and matrix[y, x] > low + 0.6 * (high - low)
                colour = "#ffffff" if dark else "#000000"
                axes.text(x, y, literal(text), ha="center", va="center", fontsize=8, color=colour)


def _small_ones(figure: Chooser, path: Path) -> None:
    rows = ceil(len(figure.figures) / _COLUMNS)
    height = 0.6 + 2.1 * rows
    canvas, panels = _canvas(12, height, rows, _COLUMNS)
    flat = list(panels.flat)
    for axes in flat[len(figure.figures) :]:
        axes.set_axis_off()
    for axes, one in zip(flat, figure.figures, strict=False):
        _histogram(axes, one, figure.logarithm)
    after = f"; {figure.after}: narrow bars or line" if figure.after else ""
    canvas.suptitle(
        literal(f"{figure.title} ({figure.before}: filled{after})"),
        x=0.01,
        y=1 - 0.1 / height,
        ha="left",
        va="top",
        fontsize=11,
    )
    canvas.tight_layout(rect=(0, 0, 1, 1 - 0.35 / height))
    _save(canvas, path)


def _histogram(axes: Any, figure: Histogram, logarithm: bool) -> None:
    edges = figure.edges
    least = min([height for height in figure.heights if height > 0], default=1.0)
    floor = least / 2 if logarithm else 0.0
    axes.stairs(figure.heights, edges, baseline=floor, fill=True, color=COLOURS[0], alpha=0.55)
    if figure.stems:
        axes.bar(figure.levels, figure.after, width=0.24 * figure.step, color=COLOURS[1])
    elif figure.after:
        axes.stairs(figure.after, edges, color=COLOURS[1], linewidth=1)
    for end in figure.ends or ():
        axes.axvline(end, color="#000000", linewidth=0.8, linestyle="--")
    if logarithm:
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylim(bottom=floor)
    axes.set_title(literal(figure.name), fontsize=8, loc="left")
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
