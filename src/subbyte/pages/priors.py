"""Optimal clipping of Laplace's and Gauss's distribution, as tables, curves and a page.

Errors are in units of b^2 or sigma^2. `expected` integrates the squared error of the very levels;
the paper's formula approximates it with 2^bits cells; simulated values are drawn, and quantized
with `core.Grid`.
"""

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from subbyte.core import Grid, GridSpec, Levels
from subbyte.io.files import write_text
from subbyte.pages.charts import Chart, Line, Table, write_html, write_png
from subbyte.ranges.aciq_coding import draw
from subbyte.ranges.priors import Prior, alpha, exact_alpha, formula_mse, level_mse

KINDS: tuple[tuple[Prior, bool], ...] = (
    ("laplace", False),
    ("laplace", True),
    ("gauss", False),
    ("gauss", True),
)
"""Priors, and whether after a ReLU."""
_POINTS = 60  # closer together near 0, where few bits have their optimum
_FURTHEST = {"laplace": 14.0, "gauss": 6.0}
_UNITS = {"laplace": "b", "gauss": "sigma"}


@dataclass(frozen=True)
class Optimum:
    """Where to clip for one width: by W(3 n^2) and its like with the number of steps n, with the
    paper's 2^bits, and truly best; the expected error of each; and the error that the paper's
    formula promises.
    """

    prior: str
    one_sided: bool
    bits: int
    alpha: float
    alpha_paper: float
    alpha_best: float
    mse: float
    mse_paper: float
    mse_best: float
    mse_paper_promises: float


@dataclass(frozen=True)
class Point:
    """The error at one place of clipping."""

    prior: str
    one_sided: bool
    bits: int
    alpha: float
    paper: float
    expected: float
    simulated: float


def title_of(prior: Prior, one_sided: bool) -> str:
    """Such as 'Laplace, after a ReLU'."""
    return f"{prior.capitalize()}, {'after a ReLU' if one_sided else 'signed'}"


def optima(prior: Prior, one_sided: bool, widths: Iterable[int]) -> list[Optimum]:
    """One row a width."""
    rows = []
    for bits in widths:
        steps = 2**bits - 1
        places = (
            alpha(prior, steps, one_sided),
            alpha(prior, 2**bits, one_sided),
            exact_alpha(prior, steps, one_sided),
        )
        ours, paper, best = (
            float(level_mse(prior, a * _shape(bits, one_sided), one_sided=one_sided))
            for a in places
        )
        promised = float(formula_mse(prior, np.asarray(places[1]), 2**bits, one_sided))
        rows.append(Optimum(prior, one_sided, bits, *places, ours, paper, best, promised))
    return rows


def _shape(bits: int, one_sided: bool) -> Any:
    """Levels whose outermost is 1."""
    return np.linspace(0.0 if one_sided else -1.0, 1.0, 2**bits)


def curve(prior: Prior, one_sided: bool, bits: int, samples: int, seed: int) -> list[Point]:
    """The error of clipping from near 0 to beyond the optimum of 8 bits."""
    values = draw(prior, samples, torch.Generator().manual_seed(seed))
    values = values.clamp_min(0) if one_sided else values
    shape = _shape(bits, one_sided)
    spec = GridSpec(Levels(tuple(shape)))
    points = []
    for a in _FURTHEST[prior] * np.linspace(0, 1, _POINTS + 1)[1:] ** 1.6:
        error = (Grid.of(spec, torch.tensor(a)).quantize(values) - values).square().mean()
        expected = float(level_mse(prior, a * shape, one_sided=one_sided))
        paper = float(formula_mse(prior, a, 2**bits, one_sided))
        points.append(Point(prior, one_sided, bits, float(a), paper, expected, float(error)))
    return points


def table(rows: list[Optimum], prior: Prior, one_sided: bool) -> Table:
    """Optima side by side."""
    unit = _UNITS[prior]
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
    title = f"{title_of(prior, one_sided)}: alpha / {unit} and expected error / {unit}²"
    return Table(title, ("bits", "alpha", "MSE", "paper's", "MSE", "best", "MSE"), tuple(cells))


def chart(points: list[Point], prior: Prior, one_sided: bool) -> Chart:
    """Expected errors as lines, simulated ones dashed in the same colour."""
    lines = []
    for bits in dict.fromkeys(point.bits for point in points):
        mine = [point for point in points if point.bits == bits]
        name, places = f"{bits} bit{'s' * (bits > 1)}", [point.alpha for point in mine]
        lines.append(Line(name, places, [point.expected for point in mine]))
        lines.append(Line(name, places, [point.simulated for point in mine], dashed=True))
    unit = _UNITS[prior]
    return Chart(
        f"{title_of(prior, one_sided)}: error against clipping point (dashed: simulated)",
        f"alpha / {unit}",
        f"mean square error / {unit}²",
        tuple(lines),
        log_y=True,
    )


def write_priors(
    folder: Path,
    widths: tuple[int, ...],
    samples: int,
    seed: int,
    done: Callable[[int, int, str], None],
) -> None:
    """Write alphas.csv, mse.csv, a picture of each kind and aciq.html. done: called with (k, of n,
    what) on the way.
    """
    rows: list[Optimum] = []
    points: list[Point] = []
    parts: list[Chart | Table | str] = [
        "Where to clip before quantizing, and what it costs: with 2^bits - 1 steps between the "
        "outermost levels, with "
        "the paper's 2^bits, and at the true optimum. Lines are exact expectations; dashed lines "
        "are measured on "
        f"{samples:,} values drawn with seed {seed}."
    ]
    for number, (prior, one_sided) in enumerate(KINDS):
        mine = optima(prior, one_sided, widths)
        drawn = [point for bits in widths for point in curve(prior, one_sided, bits, samples, seed)]
        picture = chart(drawn, prior, one_sided)
        write_png(picture, folder / f"{prior}-{'relu' if one_sided else 'signed'}.png")
        parts += [table(mine, prior, one_sided), picture]
        rows, points = rows + mine, points + drawn
        done(number + 1, len(KINDS), picture.title)
    write_text(folder / "alphas.csv", _csv(rows))
    write_text(folder / "mse.csv", _csv(points))
    write_html("Analytical clipping", parts, folder / "aciq.html")


def _csv(rows: list[Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(rows[0]))
    writer.writerows(
        [f"{v:.8g}" if isinstance(v, float) else v for v in astuple(row)] for row in rows
    )
    return text.getvalue()
