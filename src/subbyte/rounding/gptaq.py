"""GPTAQ: GPTQ that also pulls towards the float network's outputs (Li et al. 2025, "GPTQv2").

    U as in GPTQ;   D = (X - X_q)' X_q = G' - H;   P = strength * triu(D U', 1) U
    for t = 1..d:   q_t = Q(w_t);   w_{t:} -= (w_t - q_t) / U_tt * U_{t,t:} - w_t P_{t,t:}

Objective: ||X w - X_q q||^2; a row that nearest would serve better is rounded to nearest.
`strength` 0.25 is the authors' choice, found by trial; 1 would be the full correction of the terms
that GPTQ's order leaves over.
Cost: GPTQ's and 2 d^3.
"""

from dataclasses import dataclass

from torch import Tensor

from subbyte.core import QTensor
from subbyte.errors import RecipeError
from subbyte.methods import FitGrid, Rounding
from subbyte.rounding.columns import Order
from subbyte.rounding.diffusion import Diffusion
from subbyte.rounding.solve import best_of
from subbyte.stats import LayerStats


@dataclass(frozen=True)
class Gptaq(Rounding):
    """damping: ridge as a share of H's mean diagonal; strength: of the pull; order: 'diagonal' or
    'natural'.
    """

    damping: float = 0.01
    strength: float = 0.25
    order: Order = Order.DIAGONAL

    def __post_init__(self) -> None:
        if self.damping < 0 or self.strength < 0:
            raise RecipeError(
                f"gptaq: damping and strength must be >= 0, got {self.damping} and {self.strength}"
            )

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        grid = fit(weight)
        diffusion = Diffusion(stats, self.damping, self.order)
        U, D = diffusion.U, diffusion.order.matrix(stats.G.mT - stats.H)
        pull = self.strength * (D @ U.mT).triu(1) @ U
        result = QTensor.nearest(diffusion.round(weight, grid, pull), grid)
        return best_of(weight, [result, QTensor.nearest(weight, grid)], stats)
