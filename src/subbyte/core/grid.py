"""Grids: the set of real numbers that the codes of a tensor can stand for.

    uniform      x ~= (code - zero_point) * scale          qmin <= code <= qmax
    level set    x ~= levels[code] * scale                 0 <= code < len(levels)

Rounding is to the nearest representable number: half to even on uniform grids (as ONNX's QuantizeLinear), to the
lower level on level sets. Zero points are integers, so real 0 lies on every uniform grid whose zero point is in range.
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


@dataclass(frozen=True)
class GridSpec:
    """What a grid may be, before any data is seen.

    bits: width of a code, 1 to 8.
    signed: codes are centred on 0 (-2^(b-1) ... 2^(b-1)-1) rather than counted from 0.
    symmetric: the zero point is fixed to 0; otherwise it is chosen with the scale.
    narrow: the lowest signed code is dropped, so that the codes are symmetric; 2 bits narrow are ternary.
    granularity: who shares a scale: the tensor, a row (output channel), or `group_size` neighbours in a row.
    levels: for level-set grids, strictly increasing numbers that the codes 0, 1, ... index; `signed`, `symmetric`
        and `narrow` then have no meaning.
    Raises RecipeError when these contradict one another.
    """

    bits: int = 8
    signed: bool = True
    symmetric: bool = True
    narrow: bool = False
    granularity: Granularity = "tensor"
    group_size: int | None = None
    levels: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or not 1 <= self.bits <= MAX_BITS:
            raise RecipeError(f"bits must be a whole number from 1 to {MAX_BITS}, got {self.bits}")
        if (self.group_size is not None) != (self.granularity == "group"):
            raise RecipeError(
                f"group_size={self.group_size} with granularity={self.granularity!r}: "
                "a group size goes with granularity 'group', and only with it"
            )
        if self.group_size is not None and self.group_size < 1:
            raise RecipeError(f"group_size must be at least 1, got {self.group_size}")
        if self.levels is None:
            if self.signed and self.bits == 1:
                raise RecipeError("a signed uniform grid needs 2 bits or more; use 'ternary' or a level set")
            return
        rising = all(a < b for a, b in pairwise(self.levels)) and all(map(isfinite, self.levels))
        if len(self.levels) < 2 or not rising:
            raise RecipeError(f"levels must be two or more strictly increasing numbers, got {self.levels}")
        if len(self.levels) > 2**self.bits:
            raise RecipeError(f"{len(self.levels)} levels do not fit in codes of {self.bits} bits")

    @classmethod
    def ternary(cls, granularity: Granularity = "channel", group_size: int | None = None) -> "GridSpec":
        """{-1, 0, 1} times a scale: packs five codes to a byte."""
        return cls(bits=2, narrow=True, granularity=granularity, group_size=group_size)

    @classmethod
    def level_set(cls, levels: tuple[float, ...], granularity: Granularity = "channel") -> "GridSpec":
        """Any sorted list of 2 to 256 levels."""
        bits = max(1, ceil(log2(max(len(levels), 1))))
        return cls(bits=min(bits, MAX_BITS), granularity=granularity, levels=tuple(map(float, levels)))

    @property
    def qmin(self) -> int:
        """Smallest code."""
        if self.levels is not None or not self.signed:
            return 0
        return int(self.narrow) - int(2 ** (self.bits - 1))

    @property
    def qmax(self) -> int:
        """Largest code."""
        if self.levels is not None:
            return len(self.levels) - 1
        return int(2 ** (self.bits - 1 if self.signed else self.bits)) - 1

    @property
    def count(self) -> int:
        """Number of codes."""
        return self.qmax - self.qmin + 1

    @property
    def is_ternary(self) -> bool:
        """Three codes: stored in base 3."""
        return self.count == 3

    @property
    def label(self) -> str:
        """What people call the width: 'ternary' or the number of bits."""
        return "ternary" if self.is_ternary else str(self.bits)

    @property
    def code_dtype(self) -> torch.dtype:
        """Smallest torch integer type that holds every code."""
        return torch.int8 if self.qmin < 0 else torch.uint8


@dataclass(frozen=True, eq=False)
class Grid:
    """A spec with its numbers.

    scale: float32, positive. Shape [] (tensor), [rows, 1] (channel) or [rows, ceil(columns / group_size)] (group).
    zero_point: int32, the shape of `scale`; all 0 where the spec is symmetric or a level set.
    Raises NumericsError for scales that are not positive finite numbers, RecipeError for zero points out of range.
    """

    spec: GridSpec
    scale: Tensor
    zero_point: Tensor

    def __post_init__(self) -> None:
        if not bool((torch.isfinite(self.scale) & (self.scale > 0)).all()):
            raise NumericsError(f"scales must be positive finite numbers, got {_extremes(self.scale)}")
        if self.zero_point.shape != self.scale.shape:
            raise RecipeError(f"zero_point {tuple(self.zero_point.shape)} and scale {tuple(self.scale.shape)} differ")
        fixed = self.spec.symmetric or self.spec.levels is not None
        low, high = (0, 0) if fixed else (self.spec.qmin, self.spec.qmax)
        if bool(((self.zero_point < low) | (self.zero_point > high)).any()):
            raise RecipeError(f"zero points must lie in {low}..{high}, got {_extremes(self.zero_point)}")

    @classmethod
    def of(cls, spec: GridSpec, scale: Tensor, zero_point: Tensor | None = None) -> "Grid":
        """The grid with this scale; the zero point is 0 unless given. Both are converted to float32 and int32."""
        scale = scale.to(torch.float32)
        if zero_point is None:
            zero_point = torch.zeros_like(scale)
        return cls(spec, scale, zero_point.long().clamp(-(2**15), 2**15).int())  # far out of range stays so

    def with_scale(self, scale: Tensor) -> "Grid":
        """The same codes on another scale (same shape as before)."""
        return replace(self, scale=scale.to(torch.float32))

    def to(self, device: torch.device | str) -> "Grid":
        """The same grid on another device."""
        return replace(self, scale=self.scale.to(device), zero_point=self.zero_point.to(device))

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
        if self.spec.levels is not None:
            return torch.bucketize(scaled, self.thresholds(x.device)).to(self.spec.code_dtype)
        codes = torch.round(scaled) + self.spread(self.zero_point, x.shape[-1] if x.ndim else 1)
        return codes.clamp_(self.spec.qmin, self.spec.qmax).to(self.spec.code_dtype)

    def decode(self, codes: Tensor) -> Tensor:
        """Real values of codes, float32, the codes' shape."""
        columns = codes.shape[-1] if codes.ndim else 1
        return self.units(codes) * self.spread(self.scale, columns)

    def units(self, codes: Tensor) -> Tensor:
        """Real values divided by the scale, float32: `code - zero_point`, or the level."""
        if self.spec.levels is not None:
            return torch.tensor(self.spec.levels, dtype=torch.float32, device=codes.device)[codes.long()]
        columns = codes.shape[-1] if codes.ndim else 1
        return codes.to(torch.float32) - self.spread(self.zero_point, columns)

    def quantize(self, x: Tensor) -> Tensor:
        """Nearest representable values (fake-quantize): `decode(encode(x))`."""
        return self.decode(self.encode(x))

    def thresholds(self, device: torch.device) -> Tensor:
        """Midpoints between neighbouring levels, float32 [count - 1] (level sets only)."""
        levels = torch.tensor(self.spec.levels, dtype=torch.float64, device=device)
        return ((levels[1:] + levels[:-1]) / 2).to(torch.float32)


def _extremes(x: Tensor) -> str:
    return f"values from {x.min().item():g} to {x.max().item():g}"
