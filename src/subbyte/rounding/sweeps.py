"""Coordinate descent on the output error, with least-squares refits of the scales: a kernel of
several methods.

For the objective q'Hq - 2 l'q, where l = G w, or H w* for a target w*:

    q_j <- Q( q_j + (l - H q)_j / H_jj )         one column after the other, all rows at once
    s   <- u'l / u'Hu,   q = s u                 the best scale for the codes' units u

(QuantEase, Behdin et al. 2023; COMQ, Zhang et al. 2025). Neither step can raise it. Unlike GPTQ's
recursion a sweep sees clipping and revisits earlier choices. Several starts go side by side, and
the slope (l - H q)_j / H_jj is kept up to date, from which the refits follow, too. Cost: 2 rows d^2
a sweep; where few codes are left to change, rows d for each change of a row (`changes`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from subbyte.core import QTensor, Share
from subbyte.rounding.changes import change_in_turn, worth_it
from subbyte.rounding.columns import Columns
from subbyte.rounding.turns import column_major, in_turn, row_major, subtract_product
from subbyte.stats import LayerStats

_BLOCK = 256
_TOGETHER = 16  # columns of a sum: they stay in the cache


def descend(
    linear: Tensor, starts: Sequence[QTensor], stats: LayerStats, sweeps: int
) -> list[QTensor]:
    """`sweeps` times: refit the scales, then visit every column; a last refit ends it. A row of
    one scale is done when a sweep changes none of its codes.

    linear: l, float64 [groups, rows, columns]; starts: codes to begin with, on grids that differ in
    their scales alone.
    """
    stack = _Stack(linear, starts, stats)
    for _ in range(sweeps):
        stack.refit()
        stack.sweep()
        if stack.done:
            return stack.rounded()
    stack.refit()
    return stack.rounded()


class _Stack:
    """Codes of several starts on their way down: [columns, groups, starts * rows], of which those
    rows are at work that are not done.
    """

    def __init__(self, linear: Tensor, starts: Sequence[QTensor], stats: LayerStats) -> None:
        self._starts, grids = starts, [one.grid for one in starts]
        self._share = grids[0].spec.share
        self._steps, pulls = unit_diagonal(linear, stats)
        self._lower = self._steps.tril()
        self._power = stats.power.to(torch.float32).T[..., None]  # [columns, groups, 1]
        self._pulls = column_major(pulls.repeat(1, len(starts), 1))
        units = [stats.grouped(one.grid.units(one.codes)) for one in starts]
        self._units = column_major(torch.cat(units, 1).to(torch.float32))
        self._columns = Columns(grids, tuple(torch.cat(units, 1).shape), torch.float32)
        self._slope = self._pulls.clone()
        subtract_product(self._slope, self._steps, self._units * self._columns.scales)
        self._all = self._units.clone(), self._columns.scales.clone()
        self._rows = torch.arange(self._units.shape[2], device=linear.device)
        self._changes = len(self._units)  # of a row in the last sweep, at most

    @property
    def done(self) -> bool:
        """Whether no row is at work."""
        return not len(self._rows)

    def refit(self) -> None:
        """The best scales for the codes; see `refit_scales`."""
        if self._share.block is None:
            self._refit_rows()
            return
        for start in range(0, len(self._units), self._share.block):
            self._refit_part(slice(start, start + self._share.block))

    def _refit_rows(self) -> None:
        """One scale for all columns: u'Hu follows from the slope."""
        scale = self._columns.scales[0]
        fit, rest = torch.zeros_like(scale), torch.zeros_like(scale)
        for start in range(0, len(self._units), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            u = self._units[part] * self._power[part]
            fit += (u * self._pulls[part]).sum(0)
            rest += u.mul_(self._slope[part]).sum(0)
        energy = (fit - rest) / scale
        if self._share.one_scale:
            fit, energy = self._summed(fit), self._summed(energy)
        fitted = _positive_ratio(fit, energy, scale)
        self._slope.lerp_(self._pulls, 1 - fitted / scale)
        self._columns.scales[0] = fitted

    def _summed(self, each: Tensor) -> Tensor:
        """Sums over all rows of each start, at all of them: [groups, starts * rows]."""
        parts = each.reshape(len(each), -1, self._all[0].shape[2] // len(self._starts))
        return parts.sum((0, 2), keepdim=True).expand_as(parts).reshape(each.shape)

    def _refit_part(self, part: slice) -> None:
        """The scale of some columns, those of the others standing."""
        u, scale = self._units[part], self._columns.scales[part.start]
        own = self._steps[:, part, part].mT @ u.transpose(0, 1)  # [groups, columns, rows]
        weighted = u * self._power[part]
        energy = (weighted * own.transpose(0, 1)).sum(0)
        fit = (weighted * self._slope[part]).sum(0) + scale * energy
        fitted = _positive_ratio(fit, energy, scale)
        subtract_product(self._slope, self._steps[:, part], u * (fitted - scale))
        self._columns.scales[part] = fitted

    def sweep(self) -> None:
        """Visit every column of the rows at work. Rows of which no code changes are done; unless
        each has one scale only whole starts are, as refits go on to gain.
        """
        if len(self._columns.scales) == 1 and worth_it(self._changes, self._units.shape):
            changes = change_in_turn(self._units, self._slope, self._steps, self._columns)
        else:
            changes = self._visit_all()
        self._changes = int(changes.max())
        if not self._share.by_row:
            changes = self._summed(changes)
        self._keep(changes.any(0).nonzero()[:, 0])

    def _visit_all(self) -> Tensor:
        """Visit column after column; the number of changes of each row, float32 [groups, rows]."""
        moved = _visit_all(self._units, self._slope, self._steps, self._columns)
        for start in range(0, len(moved), _BLOCK):  # those behind have not heard of it
            part = self._lower[:, start:, start : start + _BLOCK]
            subtract_product(self._slope[start : start + _BLOCK], part, moved[start:])
        return (moved != 0).sum(0, dtype=torch.float32)

    def _keep(self, kept: Tensor) -> None:
        """Go on with some of the rows at work."""
        if len(kept) == len(self._rows):
            return
        self._store()
        self._rows = self._rows[kept]
        if self.done:
            return
        self._columns = self._columns.of_rows(kept)
        self._units, self._slope, self._pulls = (
            values.index_select(2, kept) for values in (self._units, self._slope, self._pulls)
        )

    def _store(self) -> None:
        for whole, now in zip(self._all, (self._units, self._columns.scales), strict=True):
            whole.index_copy_(2, self._rows, now)

    def rounded(self) -> list[QTensor]:
        """The codes of all rows."""
        if not self.done:
            self._store()
        units, scales = self._all
        values = row_major(units * scales).chunk(len(self._starts), 1)
        own = row_major(scales)[..., :: self._share.block or 1].chunk(len(self._starts), 1)
        return [self._rounded(*each) for each in zip(self._starts, values, own, strict=True)]

    def _rounded(self, start: QTensor, values: Tensor, scale: Tensor) -> QTensor:
        numbers = scale.reshape(-1)[: 1 if self._share.one_scale else None]
        grid = start.grid.with_scale(self._share.shaped(numbers, len(start.codes)))
        return QTensor.nearest(values.reshape(start.codes.shape), grid)


def refit_scales(linear: Tensor, rounded: QTensor, stats: LayerStats) -> QTensor:
    """Least-squares scales for fixed codes; a scale that would not be positive stays.

    linear: l, float64 [groups, rows, columns]. With several groups in a row their scales are
    refitted one after the other.
    """
    units = rounded.grid.units(rounded.codes)
    grid = rounded.grid
    return rounded.with_scale(fitted_scales(linear, units, grid.scale, grid.spec.share, stats))


def fitted_scales(
    linear: Tensor, units: Tensor, scale: Tensor, share: Share, stats: LayerStats
) -> Tensor:
    """The scales of `refit_scales`, for units [rows, columns] and the scales that they have."""
    if share.block is None:
        u = stats.grouped(units)
        fit = (u * linear).sum(-1).reshape(-1, 1)
        energy = ((u @ stats.H) * u).sum(-1).reshape(-1, 1)
        return _positive_ratio(share.sums(fit), share.sums(energy), scale)
    scale, size = scale.clone(), share.block
    q = stats.grouped(units * share.spread(scale, units.shape[1]))
    slope = linear - q @ stats.H
    for k in range(scale.shape[1]):
        part = slice(k * size, (k + 1) * size)
        u = stats.grouped(units)[..., part]
        uH = u @ stats.H[:, part]
        energy = (uH[..., part] * u).sum(-1).reshape(-1)
        fit = (u * slope[..., part]).sum(-1).reshape(-1) + scale[:, k] * energy
        fitted = _positive_ratio(fit, energy, scale[:, k])
        slope -= (fitted - scale[:, k]).reshape(*u.shape[:2], 1) * uH
        scale[:, k] = fitted
    return scale


def _positive_ratio(numerator: Tensor, denominator: Tensor, fallback: Tensor) -> Tensor:
    ratio = numerator / denominator.clamp_min(torch.finfo(torch.float64).tiny)
    sound = (denominator > 0) & (ratio > torch.finfo(torch.float32).tiny) & torch.isfinite(ratio)
    return torch.where(sound, ratio, fallback.to(torch.float64)).to(torch.float32)


def unit_diagonal(linear: Tensor, stats: LayerStats) -> tuple[Tensor, Tensor]:
    """H and l with column j divided by H_jj, float32; 0 for columns without input."""
    diagonal = stats.power[:, None, :]
    inverse = torch.where(diagonal > 0, 1 / diagonal, 0.0)
    return (stats.H * inverse).to(torch.float32), (linear * inverse).to(torch.float32)


def sweep(pulls: Tensor, q: Tensor, steps: Tensor, columns: Columns) -> Tensor:
    """One visit of every column in natural order; float32 [groups, rows, columns]. Dead columns
    keep their value.

    steps, pulls: see `unit_diagonal`.
    """
    units = column_major(q) / columns.scales
    slope = column_major(pulls - q @ steps)
    _visit_all(units, slope, steps, columns)
    return row_major(units * columns.scales)


def _visit_all(units: Tensor, slope: Tensor, steps: Tensor, columns: Columns) -> Tensor:
    """One visit of every column, in place; what each moved by, [columns, groups, rows]. The slope
    is afterwards that of the values before each column, and the new ones behind it.
    """
    moved = torch.empty_like(units)
    # views of single columns, [groups * rows, 1]: to make them takes as long as to round one
    now, pushed, by = (x.view(len(x), -1, 1).unbind() for x in (units, slope, moved))
    scales = columns.scales.view(len(columns.scales), -1, 1).unbind()
    several = len(scales) > 1

    def visit(j: int) -> None:
        scale = scales[j if several else 0]
        new = columns.ladder(j).nearest((pushed[j] / scale).add_(now[j]))
        torch.sub(new, now[j], out=by[j]).mul_(scale)
        now[j].copy_(new)

    in_turn(visit, slope, [(moved, steps)])
    return moved


def sweep_by_row(
    pulls: Tensor, q: Tensor, steps: Tensor, columns: Columns, order: Tensor
) -> Tensor:
    """`sweep` with an order of columns for each row, int64 [groups, rows, columns]."""
    q = q.clone()
    slope = pulls - q @ steps
    groups = torch.arange(q.shape[0], device=q.device)[:, None]
    for visit in range(q.shape[-1]):
        j = order[..., visit]  # [groups, rows]
        old = q.gather(2, j[..., None])[..., 0]
        new = columns.round_each(old + slope.gather(2, j[..., None])[..., 0], j)
        slope -= (new - old)[..., None] * steps[groups, j]
        q.scatter_(2, j[..., None], new[..., None])
    return q
