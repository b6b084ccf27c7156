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

from math import sqrt

import torch
from torch import Tensor

from subbyte.errors import RecipeError
from subbyte.methods import UpdateRounding


class HalfUp(UpdateRounding):
    """Round to the nearest whole number, ties up."""

    def round(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """See `UpdateRounding`."""
        return x.add_(0.5).floor_()


class HalfEven(UpdateRounding):
    """Round to the nearest whole number, ties to the even one."""

    def round(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """See `UpdateRounding`."""
        return x.round_()


class Stochastic(UpdateRounding):
    """Up or down at random, so that the mean is kept."""

    random = True

    def round(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """See `UpdateRounding`."""
        return x.add_(
            torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        ).floor_()


class Gaussian(UpdateRounding):
    """Normal noise with the variance of rounding errors, and no rounding: a control."""

    random = True
    to_lattice = False

    def round(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """See `UpdateRounding`."""
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        return x.add_(noise, alpha=1 / sqrt(12))


UPDATE_ROUNDINGS: dict[str, UpdateRounding] = {
    "half-up": HalfUp(),
    "half-even": HalfEven(),
    "stochastic": Stochastic(),
    "gaussian": Gaussian(),
}
"""The roundings of updates, by name; they have no settings."""


def update_rounding(name: str) -> UpdateRounding:
    """The rounding of that name. Raises RecipeError for an unknown one."""
    if name not in UPDATE_ROUNDINGS:
        raise RecipeError(f"unknown rounding {name!r}; known: {', '.join(UPDATE_ROUNDINGS)}")
    return UPDATE_ROUNDINGS[name]
