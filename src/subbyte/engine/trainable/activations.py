"""Activation quantizers that learn their range (LSQ+: Bhalgat et al. 2020)."""

import torch
from torch import Tensor, nn

from subbyte.core import Grid
from subbyte.core.ladders import Number
from subbyte.engine.trainable.measures import RATIOS
from subbyte.engine.trainable.straight import Rounded, Slowed, learned_scale
from subbyte.graph import FakeQuantize


class LearnedQuantizer(nn.Module):
    """In the place of a quantizer with a fixed, even grid.

    s = s_0 exp(t): the scale; z: the zero point, rounded to whole numbers, where there is one to
    choose. t and z are learned.
    """

    start: Tensor

    def __init__(self, fixed: FakeQuantize) -> None:
        super().__init__()
        grid = fixed.grid
        assert grid is not None and grid.spec.alphabet.even
        self.axis, self.spec, self.own = fixed.axis, grid.spec, grid.own
        self.register_buffer("start", fixed.scale.clone())
        self.growth = nn.Parameter(torch.zeros_like(fixed.scale))
        self.zero = nn.Parameter(fixed.zero_point.float(), grid.spec.alphabet.has_zero_point)

    def forward(self, x: Tensor) -> Tensor:
        """X of any shape to its nearest representable values."""
        ends = self.spec.alphabet.ladder(self.zero_point(), self.own).ends
        low, high = (self._along(end, x) for end in ends)
        sharing = x.numel() / len(x) / self.start.numel()
        slow = Slowed.apply(self.scale(), sharing, self.spec.alphabet.count)  # type: ignore[no-untyped-call]
        given = (x.float(), self._along(slow, x), self.zero, low, high)
        found: Tensor = Rounded.apply(*given)  # type: ignore[no-untyped-call]
        return found

    def scale(self) -> Tensor:
        """The learned scale: [] or [channels]."""
        return learned_scale(RATIOS, self.start, self.growth, self.spec)

    def zero_point(self) -> Tensor:
        """Whole numbers in range, int32."""
        low, high = self.spec.alphabet.zero_ends(self.own)
        return self.zero.detach().round().clamp(low, high).int()  # type: ignore[arg-type]

    @property
    def grid(self) -> Grid:
        """The grid as it is now."""
        share, rows = self.spec.share, self.start.numel()
        numbers = (self.scale().detach(), self.zero_point())
        scale, zero = (share.shaped(part, rows) for part in numbers)
        return Grid(self.spec, scale, zero, self.own)

    def _along(self, parameter: Number, x: Tensor) -> Number:
        """Numbers of channels in a shape that spreads over x."""
        if self.axis is None or isinstance(parameter, int) or not parameter.ndim:
            return parameter
        return parameter.reshape(-1, *[1] * (x.ndim - 1 - self.axis))
