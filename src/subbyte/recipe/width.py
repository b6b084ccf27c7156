"""Widths: how many numbers a tensor may take, as people write them.

4  2.5          bits: 2^bits equal steps; a mean where channels have widths of their own
2 wide  2 odd   bits, with a family of levels (also apot, and log2 of a softmax's outputs)
7 levels        as many levels
2.5 mixed       a mean over channels
ternary  float
"""

import re
from dataclasses import dataclass
from enum import Enum

from subbyte.errors import RecipeError


class Family(Enum):
    """The kinds of a width, by the word after its number; the kind says what the number counts."""

    STEPS = ""
    WIDE = "wide"
    ODD = "odd"
    APOT = "apot"
    LOG2 = "log2"
    LEVELS = "levels"
    MIXED = "mixed"
    TERNARY = "ternary"
    FLOAT = "float"

    @property
    def least_bits(self) -> int:
        """The fewest bits that weights of this family can have."""
        return 1 if self in (Family.WIDE, Family.ODD) else 2


_ALONE = (Family.TERNARY, Family.FLOAT)
_STATED = (Family.STEPS, Family.WIDE, Family.ODD, Family.APOT, Family.TERNARY)


@dataclass(frozen=True)
class Width:
    """The count of numbers that a tensor may take. number: of bits, or of levels; None where the
    family says all.
    """

    number: float | None
    family: Family = Family.STEPS

    @classmethod
    def parse(cls, given: object) -> "Width":
        """Read a number of bits or a text such as 2 wide. Raises RecipeError for anything else."""
        if isinstance(given, Width):
            return given
        text = given if isinstance(given, str) else "" if isinstance(given, bool) else str(given)
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)?\s*((?:[a-z][a-z0-9]*)?)\s*", text)
        known = match is not None and match[2] in {family.value for family in Family}
        if match is None or not known or (match[1] is None) != (Family(match[2]) in _ALONE):
            raise RecipeError(
                f"expected a number of bits, ternary, or text such as 2 wide and 2 odd; got "
                f"{given!r}"
            )
        number = None if match[1] is None else float(match[1])
        return cls(
            int(number) if number is not None and number.is_integer() else number, Family(match[2])
        )

    def __str__(self) -> str:
        number = "" if self.number is None else f"{self.number:g}"
        return f"{number} {self.family.value}".strip()

    def plain(self) -> int | str:
        """The width as a plain value for YAML and JSON; `parse` reads it."""
        return (
            self.number
            if self.family is Family.STEPS and isinstance(self.number, int)
            else str(self)
        )

    def settings(self) -> dict[str, object]:
        """Settings of weights that a candidate under a budget stands for.

        They take the place of bits and levels; grids that can't be narrow or allocated are not.
        Raises RecipeError for widths that settings of bits and levels don't say.
        """
        if self.family not in _STATED:
            raise RecipeError(f"{self} is no width that layers can be given under a budget")
        stated: dict[str, object] = {
            "bits": self.family.value if self.number is None else self.number,
            "levels": None if self.number is None else self.family.value or None,
        }
        plain: dict[str, object] = {"narrow": False, "allocate": None}
        return stated if self.family is Family.STEPS else stated | plain
