"""Budgets: of bits for the channels of a layer, and as people write them for a whole network."""

import re
from dataclasses import dataclass
from math import floor, isfinite, isnan
from typing import Literal

from subbyte.errors import RecipeError

_UNITS = {"bits": 1.0, "B": 1.0, "bops": 1.0}
_UNITS |= {
    f"{prefix}{rest}B": base**power
    for power, prefix in enumerate("KMG", 1)
    for rest, base in (("", 1e3), ("i", 1024.0))
}
_UNITS |= {f"{prefix}bops": 1e3**power for power, prefix in enumerate("KMGT", 1)}


@dataclass(frozen=True)
class Budget:
    """A limit on what the weights of a network may cost.

    text: as written; amount: bits, bytes or bit-operations, by `counts`: `bits` stored bits per
    weight, `bytes` of all layers' weights, or `bops` bit-operations an image.
    """

    text: str
    amount: float
    counts: Literal["bits", "bytes", "bops"]

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read 2.5bits, 100KB, 96KiB or 1.5Gbops. Raises RecipeError for anything else."""
        match = re.fullmatch(r"\s*([0-9.]+(?:[eE][0-9]+)?)\s*([A-Za-z]+)\s*", text)
        try:
            amount = float(match[1]) * _UNITS[match[2]] if match else 0.0
        except (ValueError, KeyError):
            amount = 0.0
        if match is None or not isfinite(amount) or amount <= 0:
            raise RecipeError(
                f"expected a number above 0 and a unit, one of {', '.join(_UNITS)}; got {text!r}"
            )
        counts: Literal["bits", "bytes", "bops"] = "bits" if match[2] == "bits" else "bops"
        return cls("".join(text.split()), amount, "bytes" if match[2].endswith("B") else counts)

    def __str__(self) -> str:
        return self.text


def whole_bits(mean_bits: float, channels: int, most: int) -> int:
    """Bits that all channels may have together, `most` each. Raises RecipeError for a mean below 0
    or NaN.
    """
    if isnan(mean_bits) or mean_bits < 0:
        raise RecipeError(f"the mean bits of channels must be a number >= 0, got {mean_bits}")
    return floor(min(mean_bits, most) * channels + 1e-6)  # 2.3 times 10 is 23
