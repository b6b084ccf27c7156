"""Grids: the set of real numbers that the codes of a tensor can stand for.

    uniform      x ~= (code - zero_point) * scale          qmin <= code <= qmax
    level set    x ~= levels[code] * scale                 0 <= code < len(levels)
    codebook     x ~= codebook[row, code] * scale          levels that are fitted to the tensor or to each row
    mixed        uniform, each row with codes of a width of its own: 0 to 8 bits, a row of 0 bits being one number

Rounding is to the nearest representable number: half to even on uniform grids (as ONNX's QuantizeLinear), to the
lower level on level sets and codebooks. Zero points are integers, so real 0 lies on every uniform grid whose zero point
is in range.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, isfinite, log2
from typing import Literal

import torch
from torch import Tensor

from subbyte.errors import NumericsError, RecipeError

Granularity = Literal["tensor", "channel", "group"]
MAX_BITS = 8
_CODEBOOK_BITS = 9  # room for the levels that GPFQ's L0 adds to 8 bits
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class GridSpec:
    """What a grid may be, before any data is seen.

    bits: width of a code, 1 to 8; of a codebook's up to 9.
    signed: codes are centred on 0 (-2^(b-1) ... 2^(b-1)-1) rather than counted from 0.
    symmetric: the zero point is fixed to 0; otherwise it is chosen with the scale.
    narrow: the lowest signed code is dropped, so that the codes are symmetric; 2 bits narrow are ternary.
    wide: a code is added above the highest signed one, so that the codes are symmetric: 2^b + 1 of them, more than b
        bits hold. The alphabet of GPFQ (Zhang, Zhou, Saab 2023, eq. 3); 1 bit wide is ternary.
    granularity: who shares a scale: the tensor, a row (output channel), or `group_size` neighbours in a row.
    levels: for level-set grids, strictly increasing numbers that the codes 0, 1, ... index.
    codebook: number of levels that are fitted to the data, one list for the tensor or for each row. With levels or a
        codebook `signed`, `symmetric`, `narrow` and `wide` have no meaning.
    mixed: mean width of the rows' codes, in bits, where every row has its own (`Grid.widths`), up to `bits`.
    Raises RecipeError when these contradict one another.
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

    def __post_init__(self) -> None:
        self._check_mixed()
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
                raise RecipeError("a codebook belongs to a tensor or to each channel, and its levels are not given")
            if not 2 <= self.codebook <= 2**self.bits:
                raise RecipeError(f"a codebook of {self.codebook} levels does not fit in codes of {self.bits} bits")
            return
        if self.levels is None:
            if self.signed and self.bits == 1 and not self.wide:
                raise RecipeError("a signed uniform grid needs 2 bits or more; use 'ternary' or a level set")
            return
        rising = all(a < b for a, b in pairwise(self.levels)) and all(map(isfinite, self.levels))
        if len(self.levels) < 2 or not rising:
            raise RecipeError(f"levels must be two or more strictly increasing numbers, got {self.levels}")
        if len(self.levels) > 2**self.bits:
            raise RecipeError(f"{len(self.levels)} levels do not fit in codes of {self.bits} bits")

    def _check_mixed(self) -> None:
        if self.mixed is None:
            return
        if not self.uniform or self.narrow or self.wide or self.granularity != "channel":
            raise RecipeError(
                "widths of their own go with uniform grids and a scale a channel: no levels, narrow or wide grids, and "
                f"granularity 'channel', not {self.granularity!r}"
            )
        if not 0 <= self.mixed <= self.bits:
            raise RecipeError(f"the mean width of the rows' codes must be from 0 to {self.bits} bits, got {self.mixed}")

    def of_width(self, width: int) -> "GridSpec":
        """What a mixed grid is in its rows of 1 bit or more. One bit has two codes next to each other, 0 among them."""
        several = width > 1
        return replace(
            self, bits=width, signed=self.signed and several, symmetric=self.symmetric and several, mixed=None
        )

    @classmethod
    def ternary(cls, granularity: Granularity = "channel", group_size: int | None = None) -> "GridSpec":
        """{-1, 0, 1} times a scale: packs five codes to a byte."""
        return cls(bits=2, narrow=True, granularity=granularity, group_size=group_size)

    @classmethod
    def level_set(
        cls, levels: tuple[float, ...], granularity: Granularity = "channel", group_size: int | None = None
    ) -> "GridSpec":
        """Any sorted list of 2 to 256 levels."""
        bits = min(max(1, ceil(log2(max(len(levels), 1)))), MAX_BITS)
        return cls(bits=bits, granularity=granularity, group_size=group_size, levels=tuple(map(float, levels)))

    @classmethod
    def fitted(cls, count: int, granularity: Granularity = "channel") -> "GridSpec":
        """A codebook of 2 to 512 levels."""
        bits = max(1, ceil(log2(max(count, 1))))
        return cls(bits=min(bits, _CODEBOOK_BITS), granularity=granularity, codebook=count)

    @property
    def uniform(self) -> bool:
        """Codes stand for equally spaced numbers."""
        return self.levels is None and self.codebook is None

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
        """What people call the width: 'ternary' or the number of bits; fractional where codes are neither 2^b nor, on
        a narrow grid, one less.
        """
        if self.mixed is not None:
            return f"{self.mixed:g} mixed"
        if self.is_ternary:
            return "ternary"
        return str(self.bits) if self.count in (2**self.bits, 2**self.bits - self.narrow) else f"{log2(self.count):.2f}"

    @property
    def code_dtype(self) -> torch.dtype:
        """Smallest torch integer type that holds every code."""
        if self.qmax > 255 or (self.qmax > 127 and self.qmin < 0):
            return torch.int16
        return torch.int8 if self.qmin < 0 else torch.uint8

    @property
    def reach(self) -> tuple[int, int] | None:
        """Smallest and largest number of steps that a code stands for, before a zero point is subtracted; None where
        they are not all whole numbers.
        """
        if self.uniform:
            return self.qmin, self.qmax
        if self.levels is None or not all(level.is_integer() for level in self.levels):
            return None
        return int(self.levels[0]), int(self.levels[-1])


