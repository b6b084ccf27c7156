"""Estimators: what a weight that is learned is while it is still on its way to its grid.

    u      the latent weight in steps of its scale        l <= u <= h     neighbours on the grid
    straight    w = nearest(u)                            at any time
    annealed    w = m + clamp(r (u - m), +- (h - l) / 2)  m = (l + h) / 2, r from 1 to infinity

The gradient of u is that of w (straight through; Bengio, Leonard, Courville 2013), but where it
would push u further beyond an end of the grid. The slopes are those of a piecewise-affine
regularizer that grows (PARQ; Jin et al. 2025, section 4): at first the network computes with
float weights, at the end with weights on the grid.
"""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from subbyte.core.ladders import Ladder
from subbyte.io.numbers import Real
from subbyte.io.registry import Registry
from subbyte.methods import Estimator


@dataclass(frozen=True)
class Straight(Estimator):
    """Weights on their grid from the first step on."""

    def value(self, steps: Tensor, ladder: Ladder, progress: float) -> Tensor:
        """See `Estimator`."""
        return ladder.nearest(steps.clone())


@dataclass(frozen=True)
class Annealed(Estimator):
    """Slopes between float weights and rounded ones; `until`: the part of the way after which
    weights are on their grid.
    """

    until: Annotated[float, Real(0, 1, above=True)] = 0.7

    def value(self, steps: Tensor, ladder: Ladder, progress: float) -> Tensor:
        """See `Estimator`."""
        nearest = ladder.nearest(steps.clone())
        left = 1 - progress / self.until
        if left <= 0:
            return nearest
        beside = ladder.beside(steps)
        middle, half = (nearest + beside) / 2, (nearest - beside).abs() / 2
        # beyond an end both neighbours are one
        return middle + ((steps - middle) / left).clamp(-half, half)


ESTIMATORS: Registry[Estimator] = Registry(
    "estimator",
    Estimator,
    {
        "straight": Straight,
        "annealed": Annealed,
    },
)
