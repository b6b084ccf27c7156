"""The contract of `methods.Allocate`, as checks."""

import torch
from torch import Tensor

from subbyte.errors import NumericsError, RecipeError
from subbyte.methods import Allocate, calls
from subbyte.testing.checks import Suite, of, raises, require

SUITE: Suite[Allocate] = Suite()
BUDGETS = {"0": 0, "0.25": 2, "2.3": 23, "8": 80, "inf": 80}
"""Bits of ten channels by their mean."""


def distortion(spread: Tensor) -> Tensor:
    """Squared errors of channels: a curve that falls by about 4 a bit, times the square of the
    spread.
    """
    curve = torch.tensor([1.0, 0.5, 0.196, *(0.0718 / 2.9**k for k in range(6))])
    return spread[:, None].double().square() * curve


@SUITE.over(of(*BUDGETS))
def budgets_are_spent_and_never_overspent(method: Allocate, mean: str) -> None:
    """Channels alike get as many bits, but for one."""
    spread = torch.full((10,), 0.7)
    widths = calls.allocate(method, distortion(spread), spread, float(mean))
    require(widths.dtype == torch.int64, f"widths are {widths.dtype}")
    require(int(widths.sum()) == BUDGETS[mean], f"{int(widths.sum())} bits are spent")
    require(widths.max() - widths.min() <= 1, "channels alike get different widths")


@SUITE.over()
def dead_channels_get_nothing(method: Allocate) -> None:
    """One among others, or all."""
    spread = torch.tensor([1.0, 0.0, 2.0])
    widths = calls.allocate(method, distortion(spread), spread, 8.0).tolist()
    require(widths == [8, 0, 8], f"widths are {widths}")
    widths = calls.allocate(method, torch.zeros(3, 9), torch.zeros(3), 4.0).tolist()
    require(widths == [0, 0, 0], f"widths are {widths}")


@SUITE.over(of("-0.1", "nan"))
def a_mean_below_zero_is_an_error(method: Allocate, mean: str) -> None:
    """So is none."""
    raises(
        RecipeError,
        lambda: calls.allocate(method, torch.ones(2, 9), torch.ones(2), float(mean)),
        mean,
    )


@SUITE.over(of("nan", "inf"))
def what_is_not_finite_is_an_error(method: Allocate, bad: str) -> None:
    """Distortions and spreads."""
    full = float(bad)
    given = torch.full((2, 9), full), torch.full((2,), full)
    raises(NumericsError, lambda: calls.allocate(method, *given, 4.0), bad)
