"""The alphabets that come along.

uniform     code                                  qmin <= code <= qmax; less a zero point
levels      levels[code]                          any rising list
codebook    codebook[row, code]                   fitted to the tensor or to each row
widths      as uniform                            rows with codes of widths of their own: 0 to 8
                                                  bits, a row of 0 bits being one number
counts      code - (n - 1) / 2                    rows with numbers n of levels of their own
log2        0, 2^(code - 1)                       see `logarithmic`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, log2

import torch
from torch import Tensor

from subbyte.core.alphabet import Alphabet, Integers, extremes
from subbyte.core.ladders import Even, Ladder, Number
from subbyte.core.levels import centred
from subbyte.core.logarithmic import PowersOfTwo
from subbyte.core.shares import Share
from subbyte.errors import NumericsError, RecipeError
from subbyte.io.plain import from_plain

MAX_BITS, WIDE_BITS = 8, 16
"""The most bits of weights and of most activations; those that activations can also have."""
MOST_LEVELS = 127
"""The most levels of a row with a count of its own: twice a level is a whole number of 8 bits."""
_MOST_CODES = 512  # of a codebook: room for the levels that GPFQ's L0 adds to 8 bits


def _check_bits(bits: int) -> None:
    if not isinstance(bits, int) or not 1 <= bits <= MAX_BITS:
        raise RecipeError(f"bits must be a whole number from 1 to {MAX_BITS}, got {bits}")


@dataclass(frozen=True)
class Uniform(Alphabet):
    """Whole numbers one after another.

    bits: width of a code, 1 to 8, or 16. signed: codes are centred on 0 (-2^(b-1) ...
    2^(b-1)-1) rather than counted from 0. symmetric: the zero point is fixed to 0; otherwise it is
    chosen with the scale. narrow: the lowest signed code is dropped, so that the codes are
    symmetric; 2 bits narrow are ternary. wide: a code is added above the highest signed one, so
    that the codes are symmetric: 2^b + 1 of them, more than b bits hold. It is the alphabet of GPFQ
    (Zhang, Zhou, Saab 2023, eq. 3); 1 bit wide is ternary. Raises RecipeError when these contradict
    one another.
    """

    bits: int = 8
    signed: bool = True
    symmetric: bool = True
    narrow: bool = False
    wide: bool = False

    kind = "uniform"
    even = True

    def __post_init__(self) -> None:
        if self.bits != WIDE_BITS:
            _check_bits(self.bits)
        if self.wide and (self.narrow or not self.signed or not self.symmetric):
            raise RecipeError("a wide grid is signed and symmetric, and not narrow")
        if self.signed and self.bits == 1 and not self.wide:
            raise RecipeError(
                "a signed uniform grid needs 2 bits or more; use 'ternary' or a level set"
            )

    @property
    def positions(self) -> tuple[float, ...]:
        """See `Alphabet`."""
        return tuple(map(float, range(self.qmin, self.qmax + 1)))

    @property
    def qmin(self) -> int:
        """See `Alphabet`."""
        return int(self.narrow) - int(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def count(self) -> int:
        """See `Alphabet`."""
        return int(2**self.bits) + int(self.wide) - int(self.narrow and self.signed)

    @property
    def integers(self) -> Integers:
        """See `Alphabet`."""
        return Integers(self.qmin, self.qmax)

    @property
    def zero_points(self) -> Sequence[int]:
        """See `Alphabet`."""
        return (0,) if self.symmetric else range(self.qmin, self.qmax + 1)

    @property
    def label(self) -> str:
        """See `Alphabet`; a narrow one is called after its bits."""
        return str(self.bits) if self.narrow and self.count > 3 else super().label

    def ladder(self, zero_point: Number, own: Tensor, dtype: torch.dtype = torch.float32) -> Ladder:
        """See `Alphabet`; without zero points the ends are plain numbers, twice as fast."""
        return Even(self.qmin, self.qmax, 0 if self.symmetric else zero_point)


TERNARY = Uniform(2, narrow=True)
"""{-1, 0, 1}: packs five codes to a byte."""


@dataclass(frozen=True)
class Levels(Alphabet):
    """Any rising list of 2 to 256 numbers. Raises RecipeError for another."""

    levels: tuple[float, ...]

    kind = "levels"

    def __post_init__(self) -> None:
        levels = tuple(map(float, self.levels))
        object.__setattr__(self, "levels", levels)
        rising = all(a < b for a, b in pairwise(levels)) and all(map(isfinite, levels))
        if len(levels) < 2 or not rising:
            raise RecipeError(
                f"levels must be two or more strictly increasing numbers, got {levels}"
            )
        if len(levels) > 2**MAX_BITS:
            raise RecipeError(f"{len(levels)} levels do not fit in codes of {MAX_BITS} bits")

    @property
    def positions(self) -> tuple[float, ...]:
        """See `Alphabet`."""
        return self.levels

    @property
    def nbytes(self) -> int:
        """See `Alphabet`."""
        return 4 * len(self.levels)


@dataclass(frozen=True)
class Codebook(Alphabet):
    """So many levels that are fitted to the data: one list for the tensor or for each row."""

    size: int

    kind = "codebook"
    own = "codebook"
    not_whole = "ONNX has no codebooks"

    def __post_init__(self) -> None:
        if not 2 <= self.size <= _MOST_CODES:
            raise RecipeError(f"a codebook has 2 to {_MOST_CODES} levels, got {self.size}")

    @property
    def positions(self) -> tuple[float, ...]:
        """See `Alphabet`."""
        return ()

    @property
    def count(self) -> int:
        """See `Alphabet`."""
        return self.size

    def table(self, own: Tensor) -> Tensor:
        """See `Alphabet`."""
        return own

    def shared_levels(self, own: Tensor) -> list[float]:
        """See `Alphabet`."""
        return [float(level) for level in own[0]] if len(own) == 1 else []

    def refuses(self, share: Share) -> str:
        """See `Alphabet`."""
        return "" if share.block is None else "a codebook belongs to a tensor or to each channel"

    def check_own(self, own: Tensor, scale: Tensor, share: Share) -> None:
        """See `Alphabet`."""
        wanted = (1 if share.one_scale else scale.shape[0], self.size)
        if own.shape != wanted or not bool((own.diff(dim=1) > 0).all()):
            raise RecipeError(
                f"a codebook must be {list(wanted)} and rise along each row, "
                f"got {list(own.shape)}: {own.reshape(-1)[:8].tolist()}"
            )
        if not bool(torch.isfinite(own).all()):
            raise NumericsError("a codebook holds NaN or Inf")


class _ByRow(Alphabet):
    """Rows whose alphabets differ: which one a row has is a whole number of its own."""

    own_dtype = torch.uint8
    varies = True

    @property
    def positions(self) -> tuple[float, ...]:
        """See `Alphabet`."""
        return ()

    def shared_levels(self, own: Tensor) -> list[float]:
        """See `Alphabet`."""
        return []

    def refuses(self, share: Share) -> str:
        """See `Alphabet`."""
        if share.by_row:
            return ""
        return (
            f"{self.kind} of their own go with a scale a channel: granularity 'channel', not "
            f"{share.kind!r}"
        )

    def _check_range(self, own: Tensor, scale: Tensor, least: int, most: int) -> None:
        if own.shape != scale.shape or bool(((own < least) | (own > most)).any()):
            raise RecipeError(
                f"{self.kind} must be {list(scale.shape)} and lie in {least}..{most}, "
                f"got {list(own.shape)}, {extremes(own)}"
            )


@dataclass(frozen=True)
class Widths(_ByRow):
    """Uniform codes whose width each row has for itself, 0 to `bits` bits, `mean` on average.

    A row of 0 bits has the one code 0 and a zero point of -1, 0 or 1, so that it stands for scale,
    0 or -scale. One bit has two codes next to each other, 0 among them. signed, symmetric: of rows
    of 2 bits or more.
    """

    bits: int = MAX_BITS
    mean: float = 4.0
    signed: bool = True
    symmetric: bool = True

    kind = "widths"
    own = "widths"
    even = True
    zero_dtype = torch.int16  # rows of 0 bits have -1, 0 or 1

    def __post_init__(self) -> None:
        _check_bits(self.bits)
        if not 0 <= self.mean <= self.bits:
            raise RecipeError(
                f"the mean width of the rows' codes must be from 0 to {self.bits} bits, got "
                f"{self.mean}"
            )

    @property
    def qmin(self) -> int:
        """See `Alphabet`."""
        return -int(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def count(self) -> int:
        """See `Alphabet`."""
        return int(2**self.bits)

    @property
    def width(self) -> float:
        """See `Alphabet`."""
        return self.mean

    @property
    def integers(self) -> Integers:
        """See `Alphabet`."""
        return Integers(self.qmin, self.qmax)

    @property
    def zero_points(self) -> Sequence[int]:
        """See `Alphabet`."""
        return range(self.qmin, self.qmax + 1)

    @property
    def label(self) -> str:
        """See `Alphabet`."""
        return f"{self.mean:g} mixed"

    def label_of(self, own: Tensor) -> str:
        """See `Alphabet`."""
        return f"{float(own.float().mean()):.2f} mixed"

    def words(self, own: Tensor) -> str:
        """See `Alphabet`."""
        return f"channels of 0 to {self.bits} bits"

    @property
    def choices(self) -> Mapping[int, Alphabet]:
        """See `Alphabet`; rows of 0 bits, which are one number, are not among them."""
        return {
            width: Uniform(width, self.signed and width > 1, self.symmetric and width > 1)
            for width in range(1, self.bits + 1)
        }

    def ladder(self, zero_point: Number, own: Tensor, dtype: torch.dtype = torch.float32) -> Ladder:
        """See `Alphabet`."""
        return Even(*self.ends(own), zero_point)

    def ends(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """See `Alphabet`."""
        count = 2**own
        low = -(count // 2) if self.signed else 0 * count
        return low.int(), (low + count - 1).int()

    def zero_ends(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """See `Alphabet`."""
        low, high = self.ends(own)
        return torch.where(own == 0, -1, low), torch.where(own == 0, 1, high)

    def check_own(self, own: Tensor, scale: Tensor, share: Share) -> None:
        """See `Alphabet`."""
        self._check_range(own, scale, 0, self.bits)


@dataclass(frozen=True)
class Counts(_ByRow):
    """Equally spaced levels around 0, as many in each row as `counts` says, 2 to 127."""

    counts: tuple[int, ...]

    kind = "counts"
    own = "counts"

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", tuple(map(int, self.counts)))
        if not self.counts or not 2 <= min(self.counts) <= max(self.counts) <= MOST_LEVELS:
            raise RecipeError(f"counts must lie in 2..{MOST_LEVELS}, got {self.counts}")

    @property
    def count(self) -> int:
        """See `Alphabet`."""
        return MOST_LEVELS

    @property
    def integers(self) -> Integers:
        """See `Alphabet`."""
        return Integers(1 - MOST_LEVELS, MOST_LEVELS - 1, per_step=2)

    @property
    def label(self) -> str:
        """See `Alphabet`."""
        return f"{sum(map(log2, self.counts)) / len(self.counts):.2f} mixed"

    def words(self, own: Tensor) -> str:
        """See `Alphabet`."""
        return f"channels of 2 to {max(self.counts)} levels"

    @property
    def choices(self) -> Mapping[int, Alphabet]:
        """See `Alphabet`."""
        return {count: Levels(centred(count)) for count in sorted(set(self.counts))}

    @property
    def given(self) -> Tensor:
        """See `Alphabet`."""
        return torch.tensor(self.counts, dtype=torch.int32)[:, None]

    def table(self, own: Tensor) -> Tensor:
        """See `Alphabet`; inf for codes that a row has not."""
        codes = torch.arange(int(own.max()), device=own.device)
        return torch.where(codes < own, codes - (own - 1) / 2, torch.inf).to(torch.float32)

    def ends(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """See `Alphabet`."""
        return torch.zeros_like(own), own - 1

    def check_own(self, own: Tensor, scale: Tensor, share: Share) -> None:
        """See `Alphabet`."""
        if own.shape != scale.shape or own.flatten().tolist() != list(self.counts):
            raise RecipeError(
                f"counts must be the {len(self.counts)} of the grid, one a row, got "
                f"{list(own.shape)}, {extremes(own)} for scales {list(scale.shape)}"
            )


ALPHABETS: dict[str, type[Alphabet]] = {
    alphabet.kind: alphabet for alphabet in (Uniform, Levels, Codebook, Widths, Counts, PowersOfTwo)
}


def alphabet_from(entry: object) -> Alphabet:
    """Inverse of `Alphabet.to_dict`. Raises RecipeError for an unknown kind or other values."""
    return from_plain("alphabet", ALPHABETS, entry)