@dataclass(frozen=True, eq=False)
class Grid:
    """A spec with its numbers.

    scale: float32, positive. Shape [] (tensor), [rows, 1] (channel) or [rows, ceil(columns / group_size)] (group).
    zero_point: int32, the shape of `scale`; all 0 where the spec is symmetric, a level set or a codebook.
    codebook: float32 [1, count] (tensor) or [rows, count] (channel), rising along each row; codebooks only.
    widths: int32 [rows, 1], bits of each row's codes; mixed grids only. Rows of 0 bits have the one code 0 and a zero
        point of -1, 0 or 1, so that they stand for scale, 0 or -scale.
    Raises NumericsError for scales that are not positive finite numbers, RecipeError for zero points out of range, a
    codebook that does not rise or widths beyond 0 ... bits.
    """

    spec: GridSpec
    scale: Tensor
    zero_point: Tensor
    codebook: Tensor | None = None
    widths: Tensor | None = None

    def __post_init__(self) -> None:
        self._check_codebook()
        self._check_widths()
        if not bool((torch.isfinite(self.scale) & (self.scale > 0)).all()):
            raise NumericsError(f"scales must be positive finite numbers, got {_extremes(self.scale)}")
        if self.zero_point.shape != self.scale.shape:
            raise RecipeError(f"zero_point {tuple(self.zero_point.shape)} and scale {tuple(self.scale.shape)} differ")
        low, high = self.ends
        if self.spec.fixed_zero:
            low, high = 0 * low, 0 * high
        if self.widths is not None:
            low, high = torch.where(self.widths == 0, -1, low), torch.where(self.widths == 0, 1, high)
        if bool(((self.zero_point < low) | (self.zero_point > high)).any()):
            shown = f"{int(low.min())}..{int(high.max())}"
            raise RecipeError(f"zero points must lie in {shown}, got {_extremes(self.zero_point)}")

    def _check_widths(self) -> None:
        if (self.widths is None) != (self.spec.mixed is None):
            raise RecipeError("widths go with a mixed spec, and only with it")
        if self.widths is None:
            return
        if self.widths.shape != self.scale.shape or bool(((self.widths < 0) | (self.widths > self.spec.bits)).any()):
            raise RecipeError(
                f"widths must be {list(self.scale.shape)} and lie in 0..{self.spec.bits}, "
                f"got {list(self.widths.shape)}, {_extremes(self.widths)}"
            )

    def _check_codebook(self) -> None:
        if (self.codebook is None) != (self.spec.codebook is None):
            raise RecipeError("a codebook goes with a codebook's spec, and only with it")
        if self.codebook is None:
            return
        rows = 1 if self.spec.granularity == "tensor" else self.scale.shape[0]
        if self.codebook.shape != (rows, self.spec.count) or not bool((self.codebook.diff(dim=1) > 0).all()):
            raise RecipeError(
                f"a codebook must be [{rows}, {self.spec.count}] and rise along each row, "
                f"got {list(self.codebook.shape)}: {self.codebook.reshape(-1)[:8].tolist()}"
            )
        if not bool(torch.isfinite(self.codebook).all()):
            raise NumericsError("a codebook holds NaN or Inf")

    @classmethod
    def of(
        cls,
        spec: GridSpec,
        scale: Tensor,
        zero_point: Tensor | None = None,
        codebook: Tensor | None = None,
        widths: Tensor | None = None,
    ) -> "Grid":
        """The grid with this scale; the zero point is 0 unless given. Numbers are converted to float32 and int32."""
        scale = scale.to(torch.float32)
        if zero_point is None:
            zero_point = torch.zeros_like(scale)
        zero_point = zero_point.long().clamp(-(2**15), 2**15).int()  # far out of range stays so
        codebook = None if codebook is None else codebook.to(torch.float32)
        return cls(spec, scale, zero_point, codebook, None if widths is None else widths.int())

    def with_scale(self, scale: Tensor) -> "Grid":
        """The same codes on another scale (same shape as before)."""
        return replace(self, scale=scale.to(torch.float32))

    def to(self, device: torch.device | str) -> "Grid":
        """The same grid on another device."""
        codebook, widths = (None if t is None else t.to(device) for t in (self.codebook, self.widths))
        return Grid(self.spec, self.scale.to(device), self.zero_point.to(device), codebook, widths)

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest code, int32, the shape of the scale."""
        if self.widths is None:
            shape, device = self.scale.shape, self.scale.device
            low, high = (
                torch.full(shape, end, dtype=torch.int32, device=device) for end in (self.spec.qmin, self.spec.qmax)
            )
            return low, high
        count = 2**self.widths
        low = -(count // 2) if self.spec.signed else 0 * count
        return low.int(), (low + count - 1).int()

    def spread(self, parameter: Tensor, columns: int) -> Tensor:
        """`scale` or `zero_point` as it applies to the columns of a [rows, columns] tensor: broadcastable to it."""
        if self.spec.granularity != "group":
            return parameter
        return parameter.repeat_interleave(self.spec.group_size or 1, dim=1)[:, :columns]

    def encode(self, x: Tensor) -> Tensor:
        """Nearest codes of x, in the spec's code dtype and x's shape.

        x: float; any shape for granularity 'tensor', [rows, columns] for the others.
        Raises NumericsError where x is NaN (infinities saturate).
        """
        if bool(torch.isnan(x).any()):
            raise NumericsError(f"{int(torch.isnan(x).sum())} of {x.numel()} values to quantize are NaN")
        scaled = x.to(torch.float32) / self.spread(self.scale, x.shape[-1] if x.ndim else 1)
        if not self.spec.uniform:
            return nearest_level(scaled, self.levels(x.device)).to(self.spec.code_dtype)
        codes = torch.round(scaled) + self.spread(self.zero_point, x.shape[-1] if x.ndim else 1)
        if self.widths is not None:
            return codes.clamp_(*self.ends).to(self.spec.code_dtype)
        return codes.clamp_(self.spec.qmin, self.spec.qmax).to(self.spec.code_dtype)

    def decode(self, codes: Tensor) -> Tensor:
        """Real values of codes, float32, the codes' shape."""
        columns = codes.shape[-1] if codes.ndim else 1
        return self.units(codes) * self.spread(self.scale, columns)

    def units(self, codes: Tensor) -> Tensor:
        """Real values divided by the scale, float32: `code - zero_point`, or the level."""
        if not self.spec.uniform:
            return take_levels(codes, self.levels(codes.device))
        columns = codes.shape[-1] if codes.ndim else 1
        return codes.to(torch.float32) - self.spread(self.zero_point, columns)

    def quantize(self, x: Tensor) -> Tensor:
        """Nearest representable values (fake-quantize): `decode(encode(x))`."""
        return self.decode(self.encode(x))

    @property
    def label(self) -> str:
        """The spec's label; of a mixed grid with the mean width that it has."""
        return self.spec.label if self.widths is None else f"{float(self.widths.float().mean()):.2f} mixed"

    @property
    def nbytes(self) -> int:
        """Stored bytes of scales, zero points, widths and levels (of a level set once a tensor, of codebooks all)."""
        scales = self.scale.numel()
        zero_points = 0 if self.spec.fixed_zero else scales * (1 if self.widths is None else 2)
        widths = 0 if self.widths is None else scales
        levels = 0 if self.spec.uniform else self.levels(self.scale.device).numel() * _FLOAT_BYTES
        return scales * _FLOAT_BYTES + zero_points + widths + levels

    def levels(self, device: torch.device) -> Tensor:
        """What the codes of a level set or codebook stand for, in steps of the scale: float32 [1 or rows, count]."""
        if self.codebook is not None:
            return self.codebook.to(device)
        return torch.tensor(self.spec.levels, dtype=torch.float32, device=device)[None]


def nearest_level(values: Tensor, levels: Tensor) -> Tensor:
    """Index of the nearest of rising levels, the lower one at a tie: int64, the shape of `values`.

    values: any shape for levels [1, count]; [rows, columns] for [rows, count].
    """
    middles = ((levels[:, 1:].double() + levels[:, :-1].double()) / 2).to(values.dtype)
    if levels.shape[0] == 1:
        return torch.bucketize(values, middles[0])
    return torch.searchsorted(middles.contiguous(), values.contiguous())


def take_levels(codes: Tensor, levels: Tensor) -> Tensor:
    """levels[code], or levels[row, code] for [rows, columns] codes: the codes' shape."""
    if levels.shape[0] == 1:
        return levels[0][codes.long()]
    return levels.gather(1, codes.long())


def _extremes(x: Tensor) -> str:
    return f"values from {x.min().item():g} to {x.max().item():g}"
