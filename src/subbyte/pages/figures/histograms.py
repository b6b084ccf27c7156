"""Histograms of many tensors: one large, all of them small."""

from dataclasses import dataclass
from html import escape
from math import ceil
from typing import Any

from subbyte.pages.browser import cell
from subbyte.pages.canvas import canvas, literal
from subbyte.pages.figure import Figure, Spec
from subbyte.pages.figures.histogram import Histogram
from subbyte.pages.parts import Table

_COLUMNS = 4  # of small histograms in a picture


@dataclass(frozen=True)
class Histograms(Figure):
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

    def table(self) -> Table:
        """See `parts.Shown`."""
        cells: list[tuple[str, ...]] = []
        for one in self.figures:
            edges = one.edges
            bins = one.after if one.after and not one.stems else [None] * len(one.counts)
            for k, count in enumerate(one.counts):
                place = (cell(edges[k]), cell(edges[k + 1]))
                cells.append((one.name, "bin", *place, str(count), cell(bins[k])))
            stems = (one.levels, one.taken, one.after) if one.stems else ((), (), ())
            for level, count, share in zip(*stems, strict=True):
                cells.append((one.name, "level", *[cell(level)] * 2, str(count), cell(share)))
        share = f"{self.after} %" if self.after else "percent"
        header = (self.what, "kind", "from", "to", "values", share)
        return Table(self.title, header, tuple(cells))

    def items(self) -> list[Spec]:
        """See `figure.Figure`."""
        return [one.item(self.before, self.after) for one in self.figures]

    def controls(self) -> tuple[str, str]:
        """A list to choose from and a box for the logarithm; small pictures to press."""
        names = [escape(one.name) for one in self.figures]
        options = "".join(f'<option value="{k}">{name}</option>' for k, name in enumerate(names))
        checked = " checked" if self.logarithm else ""
        what = escape(self.what.capitalize())
        above = (
            f'<div class="controls"><label>{what} <select>{options}</select></label> '
            f'<label><input type="checkbox" class="log"{checked}> logarithmic</label></div>'
        )
        small = "\n".join(
            f'<button type="button" data-k="{k}" aria-pressed="{str(k == 0).lower()}">'
            f"{one.small(logarithm=self.logarithm)}<span>{names[k]}</span></button>"
            for k, one in enumerate(self.figures)
        )
        return above, f'<div class="small" role="group" aria-label="{what}">\n{small}\n</div>'

    def draw(self) -> Any:
        """See `figure.Figure`."""
        rows = ceil(len(self.figures) / _COLUMNS)
        height = 0.6 + 2.1 * rows
        figure, panels = canvas(12, height, rows, _COLUMNS)
        flat = list(panels.flat)
        for axes in flat[len(self.figures) :]:
            axes.set_axis_off()
        for axes, one in zip(flat, self.figures, strict=False):
            one.paint(axes, logarithm=self.logarithm)
        after = f"; {self.after}: narrow bars or line" if self.after else ""
        title = literal(f"{self.title} ({self.before}: filled{after})")
        place = {"x": 0.01, "y": 1 - 0.1 / height, "ha": "left", "va": "top"}
        figure.suptitle(title, fontsize=11, **place)
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / height))
        return figure
