"""Rounding of updates, in place, on numbers counted in steps of the lattice: x = Qp h.

    half-up      floor(x + 1/2)            Q of Seok, Kim 2021: ties go up
    half-even    ties go to the even one
    stochastic   floor(x + u)              u uniform in [0, 1): E[Q] = x, Var[Q] = f (1 - f), f = x
                                           - floor(x)
    gaussian     x + e                     e normal with variance 1/12: the noise that rounding is
                                           taken for (a control)

x is rounded to float before anything is added to it (no fused multiply-add), so that ties are ties.
The sums with 1/2
and u are rounded to float as well: in float32, half-up takes the one number just below 1/2 for 1/2,
and errs by a step from 2^23 steps on, where floats are no finer; stochastic takes a whole x for x +
1 once in 2^24 / |x| times.
"""

from collections.abc import Callable
from math import sqrt

import torch
from torch import Tensor


def _half_up(x: Tensor, _: torch.Generator) -> Tensor:
    return x.add_(0.5).floor_()


def _half_even(x: Tensor, _: torch.Generator) -> Tensor:
    return x.round_()


def _stochastic(x: Tensor, generator: torch.Generator) -> Tensor:
    return x.add_(torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)).floor_()


def _gaussian(x: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return x.add_(noise, alpha=1 / sqrt(12))


RANDOM = ("stochastic", "gaussian")
"""Those that draw random numbers."""
UPDATE_ROUNDINGS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "half-up": _half_up,
    "half-even": _half_even,
    "stochastic": _stochastic,
    "gaussian": _gaussian,
}
