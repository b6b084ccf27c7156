"""Grids: the set of real numbers that the codes of a tensor can stand for.

    uniform      x ~= (code - zero_point) * scale          qmin <= code <= qmax
    level set    x ~= levels[code] * scale                 0 <= code < len(levels)
    codebook     x ~= codebook[row, code] * scale          levels that are fitted to the tensor or
                                                           to each row
    mixed        uniform, each row with codes of a width of its own: 0 to 8 bits, a row of 0 bits
                 being one number
    counted      x ~= (code - (n - 1) / 2) * scale         each row with a number n of levels of its
                                                           own, 2 to 127

Rounding is to the nearest representable number: half to even on uniform grids (as ONNX's
QuantizeLinear), to the
lower level on level sets and codebooks. Zero points are integers, so real 0 lies on every uniform
grid whose zero point is in range.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from subbyte.core.spec import MOST_LEVELS, GridSpec
from subbyte.errors import NumericsError, RecipeError

_FLOAT_BYTES = 4


@dataclass(frozen=True, eq=False)
class Grid:
    """A spec with its numbers.

    scale: float32, positive. Shape [] (tensor), [rows, 1] (channel) or [rows, ceil(columns /
        group_size)] (group).
    zero_point: int32, the shape of `scale`; all 0 where the spec is symmetric, a level set or a
        codebook.
    codebook: float32 [1, count] (tensor) or [rows, count] (channel), rising along each row;
        codebooks only.
    counts: int32 [rows, 1], number of each row's levels; counted grids only.
    widths: int32 [rows, 1], bits of each row's codes; mixed grids only. Rows of 0 bits have the one
        code 0 and a zero point of -1, 0 or 1, so that they stand for scale, 0 or -scale.
    Raises NumericsError for scales that are not positive finite numbers, RecipeError for zero
    points out of range, a codebook that does not rise or widths beyond 0 ... bits.
    """

    spec: GridSpec
    scale: Tensor
    zero_point: Tensor
    codebook: Tensor | None = None
    widths: Tensor | None = None
    counts: Tensor | None = None

    def __post_init__(self) -> None:
        self._check_codebook()
        self._check_widths()
        self._check_counts()
        if not bool((torch.isfinite(self.scale) & (self.scale > 0)).all()):
            raise NumericsError(
                f"scales must be positive finite numbers, got {_extremes(self.scale)}"
            )
        if self.zero_point.shape != self.scale.shape:
            raise RecipeError(
                f"zero_point {tuple(self.zero_point.shape)} and scale {tuple(self.scale.shape)} "
                f"differ"
            )
        low, high = self.ends
        if self.spec.fixed_zero:
            low, high = 0 * low, 0 * high
        if self.widths is not None:
            low, high = (
                torch.where(self.widths == 0, -1, low),
                torch.where(self.widths == 0, 1, high),
            )
        if bool(((self.zero_point < low) | (self.zero_point > high)).any()):
            shown = f"{int(low.min())}..{int(high.max())}"
            raise RecipeError(f"zero points must lie in {shown}, got {_extremes(self.zero_point)}")

    def _check_widths(self) -> None:
        if (self.widths is None) != (self.spec.mixed is None):
            raise RecipeError("widths go with a mixed spec, and only with it")
        if self.widths is None:
            return
        if self.widths.shape != self.scale.shape or bool(
            ((self.widths < 0) | (self.widths > self.spec.bits)).any()
        ):
            raise RecipeError(
                f"widths must be {list(self.scale.shape)} and lie in 0..{self.spec.bits}, "
                f"got {list(self.widths.shape)}, {_extremes(self.widths)}"
            )

    def _check_counts(self) -> None:
        if (self.counts is None) == self.spec.counted:
            raise RecipeError("counts go with a counted spec, and only with it")
        if self.counts is None:
            return
        if (
            self.counts.shape != self.scale.shape
            or not 2 <= self.counts.min() <= self.counts.max() <= MOST_LEVELS
        ):
            raise RecipeError(
                f"counts must be {list(self.scale.shape)} and lie in 2..{MOST_LEVELS}, "
                f"got {list(self.counts.shape)}, {_extremes(self.counts)}"
            )

    def _check_codebook(self) -> None:
        if (self.codebook is None) != (self.spec.codebook is None):
            raise RecipeError("a codebook goes with a codebook's spec, and only with it")
        if self.codebook is None:
            return
        rows = 1 if self.spec.granularity == "tensor" else self.scale.shape[0]
        if self.codebook.shape != (rows, self.spec.count) or not bool(
            (self.codebook.diff(dim=1) > 0).all()
        ):
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
        counts: Tensor | None = None,
    ) -> "Grid":
        """The grid with this scale; the zero point is 0 unless given. Numbers are converted to
        float32 and int32.
        """
        scale = scale.to(torch.float32)
        if zero_point is None:
            zero_point = torch.zeros_like(scale)
        zero_point = zero_point.long().clamp(-(2**15), 2**15).int()  # far out of range stays so
        codebook = None if codebook is None else codebook.to(torch.float32)
        widths, counts = (None if t is None else t.int() for t in (widths, counts))
        return cls(spec, scale, zero_point, codebook, widths, counts)

    def with_scale(self, scale: Tensor) -> "Grid":
        """The same codes on another scale (same shape as before)."""
        return replace(self, scale=scale.to(torch.float32))

    def to(self, device: torch.device | str) -> "Grid":
        """The same grid on another device."""
        own = (self.codebook, self.widths, self.counts)
        codebook, widths, counts = (None if t is None else t.to(device) for t in own)
        return Grid(
            self.spec, self.scale.to(device), self.zero_point.to(device), codebook, widths, counts
        )

    @property
    def step(self) -> Tensor:
        """What the whole numbers of `GridSpec.reach` count: the scale, of counted grids half of
        it.
        """
        return self.scale / 2 if self.spec.counted else self.scale

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest code, int32, the shape of the scale."""
        if self.counts is not None:
            return torch.zeros_like(self.counts), self.counts - 1
        if self.widths is None:
            shape, device = self.scale.shape, self.scale.device
            low, high = (
                torch.full(shape, end, dtype=torch.int32, device=device)
                for end in (self.spec.qmin, self.spec.qmax)
            )
            return low, high
        count = 2**self.widths
        low = -(count // 2) if self.spec.signed else 0 * count
        return low.int(), (low + count - 1).int()

    def spread(self, parameter: Tensor, columns: int) -> Tensor:
        """`scale` or `zero_point` as it applies to the columns of a [rows, columns] tensor:
        broadcastable to it.
        """
        if self.spec.granularity != "group":
            return parameter
        return parameter.repeat_interleave(self.spec.group_size or 1, dim=1)[:, :columns]

    def encode(self, x: Tensor) -> Tensor:
        """Nearest codes of x, in the spec's code dtype and x's shape.

        x: float; any shape for granularity 'tensor', [rows, columns] for the others.
        Raises NumericsError where x is NaN (infinities saturate).
        """
        if bool(torch.isnan(x).any()):
            raise NumericsError(
                f"{int(torch.isnan(x).sum())} of {x.numel()} values to quantize are NaN"
            )
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
        """The spec's label; of mixed and counted grids with the mean width that they have."""
        if self.counts is not None:
            return f"{float(self.counts.double().log2().mean()):.2f} mixed"
        return (
            self.spec.label
            if self.widths is None
            else f"{float(self.widths.float().mean()):.2f} mixed"
        )

    @property
    def nbytes(self) -> int:
        """Stored bytes of scales, zero points, widths or counts, and levels (of a level set once,
        of codebooks all).
        """
        scales = self.scale.numel()
        zero_points = 0 if self.spec.fixed_zero else scales * (1 if self.widths is None else 2)
        widths = 0 if self.widths is None and self.counts is None else scales
        levels = (
            0
            if self.spec.uniform or self.spec.counted
            else self.levels(self.scale.device).numel() * _FLOAT_BYTES
        )
        return scales * _FLOAT_BYTES + zero_points + widths + levels

    def levels(self, device: torch.device) -> Tensor:
        """What codes that are not uniform stand for, in steps of the scale: float32 [1 or rows,
        count].

        inf for codes that a row of a counted grid has not.
        """
        if self.counts is not None:
            codes = torch.arange(int(self.counts.max()), device=device)
            counts = self.counts.to(device)
            return torch.where(codes < counts, codes - (counts - 1) / 2, torch.inf).to(
                torch.float32
            )
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
