"""Budgets: of bits for the channels of a layer, and as people write them for a whole network."""

import re
from dataclasses import dataclass
from enum import StrEnum
from math import floor, isnan

from subbyte.errors import RecipeError
from subbyte.io.numbers import Real


class Measure(StrEnum):
    """The unit of a budget: stored bits per weight, bytes of all layers' weights, or bit-operations
    an image.
    """

    BITS = "bits"
    BYTES = "bytes"
    OPERATIONS = "bops"


_UNITS = {
    "bits": (1.0, Measure.BITS),
    "B": (1.0, Measure.BYTES),
    "bops": (1.0, Measure.OPERATIONS),
}
_UNITS |= {
    f"{prefix}{rest}B": (base**power, Measure.BYTES)
    for power, prefix in enumerate("KMG", 1)
    for rest, base in (("", 1e3), ("i", 1024.0))
}
_UNITS |= {
    f"{prefix}bops": (1e3**power, Measure.OPERATIONS) for power, prefix in enumerate("KMGT", 1)
}


_AMOUNT = Real(0, above=True)


@dataclass(frozen=True)
class Budget:
    """A limit on what the weights of a network may cost.

    text: as written; amount: of what `counts` says.
    """

    text: str
    amount: float
    counts: Measure

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read 2.5bits, 100KB, 96KiB or 1.5Gbops. Raises RecipeError for anything else."""
        match = re.fullmatch(r"\s*([0-9.]+(?:[eE][0-9]+)?)\s*([A-Za-z]+)\s*", text)
        try:
            factor, counts = _UNITS[match[2]] if match else (0.0, Measure.BITS)
            amount = float(match[1]) * factor if match else 0.0
        except (ValueError, KeyError):
            amount = 0.0
        if not _AMOUNT.holds(amount):
            raise RecipeError(
                f"expected a number above 0 and a unit, one of {', '.join(_UNITS)}; got "
                f"{text[:100]!r}"
            )
        return cls("".join(text.split()), amount, counts)

    def __str__(self) -> str:
        return self.text


def whole_bits(mean_bits: float, channels: int, most: int) -> int:
    """Bits that all channels may have together, `most` each. Raises RecipeError for a mean below 0
    or NaN.
    """
    if isnan(mean_bits) or mean_bits < 0:
        raise RecipeError(f"the mean bits of channels must be a number >= 0, got {mean_bits}")
    return floor(min(mean_bits, most) * channels + 1e-6)  # 2.3 times 10 is 23
