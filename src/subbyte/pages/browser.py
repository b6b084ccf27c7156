"""Helpers of figures that plotly.js draws: axes, colours, and entries of the legend."""

from collections.abc import Sequence
from html import escape
from math import isfinite, log10
from typing import Any

from subbyte.pages.figure import Spec

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down")
HEIGHT = 400  # pixels
_COLOURS = 8


def colour(place: int, opacity: float = 1.0) -> str:
    """A colour of the palette."""
    return f"@{place % _COLOURS}" + (f"/{opacity:g}" if opacity < 1 else "")


def symbol(place: int) -> str:
    """A sign for points."""
    return SYMBOLS[place % len(SYMBOLS)]


def spec(
    data: list[Spec], legend: list[Spec], x: Spec, y: Spec, height: int = HEIGHT, **more: Any
) -> Spec:
    """A drawing with one pair of axes; more: of its layout."""
    layout = {"height": height, "xaxis": x, "yaxis": y, **more}
    return {"data": data, "layout": layout, "legend": legend}


def axis(label: str, **more: Any) -> Spec:
    """An axis of numbers."""
    return ({"title": {"text": escape(label), "standoff": 8}} if label else {}) | more


def log_axis(label: str, values: Sequence[float]) -> Spec:
    """An axis of powers of ten: with 2 and 5 between them where it is short, with any steps where
    that would be too few.
    """
    some = [value for value in values if value > 0]
    low, high = min(some, default=1), max(some, default=1)
    steps: Spec = {"nticks": 6}  # more would lie on each other on a small screen
    if high >= 5 * low:
        steps = {"dtick": 1 if high >= 1000 * low else "D2"}
    return axis(label, type="log", tickformat="~s" if high >= 1000 else "~g", **steps)


def entry(name: str, traces: list[int], color: str, sign: str) -> Spec:
    """An entry of the legend. traces: that it hides and shows; sign: solid, dash, dot, fill, or the
    symbol of points.
    """
    return {"name": name, "traces": traces, "color": color, "sign": sign}


def short(values: Sequence[float | None]) -> list[float | None]:
    """Five digits, as more can't be seen on a screen; gaps are None."""
    return [None if v is None or not isfinite(v) else float(f"{v:.5g}") for v in values]


def said(value: float | None) -> str:
    """A number to be read."""
    if value is None:
        return "none"
    return f"{value:,.0f}" if abs(value) >= 1000 and log10(abs(value)) < 12 else f"{value:.4g}"


def cell(number: float | None) -> str:
    """A number in a table of what a figure shows."""
    return "" if number is None or not isfinite(number) else f"{number:.6g}"
