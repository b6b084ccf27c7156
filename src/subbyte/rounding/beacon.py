"""Beacon: whole numbers first, the scale afterwards (Zhang, Saab 2025).

    max_{q in A^d} cos( X w, X_q q ),   then   s = <X w, X_q q> / ||X_q q||^2

The scale drops out of the cosine. In Gram terms, for column t and S = sum_{j != t} q_j X_q,j:

    a = <X w, S>, b = (G w)_t, e = ||S||^2, f = (H q_{-t})_t, g = H_tt
    score(p) = (a + b p) / sqrt(e + 2 f p + g p^2)
    best at one of the neighbours of p* = (b e - a f) / (a g - b f), or at an end of A

1  start: codes of the recipe's grid (`nearest`), or a greedy path of the same score on partial sums
   (`greedy`)
2  `sweeps` cyclic visits of every column

The greedy path's first column decides the resolution of the whole row, and every code of the right
sign scores alike: here the one in proportion to the weight is taken; `first: smallest` takes the
first of the best in rising order, as the authors' code does. Objective: ||X w - s X_q q||^2; needs
a scale a channel. A row that nearest would serve better is rounded to nearest. Cost: 2 rows d^2 a
sweep; the greedy start rows d^3.
"""

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from subbyte.core import Grid, QTensor
from subbyte.io.numbers import Natural
from subbyte.methods import FitGrid, Refusal, Rounding
from subbyte.rounding.solve import best_of
from subbyte.rounding.sweeps import refit_scales
from subbyte.stats import LayerStats

_TIE = 1e-12  # relative


class Start(StrEnum):
    """The codes that visits begin with."""

    NEAREST = "nearest"
    GREEDY = "greedy"


class First(StrEnum):
    """The code of a greedy path's first column."""

    PROPORTIONAL = "proportional"
    SMALLEST = "smallest"


@dataclass(frozen=True)
class Beacon(Rounding):
    """Choose codes by the angle between outputs.

    sweeps: visits of every column; start: nearest or greedy; first: of a greedy start's first
    column, in proportion to the weight or the smallest of the best codes.
    """

    sweeps: Natural = 5
    start: Start = Start.NEAREST
    first: First = First.PROPORTIONAL

    refuses = (
        Refusal(
            lambda self, spec: not spec.share.by_row,
            "beacon finds one scale a row: granularity must be channel",
        ),
        Refusal(
            lambda self, spec: spec.alphabet.varies,
            "beacon needs the same levels for every row; it can't allocate bits to channels",
        ),
    )

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        self.check(fit.spec)
        grid = fit(weight)
        nearest = QTensor.nearest(weight, grid)
        units = _Units(grid, stats)
        w = stats.grouped(weight)
        linear = w @ stats.G.mT
        if self.start == Start.NEAREST:
            q = stats.grouped(grid.units(nearest.codes))
        else:
            q = _greedy(w, units, stats, self.first)
        for _ in range(self.sweeps):
            before, q = q, _visit(q, linear, units, stats.H)
            if torch.equal(before, q):
                break
        codes = QTensor.nearest(q.reshape(weight.shape).float() * grid.scale, grid)
        result = refit_scales(linear, codes, stats)
        return best_of(weight, [nearest, result], stats)


class _Units:
    """The numbers that codes stand for, in steps: rising, float64 [groups, rows, count]."""

    def __init__(self, grid: Grid, stats: LayerStats) -> None:
        table = grid.table().to(torch.float64)
        self.table = table.reshape(stats.H.shape[0], -1, table.shape[1])

    def candidates(self, p: Tensor) -> Tensor:
        """Both neighbours of p and both ends, in rising order: [groups, rows, 4]."""
        above = torch.searchsorted(self.table, p[..., None].contiguous())
        last = self.table.shape[-1] - 1
        index = torch.cat(
            [0 * above, (above - 1).clamp(0, last), above.clamp(0, last), 0 * above + last], -1
        )
        return self.table.gather(2, index)


def _visit(q: Tensor, linear: Tensor, units: _Units, H: Tensor) -> Tensor:
    """One visit of every column; float64 [groups, rows, columns]. A code changes only for a better
    score.
    """
    q, Hq = q.clone(), q @ H
    total, energy = (q * linear).sum(-1), (q * Hq).sum(-1)  # <X w, X_q q> and ||X_q q||^2
    for t in range(q.shape[-1]):
        old, b, g = q[..., t], linear[..., t], H[:, t, t, None].expand_as(q[..., t])
        a, f = total - b * old, Hq[..., t] - g * old
        e = energy - 2 * f * old - g * old * old
        choices = torch.cat([old[..., None], units.candidates(_critical(a, b, e, f, g))], -1)
        new = _best(choices, a, b, e, f, g)
        total, energy = a + b * new, e + 2 * f * new + g * new * new
        Hq += (new - old)[..., None] * H[:, None, t]
        q[..., t] = new
    return q


def _greedy(w: Tensor, units: _Units, stats: LayerStats, first: First) -> Tensor:
    """The path: column t is chosen for the angle of the sums over columns 0..t."""
    q = torch.zeros_like(w)
    peak = w.abs().amax(-1).clamp_min(torch.finfo(w.dtype).tiny)
    for t in range(w.shape[-1]):
        partial = w[..., : t + 1] @ stats.G[:, : t + 1, : t + 1].mT  # (G w) of the columns so far
        past = q[..., :t]
        a = (past * partial[..., :t]).sum(-1)
        Hq = past @ stats.H[:, :t, : t + 1]
        e, f = (past * Hq[..., :t]).sum(-1), Hq[..., t]
        b, g = partial[..., t], stats.H[:, t, t, None].expand_as(e)
        choices = units.candidates(_critical(a, b, e, f, g))
        if t == 0 and first == First.PROPORTIONAL:
            ends = torch.where(w[..., 0] < 0, -units.table[..., 0], units.table[..., -1])
            wanted = w[..., 0] / peak * ends
            q[..., 0] = _closest(units.table, wanted)
            continue
        if t == 0:
            choices = units.table
        q[..., t] = _best(choices, a, b, e, f, g)
    return q


def _closest(table: Tensor, wanted: Tensor) -> Tensor:
    index = (table - wanted[..., None]).abs().argmin(-1, keepdim=True)
    return table.gather(2, index)[..., 0]


def _critical(a: Tensor, b: Tensor, e: Tensor, f: Tensor, g: Tensor) -> Tensor:
    bottom = a * g - b * f
    return torch.where(bottom == 0, 0.0, (b * e - a * f) / torch.where(bottom == 0, 1.0, bottom))


def _best(choices: Tensor, a: Tensor, b: Tensor, e: Tensor, f: Tensor, g: Tensor) -> Tensor:
    """The choice with the highest score, the first of equals: choices [groups, rows, n]."""
    a, b, e, f, g = (x[..., None] for x in (a, b, e, f, g))
    norm = e + 2 * f * choices + g * choices * choices
    score = torch.where(
        norm > 0, (a + b * choices) / norm.clamp_min(torch.finfo(norm.dtype).tiny).sqrt(), 0.0
    )
    top = score.amax(-1, keepdim=True)
    first = (score >= top - _TIE * top.abs()).to(torch.uint8).argmax(-1, keepdim=True)
    return choices.gather(2, first)[..., 0]
