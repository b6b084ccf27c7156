"""Estimators: what a weight that is learned is while it is still on its way to its grid.

    u      the latent weight in steps of its scale        l <= u <= h     neighbours on the grid
    straight    w = nearest(u)                            at any time
    annealed    w = m + clamp(r (u - m), +- (h - l) / 2)  m = (l + h) / 2, r from 1 to infinity
    nested      w = nearest(u)    u <- floor(2^m u + v) / 2^m after an update, v uniform on 0 to 1

The gradient of u is that of w (straight through; Bengio, Leonard, Courville 2013), but where it
would push u further beyond an end of the grid. The slopes are those of a piecewise-affine
regularizer that grows (PARQ; Jin et al. 2025, section 4): at first the network computes with
float weights, at the end with weights on the grid. `nested` keeps no float weights: updates add up
by rounding at random (unbiased) on a lattice that is 2^m times finer than the grid, so that codes
of b + m bits are all that is kept of b-bit weights (`learn.optimizers.grid` has it for weights
that have not been quantized yet).
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from subbyte.core.ladders import Ladder
from subbyte.io.numbers import Real, Whole
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


@dataclass(frozen=True)
class Nested(Straight):
    """Weights on their grid, latent ones on a lattice within it; `extra_bits`: m."""

    extra_bits: Annotated[int, Whole(0, 16)] = 6

    def kept(self, steps: Tensor, generator: torch.Generator) -> Tensor:
        """See `Estimator`."""
        finer = 2**self.extra_bits
        drawn = torch.rand(steps.shape, generator=generator).to(steps.device)
        found: Tensor = (steps * finer).add_(drawn).floor_().div_(finer)
        return found


ESTIMATORS: Registry[Estimator] = Registry(
    "estimator",
    Estimator,
    {
        "straight": Straight,
        "annealed": Annealed,
        "nested": Nested,
    },
)
