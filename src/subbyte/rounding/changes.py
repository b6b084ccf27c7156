"""A sweep of coordinate descent where few codes are left to change: change after change in place of
column after column.

    t = q / s + slope / s       where every column would go, in steps of its row's scale
    next change of a row:       the first column j behind its last one with  Q(t_j) != q_j / s
    t  <-  t - H_j. / diag H (Q(t_j) - q_j / s)     (t_j itself stays)

All rows make their next change at once. The codes are those of a sweep over all columns in natural
order. Whether any row goes on is asked once in a while only: a device is made to wait for it.
Cost: rows d for each change, counted by the row that has most.
"""

from math import prod

import torch
from torch import Tensor

from subbyte.rounding.columns import Columns
from subbyte.rounding.turns import column_major, row_major

_TOGETHER = 8  # changes between questions
_START, _CELL, _MULTIPLIED = 40.0, 1.5e-3, 2e-5  # microseconds: of operations on a CPU's core
_VISIT = 16.0  # of a column


def worth_it(changes: int, shape: torch.Size) -> bool:
    """Whether rows that have so many changes to make, at most, are better swept this way.

    shape: [columns, groups, rows].
    """
    cells = prod(shape)
    return changes * (_START + _CELL * cells) < _VISIT * shape[0] + _MULTIPLIED * cells * shape[0]


def change_in_turn(units: Tensor, slope: Tensor, steps: Tensor, columns: Columns) -> Tensor:
    """One visit of every column, in place; how many codes of each row changed, float32 [groups,
    rows].

    units, slope: [columns, groups, rows], with one scale a row; the slope is afterwards that of
    the new codes; steps: H with column j divided by H_jj, [groups, columns, columns].
    """
    _, groups, rows = units.shape
    scale = columns.scales[0].reshape(-1, 1)  # [groups * rows, 1]
    now = row_major(units).flatten(0, 1).clone()  # may be the same piece of memory
    t = (row_major(slope).flatten(0, 1) / scale).add_(now)
    counts = _change(t, now, steps, columns, torch.arange(groups * rows, device=units.device))
    units.copy_(column_major(now.unflatten(0, (groups, rows))))
    slope.copy_(column_major(t.sub_(now).mul_(scale).unflatten(0, (groups, rows))))
    return counts.reshape(groups, rows)


def _change(t: Tensor, now: Tensor, steps: Tensor, columns: Columns, rows: Tensor) -> Tensor:
    """Make all changes, in place; how many each row made."""
    d, flat = steps.shape[-1], steps.flatten(0, 1)
    # the further in front a column is the larger its number; 0: none is left
    number = torch.arange(d, 0, -1, device=t.device, dtype=t.dtype)
    counts = torch.zeros(len(t), device=t.device)
    last = torch.full((len(t), 1), d + 1.0, device=t.device)
    group = rows // (len(t) // len(steps)) * d  # where the group's steps begin
    every = t, now
    while len(rows):
        ladder = columns.ladder_of_rows(rows)
        for _ in range(_TOGETHER):
            new = ladder.nearest(t.clone())
            ahead = ((new != now) & (number < last)) * number
            last = ahead.amax(1, keepdim=True)
            goes = last > 0
            j = (d - last).long().clamp_max_(d - 1)
            by = torch.where(goes, new.gather(1, j) - now.gather(1, j), 0.0)
            now.scatter_add_(1, j, by)
            t.addcmul_(flat.index_select(0, group + j[:, 0]), by, value=-1)
            t.scatter_add_(1, j, by)
            counts[rows] += goes[:, 0]
        kept = goes[:, 0].nonzero()[:, 0]
        if len(kept) < len(rows):
            if t is not every[0]:
                every[0][rows], every[1][rows] = t, now
            rows, t, now, last, group = rows[kept], t[kept], now[kept], last[kept], group[kept]
    return counts
