"""GPFQ: greedy path following (Zhang, Zhou, Saab 2023, eq. 7-10; Lybrand, Saab 2021).

Column after column the code is chosen whose output follows the float network's best, given the
codes before it; the recursion is in `path`. Objective: ||X w - X_q q||^2 (`data: float`: with X in
place of X_q).

Sparse GPFQ (ibid., section 4) adds a penalty on q, with a_t the argument of the recursion:

    L1   q_t = Q( sign(a_t) max(|a_t| - penalty, 0) )
    L0   q_t = 0 if |a_t| <= penalty, else the nearest of +-(penalty + k step), k = 0..K, step = (K
         scale - penalty) / K

The penalty is in units of the weights, the same for all layers. With L0 the levels of a scale are a
codebook of two more than the recipe's: 2^b + 3 on a wide grid, as in the authors' code.

The papers' alphabets are settings of the recipe: `levels: wide, range: rowmax` (2023) and `levels:
odd, range: median` (2020), their C is `scalar`; `plain_at_zero` is a rule of the program of 2020
(see `path`). Differences from the authors' code: patches at the
layer's true stride, columns without input keep their nearest rounding (there: 0), ties go to even.
A row that nearest would serve better is rounded to nearest, unless a regularizer is at work or
`fallback` is false (as the authors have it).
"""

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from subbyte.core import Codebook, Grid, GridSpec, QTensor
from subbyte.errors import RecipeError
from subbyte.io.numbers import NotNegative, Seed
from subbyte.methods import FitGrid, Refusal, Rounding
from subbyte.rounding.columns import Given, Order
from subbyte.rounding.noise import row_noise
from subbyte.rounding.path import Shrink, follow_path
from subbyte.rounding.solve import best_of
from subbyte.stats import LayerStats

_LEAST_PENALTY = 1e-6
_NARROWEST = 1e-3  # of a penalized grid's step, against the grid it is made from


class Regularizer(StrEnum):
    """The penalty on the values that are chosen."""

    NONE = "none"
    L1 = "L1"
    L0 = "L0"

    def shrink(self, penalty: NotNegative) -> Shrink | None:
        """The change of arguments before they are rounded; None for no change."""

        def soft(argument: Tensor) -> Tensor:
            return argument.sign() * (argument.abs() - penalty).clamp_min(0)

        def hard(argument: Tensor) -> Tensor:
            return torch.where(argument.abs() > penalty, argument, 0.0)

        return {Regularizer.NONE: None, Regularizer.L1: soft, Regularizer.L0: hard}[self]

    def grid(self, grid: Grid, penalty: NotNegative) -> Grid:
        """The grid to round to; see `penalized_grid`."""
        return penalized_grid(grid, penalty) if penalty and self is Regularizer.L0 else grid


@dataclass(frozen=True)
class Gpfq(Rounding):
    """Follow the float network's path, column by column.

    data: inputs of the quantized network (X_q) or of the float one; order: natural, or diagonal
        (decreasing H_tt);
    regularizer: none, L1 or L0, with its penalty; stochastic: round up or down at random, by the
    seed; fallback: to nearest where that is better; plain_at_zero: round the weight itself where
    the residual is orthogonal to its input.
    """

    data: Given = Given.QUANTIZED
    order: Order = Order.NATURAL
    regularizer: Regularizer = Regularizer.NONE
    penalty: NotNegative = 0.0
    stochastic: bool = False
    seed: Seed = 0
    fallback: bool = True
    plain_at_zero: bool = False

    refuses = (
        Refusal(
            lambda self, spec: self.regularizer == Regularizer.L0 and not _plain(spec),
            "gpfq: regularizer L0 needs a symmetric uniform grid with a scale a tensor or channel",
        ),
        Refusal(
            lambda self, spec: self.regularizer == Regularizer.L0 and spec.powers,
            "gpfq: regularizer L0 makes levels of any size; scales can't be powers of two",
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.penalty and self.regularizer == Regularizer.NONE:
            raise RecipeError(
                f"gpfq: penalty {self.penalty:g} has no effect without regularizer L1 or L0"
            )
        if self.penalty and self.penalty < _LEAST_PENALTY:
            raise RecipeError(
                f"gpfq: penalty must be 0 or at least {_LEAST_PENALTY:g}, got {self.penalty:g}"
            )

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`; with a regularizer the objective is the penalized one."""
        self.check(fit.spec)
        stats, regularizer = Given(self.data).stats(stats), Regularizer(self.regularizer)
        grid = fit(weight)
        penalized = regularizer.grid(grid, self.penalty)
        noise = row_noise(weight, self.seed) if self.stochastic else None
        shrink = regularizer.shrink(self.penalty)
        values = follow_path(
            weight,
            penalized,
            stats,
            order=self.order,
            noise=noise,
            shrink=shrink,
            plain_at_zero=self.plain_at_zero,
        )
        result = QTensor.nearest(values, penalized)
        fallback = self.fallback and regularizer is Regularizer.NONE
        candidates = [result, QTensor.nearest(weight, grid)] if fallback else [result]
        return best_of(weight, candidates, stats)


def _plain(spec: GridSpec) -> bool:
    """Whether L0 can take levels away from a grid."""
    alphabet = spec.alphabet
    plain = alphabet.even and not alphabet.has_zero_point and alphabet.qmin < 0
    return plain and spec.share.block is None


def penalized_grid(grid: Grid, penalty: NotNegative) -> Grid:
    """The levels of L0: 0 and +-(penalty + k step) with the reach of a symmetric grid.

    Raises RecipeError when the penalty leaves no room for the steps.
    """
    below, above = -grid.spec.alphabet.qmin, grid.spec.alphabet.qmax
    scale = grid.scale.reshape(-1, 1).to(torch.float64)
    step = scale - penalty / above
    if bool((step < _NARROWEST * scale).any()):
        reach = float(above * scale.min())
        raise RecipeError(
            f"gpfq: penalty {penalty:g} is not below the largest weight that the grid holds "
            f"({reach:g}); lower it"
        )

    def side(count: int) -> Tensor:
        return penalty + torch.arange(count + 1, device=scale.device) * step

    zero = torch.zeros_like(scale)
    codebook = torch.cat([-side(below).flip(1), zero, side(above)], 1)
    fitted = GridSpec(Codebook(codebook.shape[1]), grid.spec.share)
    return Grid.of(fitted, torch.ones_like(grid.scale), own=codebook)
