"""Slow float64 references of the rounding methods, straight from their definitions: residuals are
vectors,
least squares are solved as such, columns go one by one. Nothing here uses H, a Cholesky factor or
blocks; GPTAQ, which is defined by a factor of H, takes it from the inputs themselves.

x, x_q: float64 [groups, m, columns], the layer's inputs in the float and in the quantized network.
Rows are output channels, the first rows / groups of them in group 0 and so on.
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from subbyte.core import Grid
from tests.reference.grids import representable


def alphabet(grid: Grid, rows: int, columns: int) -> Tensor:
    """Every number that each weight may become, by code: float64 [rows, columns, codes]."""
    return representable(grid, (rows, columns))


def pick(values: Tensor, choices: Tensor) -> tuple[Tensor, Tensor]:
    """Index and value of the nearest choice: values [rows], choices [rows, codes]."""
    index = (values[:, None] - choices).abs().argmin(1)
    return index, choices.gather(1, index[:, None])[:, 0]


def gpfq(
    w: Tensor,
    grid: Grid,
    x: Tensor,
    x_q: Tensor,
    price: Callable[[Tensor], Tensor] = torch.zeros_like,
    plain_at_zero: bool = False,
) -> Tensor:
    """Codes. The residual u [m, rows] is kept; a column without any input is rounded to nearest.

    price: what each choice costs, in units of half the square of a weight. plain_at_zero: weights
    whose input is orthogonal to the residual before them are rounded as they are.
    """
    codes = torch.empty(w.shape, dtype=torch.int64)
    for rows, group in _groups(w.shape[0], x.shape[0]):
        table = alphabet(grid, *w.shape)[rows]
        u = torch.zeros(x.shape[1], len(rows), dtype=torch.float64)
        for t in range(w.shape[1]):
            column, column_q = x[group, :, t].double(), x_q[group, :, t].double()
            silent = (column_q @ u).abs() < 1e-10
            u = u + torch.outer(column, w[rows, t].double())
            power = column_q @ column_q
            argument = column_q @ u / power if power > 0 else w[rows, t].double()
            if plain_at_zero:
                argument = torch.where(silent, w[rows, t].double(), argument)
            choices = table[:, t]
            index = ((argument[:, None] - choices).square() + price(choices)).argmin(1)
            codes[rows, t] = index + grid.spec.alphabet.qmin
            u = u - torch.outer(column_q, choices.gather(1, index[:, None])[:, 0])
    return codes


def gptq(w: Tensor, grid: Grid, x_q: Tensor, damping: float, order: str) -> Tensor:
    """Codes. After each column the remaining ones are solved for anew: least squares of x_q (w - z)
    = 0 with
    the rounded columns fixed, and a ridge |w - z|^2.
    """
    codes = torch.empty(w.shape, dtype=torch.int64)
    for rows, group in _groups(w.shape[0], x_q.shape[0]):
        table = alphabet(grid, *w.shape)[rows]
        original = w[rows].double()
        a = _ridged(x_q[group].double(), damping)
        power = x_q[group].double().square().sum(0)
        live = power > 0
        visits = _visits(x_q[group].double(), order)
        current = original.clone()
        for step, t in enumerate(visits):
            index, current[:, t] = pick(current[:, t], table[:, t])
            codes[rows, t] = index + grid.spec.alphabet.qmin
            rest = [j for j in visits[step + 1 :] if live[j]]
            if rest and live[t]:
                done = [j for j in visits[: step + 1] if live[j]]
                missing = a[:, done] @ (original - current)[:, done].T
                current[:, rest] = (
                    original[:, rest] + torch.linalg.lstsq(a[:, rest], missing).solution.T
                )
    return codes


def gptaq(
    w: Tensor, grid: Grid, x: Tensor, x_q: Tensor, damping: float, strength: float, order: str
) -> Tensor:
    """Codes, for columns that all have input. U, upper with U'U the inverse of the ridged x_q'x_q,
    is the inverse of the triangular factor of the columns taken from last to first; the pull of a
    row is strength * (x - x_q)'x_q U'U with the terms left out that earlier columns have had.
    """
    codes = torch.empty(w.shape, dtype=torch.int64)
    for rows, group in _groups(w.shape[0], x.shape[0]):
        visits = _visits(x_q[group].double(), order)
        table = alphabet(grid, *w.shape)[rows][:, visits]
        a, a_q = x[group].double()[:, visits], x_q[group].double()[:, visits]
        backwards = torch.linalg.qr(_ridged(a_q, damping).flip(1)).R
        U = torch.linalg.inv(backwards.T.flip(0, 1))
        pull = strength * ((a - a_q).T @ a_q @ U.T).triu(1) @ U
        z = w[rows].double()[:, visits]
        for t, column in enumerate(visits):
            now = z[:, t].clone()
            index, q = pick(now, table[:, t])
            codes[rows, column] = index + grid.spec.alphabet.qmin
            z[:, t:] += torch.outer(now, pull[t, t:]) - torch.outer((now - q) / U[t, t], U[t, t:])
    return codes


def qronos(w: Tensor, grid: Grid, x: Tensor, x_q: Tensor, order: str) -> Tensor:
    """Codes, undamped and for full-rank x_q: the best code while later columns stay, then these are
    solved for anew.
    """
    codes = torch.empty(w.shape, dtype=torch.int64)
    for rows, group in _groups(w.shape[0], x.shape[0]):
        visits = _visits(x_q[group].double(), order)
        table = alphabet(grid, *w.shape)[rows][:, visits]
        a_q = x_q[group].double()[:, visits]
        z = w[rows].double()[:, visits]
        wanted = x[group].double() @ w[rows].double().T
        for t, column in enumerate(visits):
            missing = wanted - a_q[:, :t] @ z[:, :t].T - a_q[:, t + 1 :] @ z[:, t + 1 :].T
            index, z[:, t] = pick(a_q[:, t] @ missing / a_q[:, t].square().sum(), table[:, t])
            codes[rows, column] = index + grid.spec.alphabet.qmin
            if t + 1 < len(visits):
                left = wanted - a_q[:, : t + 1] @ z[:, : t + 1].T
                z[:, t + 1 :] = torch.linalg.lstsq(a_q[:, t + 1 :], left).solution.T
    return codes


def corrected_target(w: Tensor, x: Tensor, x_q: Tensor, damping: float) -> Tensor:
    """argmin over z of |x w - x_q z|^2 + ridge |w - z|^2; columns without input keep their
    weights.
    """
    target = w.double().clone()
    for rows, group in _groups(w.shape[0], x.shape[0]):
        live = x_q[group].double().square().sum(0) > 0
        a_q = _ridged(x_q[group].double(), damping)[:, live]
        a = torch.cat([x[group].double(), _ridged(x_q[group].double(), damping)[x.shape[1] :]])
        target[rows[:, None], live.nonzero().T] = torch.linalg.lstsq(
            a_q, a @ w[rows].double().T
        ).solution.T
    return target


def sweep(target: Tensor, codes: Tensor, grid: Grid, x_q: Tensor) -> Tensor:
    """Codes after one visit of every column, each set to the choice that is best while all others
    stand.
    """
    codes = codes.clone().long()
    for rows, group in _groups(target.shape[0], x_q.shape[0]):
        table = alphabet(grid, *target.shape)[rows]
        inputs = x_q[group].double()
        values = table.gather(2, (codes[rows] - grid.spec.alphabet.qmin)[..., None])[..., 0]
        for t in range(target.shape[1]):
            if not bool(inputs[:, t].any()):
                continue
            residual = inputs @ (target[rows].double() - values).T
            errors = [
                (residual + torch.outer(inputs[:, t], values[:, t] - table[:, t, k]))
                .square()
                .sum(0)
                for k in range(table.shape[2])
            ]
            index = torch.stack(errors).argmin(0)
            values[:, t] = table[:, t].gather(1, index[:, None])[:, 0]
            codes[rows, t] = index + grid.spec.alphabet.qmin
    return codes


def best_codes(w: Tensor, grid: Grid, x: Tensor, x_q: Tensor) -> Tensor:
    """Least mean square output error of each row over all codes there are: float64 [rows]."""
    best = torch.empty(w.shape[0], dtype=torch.float64)
    for rows, group in _groups(w.shape[0], x.shape[0]):
        table = alphabet(grid, *w.shape)
        for row in rows.tolist():
            q = torch.stack([torch.stack(choice) for choice in product(*table[row])])
            wanted = x[group].double() @ w[row].double()
            best[row] = (x_q[group].double() @ q.T - wanted[:, None]).square().mean(0).min()
    return best


def on_grid(codes: Tensor, grid: Grid) -> Tensor:
    """Values of codes: float64 [rows, columns]."""
    table = alphabet(grid, *codes.shape)
    return table.gather(2, (codes.long() - grid.spec.alphabet.qmin)[..., None])[..., 0]


def _groups(rows: int, groups: int) -> list[tuple[Tensor, int]]:
    return [(part, g) for g, part in enumerate(torch.arange(rows).chunk(groups))]


def _ridged(x: Tensor, damping: float) -> Tensor:
    """x with rows below it that add damping * (mean power of the columns with input) to every
    square.
    """
    power = x.square().sum(0)
    ridge = damping * power.sum() / (power > 0).sum()
    return torch.cat([x, ridge.sqrt() * torch.eye(x.shape[1], dtype=torch.float64)])


def _visits(x: Tensor, order: str) -> list[int]:
    """Columns as they come, or by decreasing power."""
    by_power = x.square().sum(0).argsort(descending=True, stable=True)
    return list(range(x.shape[1])) if order == "natural" else by_power.tolist()
