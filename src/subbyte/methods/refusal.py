"""Refusals: methods declare where they can't work, so that it is said before data are seen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from subbyte.errors import RecipeError
from subbyte.io.numbers import Bounded
from subbyte.methods.blame import blaming

AskedT = TypeVar("AskedT", contravariant=True)


@dataclass(frozen=True)
class Refusal:
    """Grids, or plans of networks, that a method can't work on.

    holds: whether one is of these, of the method (whose settings may matter) and the grid's spec or
    the plan; because: a sentence for people that begins with the method's name.
    """

    holds: Callable[[Any, Any], bool]
    because: str


class Refusing(Bounded, Generic[AskedT]):
    """The base of what can't do everything. AskedT: what it is asked about."""

    refuses: ClassVar[tuple[Refusal, ...]] = ()
    """Grids of weights that it can't work on, or plans that it can't write; commands, documentation
    and suites read them.
    """

    def refusal(self, asked: AskedT) -> str | None:
        """The reason why it can't work on it, or None where it can."""
        with blaming(self, "refuses"):
            return next((each.because for each in self.refuses if each.holds(self, asked)), None)

    def check(self, asked: AskedT) -> None:
        """Raise RecipeError where it can't work on it."""
        reason = self.refusal(asked)
        if reason is not None:
            raise RecipeError(reason)
