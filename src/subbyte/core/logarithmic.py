"""Powers of two, and 0: as many steps in every octave, for numbers from 0 on that are mostly small,
such as what a softmax gives.

    position(0) = 0,  position(k) = 2^(k - 1)         k = 1 ... 2^bits - 1

At 4 bits and a largest number of 1 these are 0, 2^-14, ..., 1/2, 1. Lin et al. 2022 (FQ-ViT,
Log-Int-Softmax) have 2^-15 ... 1 and round logarithms; here 0 is one of the numbers, as masked
scores give it, and values go to the nearest number.
"""

from dataclasses import dataclass

from subbyte.core.alphabet import Alphabet
from subbyte.errors import RecipeError

LEAST, MOST = 2, 5
"""Bits; with 5 the smallest number is 2^-30 of the largest, and float32 ends soon after."""


@dataclass(frozen=True)
class PowersOfTwo(Alphabet):
    """0 and powers of two, none below 0. bits: 2 to 5. Raises RecipeError for others."""

    bits: int = 4

    kind = "log2"

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or not LEAST <= self.bits <= MOST:
            raise RecipeError(f"levels log2 have {LEAST} to {MOST} bits, got {self.bits}")

    @property
    def positions(self) -> tuple[float, ...]:
        """See `Alphabet`."""
        return (0.0, *(2.0**k for k in range(2**self.bits - 1)))

    @property
    def label(self) -> str:
        """See `Alphabet`."""
        return f"{self.bits} log2"
