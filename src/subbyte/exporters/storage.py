"""The integer types of ONNX that hold weights, and which of them a kind of file takes."""

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from subbyte.core import Alphabet


@dataclass(frozen=True)
class Storage:
    """An integer type.

    name: as ONNX has it, in small letters; bits: of a number; signed: whether it has numbers below
    0; dtype: NumPy's; opset: the lowest that has it for weights.
    """

    name: str
    bits: int
    signed: bool
    dtype: Any
    opset: int

    @property
    def low(self) -> int:
        """Smallest number."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest number."""
        return self.low + (1 << self.bits) - 1

    def holds(self, low: int, high: int) -> bool:
        """Whether numbers from low to high fit; signed types are for those that may be below 0."""
        return self.low <= low and high <= self.high and self.signed == (low < 0)

    def note(self, words: str) -> str:
        """How codes of a grid (in its words) are held; nothing for plain bytes."""
        if words == f"{self.bits} bits":
            return "" if self in BYTES else self.name.upper()
        return f"{words} in {self.name.upper()}"


INT2 = Storage("int2", 2, True, ml_dtypes.int2, 25)
INT4 = Storage("int4", 4, True, ml_dtypes.int4, 21)
INT8 = Storage("int8", 8, True, np.int8, 21)
UINT8 = Storage("uint8", 8, False, np.uint8, 21)
INT16 = Storage("int16", 16, True, np.int16, 21)
UINT16 = Storage("uint16", 16, False, np.uint16, 21)
BYTES = (INT8, UINT8)
WORDS = (INT16, UINT16)


@dataclass(frozen=True)
class Container:
    """A kind of file: the types that its weights may have, narrowest first.

    cuts: whether values are cut to the ends of grids below 8 bits before they are codes, in float
    (for OpenVINO, which takes no Clip of integers), not as codes.
    """

    name: str
    types: tuple[Storage, ...]
    cuts: bool = False

    def storage(self, alphabet: Alphabet) -> Storage | None:
        """The type for the whole numbers that stand for a weight's levels; None where there is
        none.
        """
        if alphabet.integers is None:
            return None
        low, high, _ = alphabet.integers
        return next((one for one in self.types if one.holds(low, high)), None)
