"""Figures as plotly.js draws them: traces, layout, and a legend that the page makes of buttons.

What all figures have in common is in page.js, so that a page with a hundred of them stays small.
Colours are names that page.js replaces by those of its theme, light or dark: '@0' ... '@7' of the
palette, '@ink', '@paper', '@grid', '@low' and '@high' for heat maps, '@rest' between them; '@0/0.3'
has an opacity. Texts are escaped, as plotly reads a part of HTML in them.
"""

from collections.abc import Sequence
from html import escape
from math import isfinite, log10
from typing import Any

from subbyte.pages.charts import BAND, Chart, drawn
from subbyte.pages.figures import MANY_LEVELS, Cloud, Grains, Heat, Histogram, Marks, Points, Rows

Spec = dict[str, Any]
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down")
_COLOURS = 8
_LABELLED = 14  # points that can have their names beside them
HEIGHT, _ROW, _SMALL_ROW = 400, 21, 15  # pixels
_MANY_ROWS = 40
_AT = "at %{x:.4g}: %{y:.3g} %<extra></extra>"


def colour(place: int, opacity: float = 1.0) -> str:
    """Of the palette."""
    return f"@{place % _COLOURS}" + (f"/{opacity:g}" if opacity < 1 else "")


def plot(figure: Chart | Points | Rows | Heat) -> Spec:
    """data, layout and legend of a figure."""
    if isinstance(figure, Chart):
        return _chart(figure)
    if isinstance(figure, Points):
        return _points(figure)
    return _rows(figure) if isinstance(figure, Rows) else _heat(figure)


def _spec(
    data: list[Spec], legend: list[Spec], x: Spec, y: Spec, height: int = HEIGHT, **more: Any
) -> Spec:
    layout = {"height": height, "xaxis": x, "yaxis": y, **more}
    return {"data": data, "layout": layout, "legend": legend}


def _axis(label: str, **more: Any) -> Spec:
    return ({"title": {"text": escape(label), "standoff": 8}} if label else {}) | more


def _log(label: str, values: Sequence[float]) -> Spec:
    """An axis of powers of ten, with 2 and 5 between them where it is short."""
    some = [value for value in values if value > 0]
    short = bool(some) and max(some) < 1000 * min(some)
    return _axis(
        label,
        type="log",
        tickformat="~s" if max(some, default=1) >= 1000 else "~g",
        dtick="D2" if short else 1,
    )


def _entry(name: str, traces: list[int], place: int | None, sign: str) -> Spec:
    """Of the legend; sign: solid, dash, dot, fill, or the symbol of points."""
    return {
        "name": name,
        "traces": traces,
        "color": "@ink" if place is None else colour(place),
        "sign": sign,
    }


