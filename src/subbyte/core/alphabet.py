"""The contract of alphabets: which numbers a code can stand for, in steps of a scale.

    x ~= (position(code) - zero_point) * scale

To add one: a frozen dataclass with a `kind` and its `positions`, and a line in
`alphabets.ALPHABETS`. Everything else (rounding, packing, files, exports, reports) follows from the
positions; a member overrides what it can say better. Some alphabets have numbers of their own in
each row (`own`): a grid holds them as one tensor beside its scales, [0] where there are none.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import log2
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from subbyte.core.ladders import Ladder, Number, Uneven
from subbyte.core.shares import Share
from subbyte.errors import RecipeError

NO_NUMBERS = torch.empty(0)
"""The rows' own numbers of an alphabet that has none."""


class Integers(NamedTuple):
    """Whole numbers that stand for all positions: low ... high, `per_step` of them to a step."""

    low: int
    high: int
    per_step: int = 1


class Alphabet(ABC):
    """The numbers that codes can stand for.

    kind: its name in files. own: the name in files of the numbers that each row has of its own, ""
    for none, stored as `own_dtype`; zero_dtype: what zero points are stored as, None for the codes'
    type. even: positions are whole numbers one after another, in all rows. varies: rows have
    different numbers of codes. not_whole: why no integers hold the positions, where none do.
    """

    kind: ClassVar[str]
    own: ClassVar[str] = ""
    own_dtype: ClassVar[torch.dtype] = torch.float32
    zero_dtype: ClassVar[torch.dtype | None] = None
    even: ClassVar[bool] = False
    varies: ClassVar[bool] = False
    not_whole: ClassVar[str] = "the levels are not whole numbers"

    # ---- which numbers ----

    @property
    @abstractmethod
    def positions(self) -> tuple[float, ...]:
        """The values of the codes in steps, before a zero point is subtracted: rising; () where
        they are fitted, or rows differ.
        """

    @property
    def qmin(self) -> int:
        """Smallest code."""
        return 0

    @property
    def count(self) -> int:
        """Number of codes."""
        return len(self.positions)

    @property
    def qmax(self) -> int:
        """Largest code."""
        return self.qmin + self.count - 1

    @property
    def width(self) -> float:
        """Whole bits that hold a code; their mean where rows differ."""
        return (self.count - 1).bit_length()

    @property
    def code_dtype(self) -> torch.dtype:
        """Smallest torch integer type that holds every code."""
        if self.qmax > 2**15 - 1:
            return torch.int32
        if self.qmax > 255 or (self.qmax > 127 and self.qmin < 0):
            return torch.int16
        return torch.int8 if self.qmin < 0 else torch.uint8

    @property
    def fits_byte(self) -> bool:
        """Whether 8 bits hold a code, as integer kernels take them."""
        return self.count <= 256

    @property
    def integers(self) -> Integers | None:
        """The whole numbers that stand for all positions; None where there are none."""
        if not self.positions or not all(float(p).is_integer() for p in self.positions):
            return None
        return Integers(int(self.positions[0]), int(self.positions[-1]))

    @property
    def zero_points(self) -> Sequence[int]:
        """The zero points that may be chosen: 0 alone, or every code."""
        return (0,)

    @property
    def has_zero_point(self) -> bool:
        """There is a zero point to choose."""
        return len(self.zero_points) > 1

    # ---- words ----

    @property
    def label(self) -> str:
        """The width in words: 'ternary' or the bits, fractional where there are not 2^b codes."""
        if self.count == 3:
            return "ternary"
        bits = log2(self.count)
        return str(int(bits)) if bits.is_integer() else f"{bits:.2f}"

    def label_of(self, own: Tensor) -> str:
        """The label of a grid with these numbers."""
        return self.label

    def words(self, own: Tensor) -> str:
        """The width in a sentence."""
        return f"{self.label} bits"

    # ---- rows that differ ----

    @property
    def choices(self) -> Mapping[int, "Alphabet"]:
        """The alphabets of rows by the rows' own numbers; empty unless rows vary."""
        return {}

    @property
    def given(self) -> Tensor:
        """Numbers of its own that are known before data, [rows, 1]; [0] for none."""
        return NO_NUMBERS

    # ---- of a grid: own are its numbers ----

    def ladder(self, zero_point: Number, own: Tensor, dtype: torch.dtype = torch.float32) -> Ladder:
        """The numbers to round to, in steps. zero_point, own: in shapes that spread over those."""
        return Uneven(self.table(own).to(dtype))

    def table(self, own: Tensor) -> Tensor:
        """Positions of all codes: float32 [1, count] or [rows, count]."""
        return torch.tensor([self.positions], dtype=torch.float32, device=own.device)

    def shared_levels(self, own: Tensor) -> list[float]:
        """Positions that all rows have in common; none where rows differ."""
        return list(map(float, self.positions))

    def ends(self, own: Tensor) -> tuple[Number, Number]:
        """Smallest and largest code of each row."""
        return self.qmin, self.qmax

    def zero_ends(self, own: Tensor) -> tuple[Number, Number]:
        """Smallest and largest zero point of each row."""
        return self.zero_points[0], self.zero_points[-1]

    @property
    def nbytes(self) -> int:
        """Bytes that a list of its positions takes, where a file has to hold one."""
        return 0

    # ---- checks and files ----

    def refuses(self, share: Share) -> str:
        """Why scales can't be shared so; "" where they can."""
        return ""

    def check_own(self, own: Tensor, scale: Tensor, share: Share) -> None:
        """Raise RecipeError where a grid's numbers of its own do not fit."""
        if own.numel():
            raise RecipeError(f"{self.kind} grids have no numbers of their own in each row")

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `alphabets.alphabet_from` reads them."""
        fields = asdict(self)  # type: ignore[call-overload]
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
        return {"kind": self.kind, **plain}


def extremes(x: Tensor) -> str:
    """A tensor's smallest and largest number, for messages."""
    return f"values from {x.min().item():g} to {x.max().item():g}" if x.numel() else "no values"
