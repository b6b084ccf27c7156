"""Ladders: the numbers of a grid in steps of its scale, made ready to round to many times.

    even      z_min - zero_point, ..., z_max - zero_point      whole numbers; half goes to even, as
                                                               in ONNX's QuantizeLinear
    uneven    l_0 < l_1 < ...                                  any rising numbers; a tie goes to the
                                                               lower one

A value divided by its scale is a number of steps. All functions take steps of any shape that the
ladder's ends spread over, and may overwrite them.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

Number = Tensor | int
_ON_GRID = 1e-4  # steps; float32 noise of values that lie on the grid


class Ladder(ABC):
    """The numbers that codes stand for, in steps."""

    @abstractmethod
    def nearest(self, steps: Tensor) -> Tensor:
        """The nearest numbers, in the steps' shape."""

    @abstractmethod
    def either(self, steps: Tensor, noise: Tensor) -> Tensor:
        """One of both neighbours, so that the mean over noise in [0, 1) is the value itself."""

    @abstractmethod
    def beside(self, steps: Tensor) -> Tensor:
        """The second nearest numbers: those on the other side of the steps; at an end, beyond which
        there is none, the nearest.
        """

    @abstractmethod
    def encode(self, steps: Tensor) -> Tensor:
        """Codes of the nearest numbers: whole numbers of any type."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """The numbers of codes, in the codes' shape."""

    @property
    @abstractmethod
    def ends(self) -> tuple[Number, Number]:
        """Smallest and largest number of each row."""

    @property
    @abstractmethod
    def margins(self) -> tuple[Number, Number]:
        """The reach of both ends' cells beyond the ends: half the distance to the neighbour."""


class Even(Ladder):
    """Whole numbers one after another. low, high, zero_point: codes; tensors where rows differ."""

    def __init__(self, low: Number, high: Number, zero_point: Number) -> None:
        self._zero_point, self._codes = zero_point, (low, high)
        self._low, self._high = low - zero_point, high - zero_point

    def nearest(self, steps: Tensor) -> Tensor:
        """See `Ladder`."""
        return self._between_ends(steps.round_())

    def either(self, steps: Tensor, noise: Tensor) -> Tensor:
        """See `Ladder`."""
        whole = torch.round(steps)
        steps = torch.where((steps - whole).abs() < _ON_GRID, whole, torch.floor(steps + noise))
        return self._between_ends(steps)

    def _between_ends(self, numbers: Tensor) -> Tensor:
        """Clamped in place; to ends that spread over the numbers in two passes, which together are
        four times faster than one.
        """
        low, high = self._low, self._high
        if isinstance(low, Tensor) and isinstance(high, Tensor) and low.numel() < numbers.numel():
            torch.maximum(numbers, low, out=numbers)
            return torch.minimum(numbers, high, out=numbers)
        return numbers.clamp_(low, high)  # type: ignore[arg-type]

    def beside(self, steps: Tensor) -> Tensor:
        """See `Ladder`."""
        nearest = self.nearest(steps.clone())
        return nearest.add_(torch.sign(steps - nearest)).clamp_(self._low, self._high)  # type: ignore[arg-type]

    def encode(self, steps: Tensor) -> Tensor:
        """See `Ladder`; to clamp codes to plain numbers is faster than steps to tensors."""
        return steps.round_().add_(self._zero_point).clamp_(*self._codes)  # type: ignore[arg-type]

    def decode(self, codes: Tensor) -> Tensor:
        """See `Ladder`."""
        return codes.to(torch.float32) - self._zero_point

    @property
    def ends(self) -> tuple[Number, Number]:
        """See `Ladder`."""
        return self._low, self._high

    @property
    def margins(self) -> tuple[float, float]:  # type: ignore[override]
        """See `Ladder`."""
        return 0.5, 0.5


class Uneven(Ladder):
    """levels: rising, [1, count] for all rows or [rows, count]; inf where a row has fewer."""

    def __init__(self, levels: Tensor) -> None:
        self._levels = levels
        middles = (levels[:, 1:].double() + levels[:, :-1].double()) / 2
        self._middles = middles.to(levels.dtype)

    def nearest(self, steps: Tensor) -> Tensor:
        """See `Ladder`."""
        return self.decode(self.encode(steps))

    def either(self, steps: Tensor, noise: Tensor) -> Tensor:
        """See `Ladder`."""
        value, beside = self.nearest(steps), self.beside(steps)
        gap = beside - value
        share = torch.where(gap == 0, 0.0, (steps - value) / torch.where(gap == 0, 1.0, gap))
        moved = noise < torch.where(share.abs() < _ON_GRID, 0.0, share)
        return torch.where(moved, beside, value)

    def beside(self, steps: Tensor) -> Tensor:
        """See `Ladder`."""
        nearest = self.encode(steps)
        towards = torch.sign(steps - self.decode(nearest)).long()
        return self.decode((nearest + towards).clamp(0, self._levels.shape[1] - 1))

    def encode(self, steps: Tensor) -> Tensor:
        """See `Ladder`."""
        if len(self._levels) == 1:
            return torch.bucketize(steps, self._middles[0])
        return torch.searchsorted(self._middles, self._rows(steps)).reshape(steps.shape)

    def decode(self, codes: Tensor) -> Tensor:
        """See `Ladder`."""
        if len(self._levels) == 1:
            return self._levels[0][codes.long()]
        return self._levels.gather(1, self._rows(codes.long())).reshape(codes.shape)

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        """See `Ladder`."""
        return self._levels[:, :1], self._levels.gather(1, self._last)

    @property
    def margins(self) -> tuple[Tensor, Tensor]:
        """See `Ladder`."""
        first = self._levels[:, 1:2] - self._levels[:, :1]
        last = self._levels.gather(1, self._last) - self._levels.gather(1, self._last - 1)
        return first / 2, last / 2

    @property
    def _last(self) -> Tensor:
        return torch.isfinite(self._levels).sum(1, keepdim=True) - 1

    def _rows(self, x: Tensor) -> Tensor:
        rows = len(self._levels)
        return x.reshape(rows, x.numel() // rows).contiguous()
