"""Grids: the set of real numbers that the codes of a tensor can stand for.

    GridSpec = alphabet x share           what a grid may be, before any data is seen
    Grid     = spec + numbers             scale, zero point, and what the alphabet has of its own

    x ~= (position(code) - zero_point) * scale

Rounding is to the nearest representable number. Zero points are whole numbers, so real 0 lies on
every grid that has 0 among its codes and whose zero point is in range.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from subbyte.core.alphabet import Alphabet, extremes
from subbyte.core.alphabets import alphabet_from
from subbyte.core.ladders import Ladder
from subbyte.core.shares import PerTensor, Share, share_from
from subbyte.errors import NumericsError, RecipeError


@dataclass(frozen=True)
class GridSpec:
    """A kind of grid: the numbers that codes can stand for, and which weights share a scale.

    powers: scales are powers of two, so that hardware multiplies by them with a shift.
    Raises RecipeError where the two do not go together.
    """

    alphabet: Alphabet
    share: Share = field(default_factory=PerTensor)
    powers: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.alphabet, Alphabet):
            raise RecipeError(
                f"a grid's alphabet is an Alphabet, such as Uniform(4); got {self.alphabet!r}"
            )
        if not isinstance(self.share, Share):
            raise RecipeError(
                f"a grid's share is a Share, such as PerChannel(); got {self.share!r}"
            )
        if refusal := self.alphabet.refuses(self.share):
            raise RecipeError(refusal)

    @property
    def label(self) -> str:
        """The width in words."""
        return self.alphabet.label

    def to_dict(self) -> dict[str, Any]:
        """Plain values for files; `from_dict` reads them."""
        plain = {"alphabet": self.alphabet.to_dict(), "share": self.share.to_dict()}
        return plain | ({"powers": True} if self.powers else {})

    @classmethod
    def from_dict(cls, entry: object) -> "GridSpec":
        """Inverse of `to_dict`. Raises RecipeError when it is not one."""
        if not isinstance(entry, Mapping) or set(entry) - {"powers"} != {"alphabet", "share"}:
            raise RecipeError(f"expected a grid's alphabet and share, got {entry!r}")
        if not isinstance(entry.get("powers", False), bool):
            raise RecipeError(f"powers of a grid is true or false, got {entry['powers']!r}")
        alphabet, share = alphabet_from(entry["alphabet"]), share_from(entry["share"])
        return cls(alphabet, share, entry.get("powers", False))

    def allowed(self, scale: Tensor) -> Tensor:
        """The scales nearest to these, as ratios, that the grid may have."""
        if not self.powers:
            return scale
        mantissa, _ = torch.frexp(scale)  # 0.5 ... 1
        power = scale / mantissa
        return torch.where(mantissa < 0.5**0.5, power / 2, power)


@dataclass(frozen=True, eq=False)
class Grid:
    """A spec with its numbers.

    scale: float32, positive. Shape [] (tensor), [rows, 1] (channel) or [rows, ceil(columns /
        size)] (group).
    zero_point: int32, the shape of `scale`; all 0 where the alphabet has none.
    own: what the alphabet has of its own in each row, float32 or int32 [1 or rows, n]; [0] for
        most.
    Raises NumericsError for scales that are not positive finite numbers, RecipeError for zero
    points out of range or numbers that do not fit the alphabet.
    """

    spec: GridSpec
    scale: Tensor
    zero_point: Tensor
    own: Tensor

    def __post_init__(self) -> None:
        self._alphabet.check_own(self.own, self.scale, self.spec.share)
        self._check_scale()
        low, high = map(torch.as_tensor, self._alphabet.zero_ends(self.own))
        if bool(((self.zero_point < low) | (self.zero_point > high)).any()):
            shown = f"{int(low.min())}..{int(high.max())}"
            raise RecipeError(f"zero points must lie in {shown}, got {extremes(self.zero_point)}")

    def _check_scale(self) -> None:
        if not bool((torch.isfinite(self.scale) & (self.scale > 0)).all()):
            raise NumericsError(
                f"scales must be positive finite numbers, got {extremes(self.scale)}"
            )
        if self.spec.powers and not bool((torch.frexp(self.scale)[0] == 0.5).all()):
            raise NumericsError(
                f"scales of this grid are powers of two, got {extremes(self.scale)}"
            )
        if self.zero_point.shape != self.scale.shape:
            raise RecipeError(
                f"zero_point {tuple(self.zero_point.shape)} and scale {tuple(self.scale.shape)} "
                f"differ"
            )

    @classmethod
    def of(
        cls,
        spec: GridSpec,
        scale: Tensor,
        zero_point: Tensor | None = None,
        own: Tensor | None = None,
    ) -> "Grid":
        """The grid with this scale. The zero point is 0 unless given, the alphabet's own numbers
        those that it knows. Numbers are converted to float32 and int32, scales to those that the
        spec allows.
        """
        scale = spec.allowed(scale.to(torch.float32))
        if zero_point is None:
            zero_point = torch.zeros_like(scale)
        zero_point = zero_point.long().clamp(-(2**15), 2**15).int()  # far out of range stays so
        own = spec.alphabet.given if own is None else own
        own = own.to(scale.device, torch.float32 if own.is_floating_point() else torch.int32)
        return cls(spec, scale, zero_point, own)

    @classmethod
    def of_stored(cls, spec: GridSpec, stored: Mapping[str, Tensor]) -> "Grid":
        """Inverse of `stored`.

        Raises KeyError for a tensor that is missing, RecipeError for one of another type.
        """
        alphabet, types = spec.alphabet, {"scale": torch.float32}
        if alphabet.has_zero_point:
            types["zero_point"] = alphabet.zero_dtype or alphabet.code_dtype
        if alphabet.own:
            types[alphabet.own] = alphabet.own_dtype
        for name, dtype in types.items():
            if stored[name].dtype != dtype:
                raise RecipeError(f"{name} must be {dtype}, got {stored[name].dtype}")
        held = [stored.get(name) for name in ("zero_point", alphabet.own)]
        return cls.of(spec, stored["scale"], *held)

    @property
    def stored(self) -> dict[str, Tensor]:
        """The tensors that a file holds of the grid, by name, in their stored types."""
        alphabet, held = self._alphabet, {"scale": self.scale}
        if alphabet.has_zero_point:
            held["zero_point"] = self.zero_point.to(alphabet.zero_dtype or alphabet.code_dtype)
        if alphabet.own:
            held[alphabet.own] = self.own.to(alphabet.own_dtype)
        return {name: tensor.cpu().contiguous() for name, tensor in held.items()}

    def with_scale(self, scale: Tensor) -> "Grid":
        """The same codes on another scale (same shape as before), or the nearest that the spec
        allows.
        """
        moved = self._with(scale=self.spec.allowed(scale.to(torch.float32)))
        moved._check_scale()
        return moved

    def to(self, device: torch.device | str) -> "Grid":
        """The same grid on another device."""
        numbers = {"scale": self.scale, "zero_point": self.zero_point, "own": self.own}
        return self._with(**{name: value.to(device) for name, value in numbers.items()})

    def _with(self, **numbers: Tensor) -> "Grid":
        """A copy with other numbers; what was checked is not checked again, as a device is made to
        wait for it.
        """
        made = copy(self)
        for name, value in numbers.items():
            object.__setattr__(made, name, value)
        return made

    @property
    def _alphabet(self) -> Alphabet:
        return self.spec.alphabet

    @property
    def step(self) -> Tensor:
        """The real value of one unit of `Alphabet.integers`; the scale where there are none."""
        integers = self._alphabet.integers
        return self.scale if integers is None else self.scale / integers.per_step

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest code, int32, the shape of the scale."""
        shape, device = self.scale.shape, self.scale.device
        low, high = (
            torch.as_tensor(end, dtype=torch.int32, device=device).expand(shape)
            for end in self._alphabet.ends(self.own)
        )
        return low, high

    @property
    def reach(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest real number of each block: float32, the shape of the scale."""
        rows = self.scale.shape[0] if self.scale.ndim else 1
        low, high = (
            self.spec.share.shaped(end * self.scale, rows)
            for end in self._alphabet.ladder(self.zero_point, self.own).ends
        )
        return low, high

    def spread(self, parameter: Tensor, columns: int) -> Tensor:
        """`scale` or `zero_point` as it applies to the columns of a [rows, columns] tensor:
        broadcastable to it.
        """
        return self.spec.share.spread(parameter, columns)

    def ladder(self, columns: int) -> Ladder:
        """The numbers that a [rows, columns] tensor is rounded to, in steps of the scale."""
        return self._alphabet.ladder(self.spread(self.zero_point, columns), self.own)

    def encode(self, x: Tensor) -> Tensor:
        """Nearest codes of x, in the alphabet's code dtype and x's shape.

        x: float; any shape for one scale a tensor, [rows, columns] for others.
        Raises NumericsError where x is NaN (infinities saturate).
        """
        if bool(torch.isnan(x).any()):
            raise NumericsError(
                f"{int(torch.isnan(x).sum())} of {x.numel()} values to quantize are NaN"
            )
        columns = _columns(x)
        steps = x.to(torch.float32) / self.spread(self.scale, columns)
        return self.ladder(columns).encode(steps).to(self._alphabet.code_dtype)

    def decode(self, codes: Tensor) -> Tensor:
        """Real values of codes, float32, the codes' shape."""
        return self.units(codes) * self.spread(self.scale, _columns(codes))

    def units(self, codes: Tensor) -> Tensor:
        """Real values divided by the scale, float32."""
        return self.ladder(_columns(codes)).decode(codes)

    def table(self) -> Tensor:
        """The value of each code, divided by the scale: float32 [rows, count], or [1, count] for
        one scale. Each row has one scale, and all codes.
        """
        rows = 1 if self.spec.share.one_scale else self.scale.shape[0]
        codes = torch.arange(self._alphabet.qmin, self._alphabet.qmax + 1, device=self.scale.device)
        return self.units(codes.expand(rows, -1))

    def quantize(self, x: Tensor) -> Tensor:
        """Nearest representable values (fake-quantize): `decode(encode(x))`."""
        return self.decode(self.encode(x))

    @property
    def label(self) -> str:
        """The spec's label; where rows vary with the mean width that they have."""
        return self._alphabet.label_of(self.own)

    @property
    def words(self) -> str:
        """The width in a sentence."""
        return self._alphabet.words(self.own)

    @property
    def nbytes(self) -> int:
        """Stored bytes of scales, zero points, numbers of its own, and listed levels."""
        held = self.stored.values()
        return sum(t.numel() * t.element_size() for t in held) + self._alphabet.nbytes


def _columns(x: Tensor) -> int:
    return x.shape[-1] if x.ndim else 1
