"""Conformance suites for methods, also for those that users write.

from subbyte.testing import check
check(MyRounding)               # or an object with settings: check(MyRounding(sweeps=3))
"""

from collections.abc import Iterator
from typing import Any

from subbyte.errors import ContractError, RecipeError
from subbyte.methods import (
    Allocate,
    Correction,
    Method,
    Precondition,
    Range,
    Rounding,
    TuneLayers,
    TuneNetwork,
)
from subbyte.testing import (
    allocations,
    corrections,
    lessons,
    preconditions,
    ranges,
    roundings,
    tunes,
)
from subbyte.testing.checks import Check, Suite, configured

SUITES: dict[type[Method], Suite[Any]] = {
    Range: ranges.SUITE,
    Rounding: roundings.SUITE,
    Precondition: preconditions.SUITE,
    Correction: corrections.SUITE,
    Allocate: allocations.SUITE,
    TuneLayers: tunes.SUITE,
    TuneNetwork: lessons.SUITE,
}
"""The suite of each kind of method."""


def checks(method: Method | type[Method]) -> Iterator[Check]:
    """The checks of a method's kind, or of a class with its default settings.

    Raises RecipeError for what is of no kind.
    """
    chosen = configured(method)
    for kind, suite in SUITES.items():
        if isinstance(chosen, kind):
            return suite.checks(chosen)
    kinds = ", ".join(kind.__name__ for kind in SUITES)
    raise RecipeError(f"{chosen!r} is no method: derive it from one of {kinds} of subbyte.methods")


def check(method: Method | type[Method]) -> int:
    """Try everything that a method's kind promises; returns the number of checks.

    method: an object, or a class, which is tried with its default settings. Raises ContractError
    for the first promise that is not kept, and RecipeError for what is no method.
    """
    count = 0
    for each in checks(method):
        each()
        count += 1
    return count


__all__ = ["SUITES", "Check", "ContractError", "check", "checks"]
