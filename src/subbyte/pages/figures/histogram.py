"""The histogram of one tensor's values on its grid: bars, and what rounding made of them."""

from dataclasses import dataclass
from html import escape
from math import log10
from typing import Any

from subbyte.pages.browser import axis, colour, entry, short, spec
from subbyte.pages.canvas import COLOURS, literal
from subbyte.pages.figure import Spec

MANY_LEVELS = 32  # beyond which levels are no longer drawn one by one
_HEIGHT = 340  # pixels
_AT = "at %{x:.4g}: %{y:.3g} %<extra></extra>"
_WIDE, _HIGH = 120, 40  # of small pictures


@dataclass(frozen=True)
class Histogram:
    """The distribution of values: counts by bin from `start` on, each `width` wide, out of `total`
    values, some beyond all bins.

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
        """The edges of the bins, one more than there are bins."""
        return [self.start + k * self.width for k in range(len(self.counts) + 1)]

    @property
    def stems(self) -> bool:
        """Whether rounded values are shown level by level."""
        return bool(self.taken) and len(self.levels) <= MANY_LEVELS

    @property
    def step(self) -> float:
        """The width that a percentage is counted for: the mean distance of two levels where there
        are stems, or a bin.
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

    def item(self, before: str, after: str) -> Spec:
        """The drawing for the browser; before, after: names of what is counted."""
        data: list[Spec] = [
            {
                "type": "bar",
                "name": escape(before),
                "x0": float(f"{self.start + self.width / 2:.9g}"),
                "dx": float(f"{self.width:.9g}"),
                "width": float(f"{self.width:.6g}"),
                "y": short(self.heights),
                "hovertemplate": _AT,
                "marker": {"color": colour(0, 0.55), "line": {"width": 0}},
            }
        ]
        entries = [entry(before, [0], colour(0), "fill")]
        if self.after:
            entries.append(entry(after, [1], colour(1), "fill" if self.stems else "solid"))
            data.append(
                {"name": escape(after), **(self._stems() if self.stems else self._outline())}
            )
        unit = "a step of the grid" if self.stems else "each bin"
        x_axis = axis(self.x_label, range=short([self.edges[0], self.edges[-1]]))
        y_axis = axis(f"% of values for {unit}")
        looks = {"barmode": "overlay", "shapes": self._shapes()}
        found = spec(data, entries, x_axis, y_axis, _HEIGHT, **looks)
        return found | {"note": self.about, "name": self.name}

    def _outline(self) -> Spec:
        return {
            "type": "scatter",
            "mode": "lines",
            "x": short(self.edges),
            "y": short([*self.after, self.after[-1]]),
            "line": {"shape": "hv", "color": colour(1), "width": 1.6},
            "hoverinfo": "skip",
        }

    def _stems(self) -> Spec:
        return {
            "type": "bar",
            "x": short(self.levels),
            "y": short(self.after),
            "width": 0.24 * self.step,
            "hovertemplate": _AT,
            "marker": {"color": colour(1), "line": {"width": 0}},
        }

    def _shapes(self) -> list[Spec]:
        """The ends of the grid, what lies beyond them, and its levels where they can be told
        apart.
        """
        shapes: list[Spec] = []
        for end, beyond in zip(self.ends or (), (self.edges[0], self.edges[-1]), strict=False):
            place = {"x0": end, "x1": beyond, "y0": 0, "y1": 1, "yref": "paper"}
            looks = {"layer": "below", "fillcolor": "@ink/0.06", "line": {"width": 0}}
            shapes += [{"type": "rect", **place, **looks}, _tick(end, 1.0, "dash")]
        if self.ends is not None and 0 < len(self.levels) <= MANY_LEVELS and not self.taken:
            shapes += [_tick(level, 0.04, "solid") for level in self.levels]
        return shapes

    def paint(self, axes: Any, *, logarithm: bool) -> None:
        """Draw it in a picture of many."""
        least = min([height for height in self.heights if height > 0], default=1.0)
        floor = least / 2 if logarithm else 0.0
        looks = {"fill": True, "color": COLOURS[0], "alpha": 0.55}
        axes.stairs(self.heights, self.edges, baseline=floor, **looks)
        if self.stems:
            axes.bar(self.levels, self.after, width=0.24 * self.step, color=COLOURS[1])
        elif self.after:
            axes.stairs(self.after, self.edges, color=COLOURS[1], linewidth=1)
        for end in self.ends or ():
            axes.axvline(end, color="#000000", linewidth=0.8, linestyle="--")
        if logarithm:
            axes.set_yscale("log", nonpositive="mask")
            axes.set_ylim(bottom=floor)
        axes.set_title(literal(self.name), fontsize=8, loc="left")
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)

    def small(self, *, logarithm: bool) -> str:
        """A small drawing as SVG, in the colours of the page."""
        edges, heights = self.edges, self.heights
        wide = edges[-1] - edges[0]
        most = max([*heights, *(self.after if self.stems else [])], default=0) or 1.0
        least = min([height for height in heights if height > 0], default=1.0)
        span = log10(most / least) + 0.3

        def y(height: float) -> str:
            logged = logarithm and height > 0
            share = (log10(height / least) + 0.3) / span if logged else height / most
            return f"{_HIGH - _HIGH * max(0.0, min(1.0, share)):.1f}".removesuffix(".0")

        def x(place: float) -> str:
            return f"{_WIDE * (place - edges[0]) / wide:.1f}".removesuffix(".0")

        bars = "".join(f"V{y(v)}H{x(e)}" for v, e in zip(heights, edges[1:], strict=True))
        marks = [f'<path class="before" d="M0 {_HIGH}{bars}V{_HIGH}z"/>']
        if self.stems:
            taken = [(p, v) for p, v in zip(self.levels, self.after, strict=True) if v > 0]
            stems = "".join(f"M{x(p)} {_HIGH}V{y(v)}" for p, v in taken)
            marks.append(f'<path class="after" d="{stems}"/>')
        if self.ends is not None:
            lines = "".join(f"M{x(end)} 0V{_HIGH}" for end in self.ends)
            marks.append(f'<path class="ends" d="{lines}"/>')
        return f'<svg viewBox="0 0 {_WIDE} {_HIGH}" aria-hidden="true">{"".join(marks)}</svg>'


def _tick(x: float, height: float, dash: str) -> Spec:
    line = {"color": "@ink", "width": 1.3, "dash": dash}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": height, "yref": "paper", "line": line}
