"""Helpers of figures that matplotlib draws: the optional extra `plots`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from subbyte.errors import SubbyteError
from subbyte.io.files import written

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933")
"""Told apart with every kind of colour vision (Okabe and Ito; Tol)."""
MARKERS = "osD^PX*v"


def canvas(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A figure of matplotlib, in inches, and its axes; several as an array.

    Raises SubbyteError when matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SubbyteError("pictures need matplotlib: pip install 'subbyte[plots]'") from error
    figure = Figure(figsize=(width, height), dpi=150)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=rows * columns == 1)


def save(figure: Any, path: Path) -> None:
    """Write a picture whole or not at all; the same figure gives the same bytes."""
    with written(path) as temporary:
        figure.savefig(temporary, format="png", bbox_inches="tight", metadata={"Software": None})


def frame(axes: Any, title: str, x_label: str, y_label: str = "") -> None:
    """Title, labels, and a grid behind what is drawn."""
    axes.set_title(literal(title), loc="left", fontsize=11, wrap=True)
    axes.set_xlabel(literal(x_label))
    axes.set_ylabel(literal(y_label))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(axes: Any) -> None:
    """Put the legend on the right of the drawing."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)


def log_x(axes: Any, values: Sequence[float | None]) -> None:
    """Powers of ten, with 2 and 5 between them where the values are not far apart."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    some = [value for value in values if value is not None and value > 0]
    short = bool(some) and max(some) < 1000 * min(some)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def log_y(axes: Any) -> None:
    """Make the y axis logarithmic, labelled as by `log_x`, over what is drawn already; gaps where
    values are 0 or less.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    axes.set_yscale("log", nonpositive="mask")
    low, high = axes.get_ylim()
    if high < 1000 * low:  # powers of ten alone would be too few
        wide = high > 20 * low
        axes.yaxis.set_major_locator(
            LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator("auto", steps=[1, 2, 5, 10])
        )
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(NullLocator())


def whole_x(axes: Any) -> None:
    """Whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def literal(text: str) -> str:
    """Text for matplotlib, which reads $...$ as mathematics, and leaves names that start with _ out
    of legends.
    """
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", r"\$")
