"""Rounding with gradients: values go on their grid, gradients go straight through."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Through(torch.autograd.Function):
    """`value` forward; backward the gradient of `steps`, but for what would push a number that is
    beyond an end (low, high) further out: it could never come back.
    """

    @staticmethod
    def forward(ctx: Any, steps: Tensor, value: Tensor, low: Any, high: Any) -> Tensor:
        """All in steps of a scale; low, high: numbers, or tensors that spread over steps."""
        ctx.save_for_backward(steps > high, steps < low)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """A step goes against the gradient."""
        above, below = ctx.saved_tensors
        outward = (above & (gradient < 0)) | (below & (gradient > 0))
        return gradient.masked_fill(outward, 0), None, None, None


class Rounded(torch.autograd.Function):
    """x to the nearest numbers of an even grid, with the gradients of LSQ and LSQ+.

        y = s (clamp(round(x / s), low, high)),    low = qmin - z, high = qmax - z

        dy/dx = 1 inside, 0 outside;  dy/ds = round(x / s) - x / s inside, low or high outside
        (Esser et al. 2020, eq. 3);   dy/dz = -s outside, 0 inside (Bhalgat et al. 2020, eq. 6)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, low: Any, high: Any) -> Tensor:
        """scale, low, high: spread over x; zero: what low and high were computed from."""
        steps = x / scale
        ctx.low, ctx.high, ctx.shape = low, high, zero.shape
        ctx.save_for_backward(steps, scale)
        return steps.round().clamp_(low, high).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Sums over all that has a scale in common."""
        steps, scale = ctx.saved_tensors
        clamped = steps.clamp(ctx.low, ctx.high)
        inside = clamped == steps
        moved = clamped.round_().sub_(steps.mul_(inside)).mul_(gradient)
        of_x = gradient * inside
        of_zero = (gradient - of_x).mul_(-scale)
        return of_x, moved.sum_to_size(scale.shape), of_zero.sum_to_size(scale.shape).reshape(
            ctx.shape
        ), None, None
