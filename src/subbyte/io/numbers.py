"""Numbers that users give: which ones a setting may be, said once beside it, and how text is read
as one.

    damping: Annotated[float, Real(0)] = 0.01      # a field of a dataclass derived from Bounded
    Whole(1, 8).read("4")                          # text, such as that of an option

What a setting does not say is that it takes any number that float32 or int64 holds: NaN, infinity
and 1e300 are none.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from math import inf
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import AfterValidator

from subbyte.errors import RecipeError
from subbyte.io.complaints import short

MOST = 2**31 - 1
"""The largest whole number that a setting takes unless it says so itself."""
_SMALLEST, _LARGEST = 1e-37, 1e37  # in size, but for 0: normal numbers of float32
_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
_REAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,10})?")


class Span:
    """The numbers that a setting may be.

    least, most: the ends; above, below: whether these are left out.
    """

    noun = "number"

    def __init__(
        self,
        least: float = -inf,
        most: float = inf,
        *,
        above: bool = False,
        below: bool = False,
    ) -> None:
        self.least, self.most, self.above, self.below = least, most, above, below

    def __str__(self) -> str:
        low = "above" if self.above else "at least"
        high = "below" if self.below else "at most"
        ends = [f"{low} {self.least:,}"] if self.least > -inf else []
        if self.most == inf:
            ends.append("finite in float32")
        elif self.most != MOST:
            ends.append(f"{high} {self.most:,}")
        return f"a {self.noun}{', ' if ends else ''}{' and '.join(ends)}"

    def holds(self, value: Any) -> bool:
        """Whether a number is one of these."""
        low = value > self.least if self.above else value >= self.least
        return _held(value) and low and (value < self.most if self.below else value <= self.most)

    def checked(self, value: Any) -> Any:
        """The value itself. Raises RecipeError for a number that is none of these, and where one in
        a list or mapping is none; what holds no number is none of its business.
        """
        if isinstance(value, list | tuple):
            for one in value:
                self.checked(one)
        elif isinstance(value, Mapping):
            self.checked(list(value.values()))
        elif _is_number(value) and not self.holds(value):
            raise self.refusal(value)
        return value

    def check(self, name: str, value: Any) -> None:
        """See that a value is `checked`. Raises RecipeError that begins with its name."""
        try:
            self.checked(value)
        except RecipeError as error:
            raise RecipeError(f"{name} {error}") from error

    def __get_pydantic_core_schema__(self, kind: Any, handler: Any) -> Any:
        """Let models of pydantic check as dataclasses do."""
        return AfterValidator(self.checked).__get_pydantic_core_schema__(kind, handler)

    def refusal(self, value: object) -> RecipeError:
        """The error for what is none of these; whoever raises it says what it is of."""
        return RecipeError(f"must be {self}, got {short(value)}")


class Real(Span):
    """Numbers that need not be whole."""

    def read(self, text: str) -> float:
        """The number that a text says. Raises RecipeError where it says none of these."""
        value = float(text) if _REAL.fullmatch(text) else inf
        vanished = value == 0 and re.search("[1-9]", re.split("[eE]", text)[0])
        if vanished or not self.holds(value):
            raise self.refusal(text)
        return value


class Whole(Span):
    """Whole numbers."""

    noun = "whole number"

    def __init__(self, least: int = 0, most: int = MOST) -> None:
        super().__init__(least, most)

    def holds(self, value: Any) -> bool:
        """See `Span`."""
        return isinstance(value, int) and super().holds(value)

    def read(self, text: str) -> int:
        """The number that a text says. Raises RecipeError where it says none of these."""
        if not _WHOLE.fullmatch(text) or not self.holds(int(text)):
            raise self.refusal(text)
        return int(text)


ANY = Span()
"""All that float32 or int64 holds."""
SEED = Whole(0, 2**32 - 1)
Seed = Annotated[int, SEED]
Count = Annotated[int, Whole(1)]
Natural = Annotated[int, Whole(0)]
NotNegative = Annotated[float, Real(0)]
Positive = Annotated[float, Real(0, above=True)]
Share = Annotated[float, Real(0, 1)]
Decay = Annotated[float, Real(0, 1, below=True)]


class Bounded:
    """The base of dataclasses whose numbers are checked when they are made; one with more to check
    calls this first.
    """

    def __post_init__(self) -> None:
        """Raise RecipeError where a number is not what its field says."""
        check(self)


def check(settings: Any) -> None:
    """See that the numbers in the fields of a dataclass are what its class says beside them.

    Raises RecipeError that names the first which is not.
    """
    for name, span in _spans(settings.__class__).items():
        span.check(f"{type(settings).__name__}: {name}", vars(settings)[name])


@cache
def _spans(cls: type) -> dict[str, Span]:
    """The spans of a dataclass's fields, by name."""
    try:
        hints = get_type_hints(cls, include_extras=True)
    except Exception:  # a user's class whose types can't be read: its registry refuses it
        hints = {}
    return {f.name: _span(hints.get(f.name)) for f in fields(cls)}


def _span(hint: Any) -> Span:
    """The span that is said beside a type or within it, as in `tuple[Annotated[...], ...]`."""
    if get_origin(hint) is Annotated:
        said = [one for one in hint.__metadata__ if isinstance(one, Span)]
        return said[0] if said else _span(get_args(hint)[0])
    return next((span for span in map(_span, get_args(hint)) if span is not ANY), ANY)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _held(value: float) -> bool:
    """Whether int64 or float32 holds a number."""
    if isinstance(value, int):
        return abs(value) < 2**63
    return value == 0 or _SMALLEST <= abs(value) <= _LARGEST
