"""The pages of `subbyte aciq`: where to clip values of two distributions, and what it costs."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from subbyte.pages.figures import Chart, Line
from subbyte.pages.parts import Section, Story, Table
from subbyte.pages.subject import Named, Subject, View
from subbyte.records.aciq import ALPHAS, Clipped, Clipping, Optimum, read_clipping

_UNITS = {"laplace": "b", "gauss": "sigma"}
_SPREADS = tuple(k / 4 for k in range(9))
_TOLD = (
    "Where to clip before quantizing, and what it costs: with 2^bits - 1 steps between the "
    "outermost levels, with the paper's 2^bits, and at the true optimum. Lines are exact "
    "expectations; dashed lines are measured on {samples:,} values drawn with seed {seed}."
)


class Clippings(Subject[Named[Clipping]]):
    """Folders of `subbyte aciq`."""

    title = "Analytical clipping"
    holds = f"analytical clipping ({ALPHAS})"
    files = (ALPHAS,)

    def read(self, name: str, folder: Path) -> Named[Clipping]:
        """See `subject.Subject`."""
        return Named(name, read_clipping(folder))

    def tell(self, found: Sequence[Named[Clipping]], view: View) -> Story:
        """See `subject.Subject`."""
        sentences = tuple(dict.fromkeys(_sentence(one.found) for one in found))
        if len(found) == 1:
            return Story(sentences, _sections(found[0].found), self.title)
        sections = [Section(one.name, _sections(one.found), folded=True) for one in found]
        return Story(sentences, tuple(sections))


def _sentence(clipping: Clipping) -> str:
    first = clipping.errors[0]
    return _TOLD.format(samples=first.samples, seed=first.seed)


def _sections(clipping: Clipping) -> tuple[Section, ...]:
    """A table and two charts for each prior."""
    found = zip(_by_prior(clipping.optima), _by_prior(clipping.errors), strict=True)
    return tuple(
        Section(prior_name(rows[0]), (table(rows), chart(points), spread_chart(rows)))
        for rows, points in found
    )


P = TypeVar("P", Optimum, Clipped)


def _by_prior(rows: Sequence[P]) -> list[list[P]]:
    """Rows that follow each other and are of one prior."""
    return [list(mine) for _, mine in groupby(rows, key=prior_name)]


def prior_name(row: Optimum | Clipped) -> str:
    """Such as 'Laplace, after a ReLU'."""
    return f"{row.prior.capitalize()}, {'after a ReLU' if row.one_sided else 'signed'}"


def tables(optima: Sequence[Optimum]) -> list[Table]:
    """Optima side by side, a table a prior."""
    return list(map(table, _by_prior(optima)))


def table(rows: Sequence[Optimum]) -> Table:
    """Optima of one prior side by side."""
    unit = _UNITS[rows[0].prior]
    cells = [
        (
            f"{row.bits}",
            f"{row.alpha:.4f}",
            f"{row.mse:.4e}",
            f"{row.alpha_paper:.4f}",
            f"{row.mse_paper:.4e}",
            f"{row.alpha_best:.4f}",
            f"{row.mse_best:.4e}",
        )
        for row in rows
    ]
    title = f"{prior_name(rows[0])}: alpha / {unit} and expected error / {unit}²"
    return Table(title, ("bits", "alpha", "MSE", "paper's", "MSE", "best", "MSE"), tuple(cells))


def chart(points: Sequence[Clipped]) -> Chart:
    """Expected errors as lines, simulated ones dashed in the same colour."""
    lines = []
    for bits, mine in groupby(points, key=lambda point: point.bits):
        some = list(mine)
        name, places = f"{bits} bit{'s' * (bits > 1)}", [point.alpha for point in some]
        lines.append(Line(name, places, [point.expected for point in some]))
        lines.append(Line(name, places, [point.simulated for point in some], dashed=True))
    unit = _UNITS[points[0].prior]
    return Chart(
        f"{prior_name(points[0])}: error against clipping point (dashed: simulated)",
        f"alpha / {unit}",
        f"mean square error / {unit}²",
        tuple(lines),
        log_y=True,
    )


def spread_chart(rows: Sequence[Optimum]) -> Chart:
    """Where to clip as the values spread wider: a straight line for each width, dashed for the
    least exact expected error.
    """
    unit, lines = _UNITS[rows[0].prior], []
    for row in rows:
        name = f"{row.bits} bit{'s' * (row.bits > 1)}"
        for alpha, dashed in ((row.alpha, False), (row.alpha_best, True)):
            places = [alpha * spread for spread in _SPREADS]
            lines.append(Line(name, list(_SPREADS), places, dashed=dashed))
    return Chart(
        f"{prior_name(rows[0])}: clipping point against {unit} (dashed: best by exact error)",
        f"{unit} of the values",
        "alpha",
        tuple(lines),
    )
