"""Activation quantizers that learn their range (LSQ+: Bhalgat et al. 2020)."""

import torch
from torch import Tensor, nn

from subbyte.core import Grid
from subbyte.engine.trainable.straight import Rounded
from subbyte.graph import FakeQuantize


class LearnedQuantizer(nn.Module):
    """In the place of a quantizer with a fixed, even grid.

    s = s_0 exp(t): the scale; z: the zero point, rounded to whole numbers, where there is one to
    choose. t and z are learned.
    """

    def __init__(self, fixed: FakeQuantize) -> None:
        super().__init__()
        grid = fixed.grid
        assert grid is not None and grid.spec.alphabet.even
        self.axis, self.spec, self.own = fixed.axis, grid.spec, grid.own
        self.register_buffer("start", fixed.scale.clone())
        self.log_scale = nn.Parameter(torch.zeros_like(fixed.scale))
        self.zero = nn.Parameter(fixed.zero_point.float(), grid.spec.alphabet.has_zero_point)

    def forward(self, x: Tensor) -> Tensor:
        """X of any shape to its nearest representable values."""
        scale, zero = self.scale(), self.zero_point()
        low, high = self.spec.alphabet.ladder(zero, self.own).ends
        if self.axis is not None:
            scale, low, high = (self._along(part, x) for part in (scale, low, high))
        return Rounded.apply(x.float(), scale, self.zero, low, high)

    def scale(self) -> Tensor:
        """The learned scale: [] or [channels]."""
        scale = self.start * self.log_scale.exp()
        return scale if not self.spec.powers else scale + (self.spec.allowed(scale) - scale).detach()

    def zero_point(self) -> Tensor:
        """Whole numbers in range, int32."""
        low, high = self.spec.alphabet.zero_ends(self.own)
        return self.zero.detach().round().clamp(low, high).int()

    @property
    @torch.no_grad()
    def grid(self) -> Grid:
        """The grid as it is now."""
        share = self.spec.share
        rows = self.start.numel()
        scale, zero = (share.shaped(part, rows) for part in (self.scale(), self.zero_point()))
        return Grid(self.spec, scale, zero, self.own)

    def _along(self, parameter: Tensor | int, x: Tensor) -> Tensor | int:
        if isinstance(parameter, int) or parameter.ndim == 0:
            return parameter
        return parameter.reshape(-1, *[1] * (x.ndim - 1 - self.axis))