def _chart(chart: Chart) -> Spec:
    data: list[Spec] = []
    legend: dict[str, Spec] = {}
    for line in drawn(chart):
        where = "@ink" if line.place is None else colour(line.place)
        entry = legend.setdefault(line.name, _entry(line.name, [], line.place, line.style))
        if line.band[0]:
            x, low, high = line.band
            entry["traces"].append(len(data))
            fill = "@ink" if line.place is None else colour(line.place)
            data.append(
                {
                    "type": "scatter",
                    "mode": "none",
                    "x": _short([*x, *reversed(x)]),
                    "fill": "toself",
                    "y": _short([*high, *reversed(low)]),
                    "fillcolor": f"{fill}/{BAND:g}",
                    "hoverinfo": "skip",
                }
            )
        entry["traces"].append(len(data))
        data.append(
            {
                "type": "scatter",
                "x": _short(line.x),
                "y": _short(line.y),
                "name": escape(line.name),
                "mode": "lines+markers" if line.marked else "lines",
                "opacity": line.opacity,
                "marker": {
                    "size": 6,
                    "maxdisplayed": 12,
                    "color": where,
                    "symbol": SYMBOLS[(line.place or 0) // 8 % 8],
                },
                "line": {"color": where, "width": line.width, "dash": line.style},
            }
        )
    heights = [y for line in chart.lines for y in line.y if isfinite(y)]
    y_axis = _log(chart.y_label, heights) if chart.log_y else _axis(chart.y_label)
    places = [x for line in chart.lines for x in line.x if isfinite(x)]
    whole = (
        {"dtick": 1}
        if chart.whole_x and max(places, default=0) - min(places, default=0) <= 12
        else {}
    )
    return _spec(data, list(legend.values()), _axis(chart.x_label, **whole), y_axis)


def _points(figure: Points) -> Spec:
    data: list[Spec] = []
    legend: list[Spec] = []
    if figure.steps[0]:
        legend.append(_entry(figure.steps_name, [0], None, "dash"))
        x, y = (_short(part) for part in figure.steps)
        line = {"color": "@ink", "width": 1.5, "dash": "dash", "shape": "hv"}
        data.append(
            {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, "hoverinfo": "skip"}
        )
    xs = [x for cloud in figure.clouds for x in cloud.x]
    labelled = len(xs) <= _LABELLED
    for place, cloud in enumerate(figure.clouds):
        legend.append(_entry(cloud.name, [len(data)], place, SYMBOLS[place % len(SYMBOLS)]))
        data.append(_cloud(cloud, place, labelled, max(xs, default=0.0)))
    x_axis = _log(figure.x_label, xs) if figure.log_x else _axis(figure.x_label)
    return _spec(data, legend, x_axis, _axis(figure.y_label))


def _cloud(cloud: Cloud, place: int, labelled: bool, right: float) -> Spec:
    """right: x from which on there is no room for names on the right."""
    sides = ["bottom left" if x >= right else "bottom right" for x in cloud.x]
    trace: Spec = {
        "type": "scatter",
        "x": _short(cloud.x),
        "y": _short(cloud.y),
        "name": escape(cloud.name),
        "cliponaxis": False,
        "mode": "markers+text" if labelled and cloud.labels else "markers",
        "marker": {"size": 11, "color": colour(place), "symbol": SYMBOLS[place % len(SYMBOLS)]},
    }
    if cloud.labels:
        trace |= {"text": [f" {escape(label)} " for label in cloud.labels], "textposition": sides}
    if cloud.notes:
        trace |= {"hovertext": list(map(escape, cloud.notes)), "hoverinfo": "text"}
    if cloud.errors:
        trace["error_y"] = {
            "array": _short(cloud.errors),
            "color": colour(place, 0.6),
            "thickness": 1.2,
            "width": 4,
        }
    return trace


def _rows(figure: Rows) -> Spec:
    count = len(figure.names)
    row = _ROW if count <= _MANY_ROWS else _SMALL_ROW
    data: list[Spec] = []
    legend: list[Spec] = []
    for place, marks in enumerate(figure.marks):
        sign = {"dot": SYMBOLS[place % len(SYMBOLS)], "thin": "solid"}.get(marks.style, "fill")
        legend.append(_entry(marks.name, [len(data)], place, sign))
        data.append(_marks(figure, marks, place))
    values = [
        value for marks in figure.marks for value in (*marks.values, *marks.to) if value is not None
    ]
    x_axis = _log(figure.x_label, values) if figure.log_x else _axis(figure.x_label)
    y_axis = _axis(
        "",
        tickvals=list(range(count)),
        ticktext=list(map(escape, figure.names)),
        range=[count - 0.4, -0.6],
    )
    y_axis["tickfont"] = {"size": 11 if row == _ROW else 9}
    return _spec(data, legend, x_axis, y_axis, 92 + row * count, barmode="overlay")


def _marks(figure: Rows, marks: Marks, place: int) -> Spec:
    count = len(figure.names)
    notes = marks.notes or [
        f"{name}: {_text(v)}" for name, v in zip(figure.names, marks.values, strict=True)
    ]
    hover = [escape(note) for note in notes]
    common: Spec = {"name": escape(marks.name), "hoverinfo": "text"}
    if marks.style == "bar":
        return common | {
            "type": "bar",
            "orientation": "h",
            "x": _short(marks.values),
            "y": list(range(count)),
            "hovertext": hover,
            "marker": {"color": colour(place, 0.75)},
            "width": 0.7,
        }
    if marks.style == "dot":
        several = len([other for other in figure.marks if other.style == "dot"])
        shift = 0.0 if several == 1 else 0.5 * (place / (several - 1) - 0.5)
        return common | {
            "type": "scatter",
            "mode": "markers",
            "x": _short(marks.values),
            "y": [k + shift for k in range(count)],
            "hovertext": hover,
            "cliponaxis": False,
            "marker": {"size": 9, "color": colour(place), "symbol": SYMBOLS[place % len(SYMBOLS)]},
        }
    thin = marks.style == "thin"
    x = [
        v
        for low, high in zip(_short(marks.values), _short(marks.to), strict=True)
        for v in (low, high, None)
    ]
    return common | {
        "type": "scatter",
        "mode": "lines+markers",
        "x": x,
        "y": [v for k in range(count) for v in (k, k, None)],
        "hovertext": [v for note in hover for v in (note, note, "")],
        "line": {"color": colour(place, 1 if thin else 0.5), "width": 2 if thin else 9},
        "marker": {
            "symbol": "line-ns-open",
            "size": 11 if thin else 1,
            "color": colour(place, 1 if thin else 0.5),
        },
    }


def _heat(figure: Heat) -> Spec:
    scale = (
        [[0, "@low"], [0.5, "@rest"], [1, "@high"]]
        if figure.diverging
        else [[0, "@rest"], [1, "@low"]]
    )
    values = [_short(row) for row in figure.values]
    notes = [
        [
            escape(f"{row} / {column}: {text}")
            for column, text in zip(figure.columns, texts, strict=True)
        ]
        for row, texts in zip(figure.rows, figure.texts, strict=True)
    ]
    small = len(figure.columns) <= 16
    x, y = list(range(len(figure.columns))), list(range(len(figure.rows)))
    trace: Spec = {
        "type": "heatmap",
        "x": x,
        "y": y,
        "z": values,
        "hovertext": notes,
        "hoverinfo": "text",
        "colorscale": scale,
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
    }
    if small:
        trace |= {
            "text": [list(map(escape, row)) for row in figure.texts],
            "texttemplate": "%{text}",
        }
        trace["textfont"] = {"size": 11}
    if figure.diverging:
        most = max((abs(v) for row in figure.values for v in row if v is not None), default=0) or 1
        trace |= {"zmin": -most, "zmax": most}
    elif figure.palest is not None:
        most = max(
            (v for row in figure.values for v in row if v is not None), default=figure.palest + 1
        )
        trace |= {"zmin": figure.palest, "zmax": float(f"{most:.6g}")}
    names = {"showgrid": False, "ticks": ""}
    side = _axis(figure.x_label, tickvals=x, ticktext=list(map(escape, figure.columns)), **names)
    down = _axis(
        figure.y_label,
        tickvals=y,
        ticktext=list(map(escape, figure.rows)),
        autorange="reversed",
        **names,
    )
    return _spec([trace], [], side, down, 112 + max(200, 26 * len(figure.rows)))


def histogram(figure: Histogram, before: str, after: str) -> Spec:
    """One of a chooser; page.js makes its shares logarithmic where that is asked for."""
    edges = figure.edges
    unit = "a step of the grid" if figure.stems else "each bin"
    data: list[Spec] = [
        {
            "type": "bar",
            "name": escape(before),
            "x0": float(f"{figure.start + figure.width / 2:.9g}"),
            "dx": float(f"{figure.width:.9g}"),
            "width": float(f"{figure.width:.6g}"),
            "y": _short(figure.heights),
            "hovertemplate": _AT,
            "marker": {"color": colour(0, 0.55), "line": {"width": 0}},
        }
    ]
    legend = [_entry(before, [0], 0, "fill")]
    if figure.after:
        legend.append(_entry(after, [1], 1, "fill" if figure.stems else "solid"))
        data.append(_after(figure, after))
    shapes = _shapes(figure)
    y_axis = _axis(f"% of values for {unit}")
    x_axis = _axis(figure.x_label, range=_short([edges[0], edges[-1]]))
    return _spec(data, legend, x_axis, y_axis, 340, barmode="overlay", shapes=shapes)


def _after(figure: Histogram, name: str) -> Spec:
    if not figure.stems:
        edges, after = figure.edges, figure.after
        return {
            "type": "scatter",
            "mode": "lines",
            "name": escape(name),
            "x": _short(edges),
            "y": _short([*after, after[-1]]),
            "line": {"shape": "hv", "color": colour(1), "width": 1.6},
            "hoverinfo": "skip",
        }
    return {
        "type": "bar",
        "name": escape(name),
        "x": _short(figure.levels),
        "y": _short(figure.after),
        "width": 0.24 * figure.step,
        "hovertemplate": _AT,
        "marker": {"color": colour(1), "line": {"width": 0}},
    }


def _shapes(figure: Histogram) -> list[Spec]:
    """The ends of the grid, what lies beyond them, and its levels where they can be told apart."""
    if figure.ends is None:
        return []
    low, high = figure.ends
    shapes: list[Spec] = []
    for end, beyond in ((low, figure.edges[0]), (high, figure.edges[-1])):
        shapes.append(
            {
                "type": "rect",
                "x0": end,
                "x1": beyond,
                "y0": 0,
                "y1": 1,
                "yref": "paper",
                "layer": "below",
                "fillcolor": "@ink/0.06",
                "line": {"width": 0},
            }
        )
        shapes.append(_tick(end, 1.0, "dash"))
    if 0 < len(figure.levels) <= MANY_LEVELS and not figure.taken:
        shapes += [_tick(level, 0.04, "solid") for level in figure.levels]
    return shapes


def _tick(x: float, height: float, dash: str) -> Spec:
    line = {"color": "@ink", "width": 1.3, "dash": dash}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": height, "yref": "paper", "line": line}


def _short(values: Grains) -> list[float | None]:
    """Five digits are more than a screen can show; gaps are None."""
    return [None if v is None or not isfinite(v) else float(f"{v:.5g}") for v in values]


def _text(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:,.0f}" if abs(value) >= 1000 and log10(abs(value)) < 12 else f"{value:.4g}"
