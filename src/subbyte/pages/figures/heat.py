"""Matrices in colours, such as accuracy by two settings, or who was taken for whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from subbyte.pages.browser import axis, short, spec
from subbyte.pages.canvas import COLOURS, canvas, frame, literal
from subbyte.pages.figure import Figure, Spec
from subbyte.pages.parts import Table

_READ = 16  # columns up to which the cells have their texts in them


@dataclass(frozen=True)
class Heat(Figure):
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
    values: tuple[Sequence[float | None], ...]
    texts: tuple[Sequence[str], ...]
    diverging: bool = False
    palest: float | None = None

    def table(self) -> Table:
        """See `parts.Shown`."""
        shown = [(name, *texts) for name, texts in zip(self.rows, self.texts, strict=True)]
        header = (f"{self.y_label} / {self.x_label}", *self.columns)
        return Table(self.title, header, tuple(shown))

    @property
    def _known(self) -> list[float]:
        return [v for row in self.values for v in row if v is not None]

    def _ends(self) -> dict[str, float]:
        """Values of the palest and of the strongest colour, where they are not the smallest and the
        largest.
        """
        if self.diverging:
            most = max(map(abs, self._known), default=0) or 1
            return {"zmin": -most, "zmax": most}
        if self.palest is None:
            return {}
        most = max(self._known, default=self.palest + 1)
        return {"zmin": self.palest, "zmax": float(f"{most:.6g}")}

    def items(self) -> list[Spec]:
        """See `figure.Figure`."""
        low_to_high = [[0, "@low"], [0.5, "@rest"], [1, "@high"]]
        notes = [
            [
                escape(f"{row} / {column}: {text}")
                for column, text in zip(self.columns, texts, strict=True)
            ]
            for row, texts in zip(self.rows, self.texts, strict=True)
        ]
        trace: Spec = {
            "type": "heatmap",
            "x": list(range(len(self.columns))),
            "y": list(range(len(self.rows))),
            "z": [short(row) for row in self.values],
            "hovertext": notes,
            "hoverinfo": "text",
            "colorscale": low_to_high if self.diverging else [[0, "@rest"], [1, "@low"]],
            "showscale": False,
            "xgap": 1,
            "ygap": 1,
            "hoverongaps": False,
            **self._ends(),
        }
        if len(self.columns) <= _READ:
            texts = [list(map(escape, row)) for row in self.texts]
            trace |= {"text": texts, "texttemplate": "%{text}", "textfont": {"size": 11}}
        x_axis, y_axis = (
            axis(label, tickvals=list(range(len(names))), ticktext=list(map(escape, names)))
            | {"showgrid": False, "ticks": ""}
            for label, names in ((self.x_label, self.columns), (self.y_label, self.rows))
        )
        height = 112 + max(200, 26 * len(self.rows))
        return [spec([trace], [], x_axis, y_axis | {"autorange": "reversed"}, height)]

    def draw(self) -> Any:
        """See `figure.Figure`."""
        import numpy as np

        figure, axes = canvas(8, max(5.0, 1.2 + 0.24 * len(self.rows)))
        frame(axes, self.title, self.x_label, self.y_label)
        matrix = np.array(
            [[np.nan if v is None else v for v in row] for row in self.values], dtype=float
        )
        ends = {name.replace("z", "v"): value for name, value in self._ends().items()}
        axes.grid(visible=False)
        axes.spines[["top", "right"]].set_visible(True)
        axes.imshow(matrix, cmap=_colours(self.diverging), aspect="auto", **ends)
        columns = list(map(literal, self.columns))
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
        axes.set_yticks(range(len(self.rows)), list(map(literal, self.rows)))
        if len(self.columns) <= _READ:
            self._write(axes)
        return figure

    def _write(self, axes: Any) -> None:
        """The texts, in white on what is dark."""
        low, high = min(self._known, default=0.0), max(self._known, default=0.0)
        for y, row in enumerate(self.texts):
            for x, text in enumerate(row):
                value = self.values[y][x]
                dark = value is not None and value > low + 0.6 * (high - low)
                ink = "#ffffff" if dark and not self.diverging else "#000000"
                axes.text(x, y, literal(text), ha="center", va="center", fontsize=8, color=ink)


def _colours(diverging: bool) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    colours = [COLOURS[0], "#ffffff", COLOURS[1]] if diverging else ["#ffffff", COLOURS[0]]
    return LinearSegmentedColormap.from_list("subbyte", colours)
