"""GPTAQ: GPTQ that also pulls towards the float network's outputs (Li et al. 2025, "GPTQv2").

    H^-1 = U'U (U upper);   D = (X - X_q)' X_q = G' - H;   P = strength * triu(D U', 1) U
    for t = 1..d:   q_t = Q(w_t);   w_{t:} -= (w_t - q_t) / U_tt * U_{t,t:} - w_t P_{t,t:}

Objective: ||X w - X_q q||^2; a row that nearest would serve better is rounded to nearest.
`strength` 0.25 is the authors' choice, found by trial; 1 would be the full correction of the terms
that GPTQ's order leaves over.
Cost: GPTQ's and 3 d^3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.core import QTensor
from subbyte.io.numbers import NotNegative
from subbyte.methods import FitGrid, Rounding
from subbyte.rounding.columns import Columns, Order
from subbyte.rounding.solve import Factored, best_of, triangular
from subbyte.rounding.turns import column_major, in_turn, row_major
from subbyte.stats import LayerStats


@dataclass(frozen=True)
class Gptaq(Rounding):
    """damping: ridge as a share of H's mean diagonal; strength: of the pull; order: 'diagonal' or
    'natural'.
    """

    damping: NotNegative = 0.01
    strength: NotNegative = 0.25
    order: Order = Order.DIAGONAL

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        grid = fit(weight)
        factored = Factored(stats, self.damping, self.order)
        order, eye = factored.order, torch.eye(weight.shape[1], device=weight.device)
        U = triangular(factored.R, eye.to(factored.R), upper=True)
        D = order.matrix(stats.G.mT - stats.H)
        pull = self.strength * (D @ U.mT).triu(1) @ U
        w = order.values(stats.grouped(weight).to(torch.float32))
        columns = Columns(grid, tuple(w.shape), torch.float32, order)
        rounded = _pulled(w, U.to(torch.float32), pull.to(torch.float32), columns)
        result = QTensor.nearest(order.back(rounded).reshape(weight.shape), grid)
        return best_of(weight, [result, QTensor.nearest(weight, grid)], stats)


def _pulled(w: Tensor, U: Tensor, pull: Tensor, columns: Columns) -> Tensor:
    """The recursion: w, float32 [groups, rows, columns], in the order of visits, as are U and P."""
    ahead = column_major(w)
    rounded, errors, seen = (torch.empty_like(ahead) for _ in range(3))
    diagonal = U.diagonal(dim1=-2, dim2=-1).T[..., None]  # [columns, groups, 1]

    def visit(t: int) -> None:
        seen[t] = ahead[t]
        rounded[t] = columns.round(ahead[t], t)
        torch.sub(ahead[t], rounded[t], out=errors[t]).div_(diagonal[t])

    in_turn(visit, ahead, [(errors, U), (seen, -pull)])
    return row_major(rounded)
