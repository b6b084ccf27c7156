"""Specs of grids: what a grid may be, before any data is seen. What its codes stand for is said in
`core.grid`.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, isfinite, log2
from typing import Any, Literal

import torch

from subbyte.errors import RecipeError

Granularity = Literal["tensor", "channel", "group"]
MAX_BITS = 8
_CODEBOOK_BITS = 9  # room for the levels that GPFQ's L0 adds to 8 bits
MOST_LEVELS = 127
"""Of a row of a counted grid: twice a level is then a whole number of 8 bits."""
_NOTHING_ELSE: dict[str, Any] = {
    "bits": 7,
    "signed": True,
    "symmetric": True,
    "narrow": False,
    "wide": False,
    "granularity": "channel",
    "group_size": None,
    "levels": None,
    "codebook": None,
    "mixed": None,
}


@dataclass(frozen=True)
class GridSpec:
    """What a grid may be, before any data is seen.

    bits: width of a code, 1 to 8; of a codebook's up to 9.
    signed: codes are centred on 0 (-2^(b-1) ... 2^(b-1)-1) rather than counted from 0.
    symmetric: the zero point is fixed to 0; otherwise it is chosen with the scale.
    narrow: the lowest signed code is dropped, so that the codes are symmetric; 2 bits narrow are
        ternary.
    wide: a code is added above the highest signed one, so that the codes are symmetric: 2^b + 1 of
        them, more than b bits hold. The alphabet of GPFQ (Zhang, Zhou, Saab 2023, eq. 3); 1 bit
        wide is ternary.
    granularity: who shares a scale: the tensor, a row (output channel), or `group_size` neighbours
        in a row.
    levels: for level-set grids, strictly increasing numbers that the codes 0, 1, ... index.
    codebook: number of levels that are fitted to the data, one list for the tensor or for each row.
        With levels or a codebook `signed`, `symmetric`, `narrow` and `wide` have no meaning.
    mixed: mean width of the rows' codes, in bits, where every row has its own (`Grid.widths`), up
        to `bits`.
    counted: every row has equally spaced levels around 0, as many as `Grid.counts` says; 7 bits, a
    scale a channel. Raises RecipeError when these contradict one another.
    """

    bits: int = 8
    signed: bool = True
    symmetric: bool = True
    narrow: bool = False
    wide: bool = False
    granularity: Granularity = "tensor"
    group_size: int | None = None
    levels: tuple[float, ...] | None = None
    codebook: int | None = None
    mixed: float | None = None
    counted: bool = False

    def __post_init__(self) -> None:
        self._check_mixed()
        if self.counted and any(
            getattr(self, name) != value for name, value in _NOTHING_ELSE.items()
        ):
            raise RecipeError(
                "a counted grid has codes of 7 bits, a scale a channel and nothing else"
            )
        most = MAX_BITS if self.codebook is None else _CODEBOOK_BITS
        if not isinstance(self.bits, int) or not 1 <= self.bits <= most:
            raise RecipeError(f"bits must be a whole number from 1 to {most}, got {self.bits}")
        if (self.group_size is not None) != (self.granularity == "group"):
            raise RecipeError(
                f"group_size={self.group_size} with granularity={self.granularity!r}: "
                "a group size goes with granularity 'group', and only with it"
            )
        if self.group_size is not None and self.group_size < 1:
            raise RecipeError(f"group_size must be at least 1, got {self.group_size}")
        if self.wide and (self.narrow or not self.signed or not self.symmetric):
            raise RecipeError("a wide grid is signed and symmetric, and not narrow")
        if self.codebook is not None:
            if self.levels is not None or self.granularity == "group":
                raise RecipeError(
                    "a codebook belongs to a tensor or to each channel, and its levels are not "
                    "given"
                )
            if not 2 <= self.codebook <= 2**self.bits:
                raise RecipeError(
                    f"a codebook of {self.codebook} levels does not fit in codes of {self.bits} "
                    f"bits"
                )
            return
        if self.levels is None:
            if self.signed and self.bits == 1 and not self.wide:
                raise RecipeError(
                    "a signed uniform grid needs 2 bits or more; use 'ternary' or a level set"
                )
            return
        rising = all(a < b for a, b in pairwise(self.levels)) and all(map(isfinite, self.levels))
        if len(self.levels) < 2 or not rising:
            raise RecipeError(
                f"levels must be two or more strictly increasing numbers, got {self.levels}"
            )
        if len(self.levels) > 2**self.bits:
            raise RecipeError(f"{len(self.levels)} levels do not fit in codes of {self.bits} bits")

    def _check_mixed(self) -> None:
        if self.mixed is None:
            return
        if not self.uniform or self.narrow or self.wide or self.granularity != "channel":
            raise RecipeError(
                "widths of their own go with uniform grids and a scale a channel: no levels, "
                "narrow or wide grids, and "
                f"granularity 'channel', not {self.granularity!r}"
            )
        if not 0 <= self.mixed <= self.bits:
            raise RecipeError(
                f"the mean width of the rows' codes must be from 0 to {self.bits} bits, got "
                f"{self.mixed}"
            )

    def of_width(self, width: int) -> "GridSpec":
        """What a mixed grid is in its rows of 1 bit or more. One bit has two codes next to each
        other, 0 among them.
        """
        several = width > 1
        return replace(
            self,
            bits=width,
            signed=self.signed and several,
            symmetric=self.symmetric and several,
            mixed=None,
        )

    @classmethod
    def ternary(
        cls, granularity: Granularity = "channel", group_size: int | None = None
    ) -> "GridSpec":
        """{-1, 0, 1} times a scale: packs five codes to a byte."""
        return cls(bits=2, narrow=True, granularity=granularity, group_size=group_size)

    @classmethod
    def level_set(
        cls,
        levels: tuple[float, ...],
        granularity: Granularity = "channel",
        group_size: int | None = None,
    ) -> "GridSpec":
        """Any sorted list of 2 to 256 levels."""
        bits = min(max(1, ceil(log2(max(len(levels), 1)))), MAX_BITS)
        return cls(
            bits=bits,
            granularity=granularity,
            group_size=group_size,
            levels=tuple(map(float, levels)),
        )

    @classmethod
    def counting(cls) -> "GridSpec":
        """A number of levels of its own for each row."""
        return cls(bits=7, granularity="channel", counted=True)

    @classmethod
    def fitted(cls, count: int, granularity: Granularity = "channel") -> "GridSpec":
        """A codebook of 2 to 512 levels."""
        bits = max(1, ceil(log2(max(count, 1))))
        return cls(bits=min(bits, _CODEBOOK_BITS), granularity=granularity, codebook=count)

    @property
    def uniform(self) -> bool:
        """Codes stand for equally spaced numbers."""
        return self.levels is None and self.codebook is None and not self.counted

    @property
    def fixed_zero(self) -> bool:
        """There is no zero point to choose."""
        return (self.symmetric and self.mixed is None) or not self.uniform

    @property
    def qmin(self) -> int:
        """Smallest code."""
        if not self.uniform or not self.signed:
            return 0
        return int(self.narrow) - int(2 ** (self.bits - 1))

    @property
    def qmax(self) -> int:
        """Largest code."""
        if self.levels is not None:
            return len(self.levels) - 1
        if self.codebook is not None:
            return self.codebook - 1
        if self.counted:
            return MOST_LEVELS - 1
        return int(2 ** (self.bits - 1 if self.signed else self.bits)) - int(not self.wide)

    @property
    def count(self) -> int:
        """Number of codes."""
        return self.qmax - self.qmin + 1

    @property
    def is_ternary(self) -> bool:
        """Three codes."""
        return self.count == 3

    @property
    def label(self) -> str:
        """What people call the width: 'ternary' or the number of bits; fractional where codes are
        neither 2^b nor, on a narrow grid, one less.
        """
        if self.mixed is not None:
            return f"{self.mixed:g} mixed"
        if self.counted:
            return "mixed"
        if self.is_ternary:
            return "ternary"
        return (
            str(self.bits)
            if self.count in (2**self.bits, 2**self.bits - self.narrow)
            else f"{log2(self.count):.2f}"
        )

    @property
    def code_dtype(self) -> torch.dtype:
        """Smallest torch integer type that holds every code."""
        if self.qmax > 255 or (self.qmax > 127 and self.qmin < 0):
            return torch.int16
        return torch.int8 if self.qmin < 0 else torch.uint8

    @property
    def reach(self) -> tuple[int, int] | None:
        """Smallest and largest number of steps (`Grid.step`) that a code stands for, before a zero
        point is subtracted; None where they are not all whole numbers.
        """
        if self.uniform:
            return self.qmin, self.qmax
        if self.counted:
            return 1 - MOST_LEVELS, MOST_LEVELS - 1
        if self.levels is None or not all(level.is_integer() for level in self.levels):
            return None
        return int(self.levels[0]), int(self.levels[-1])
