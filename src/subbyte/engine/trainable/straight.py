"""Rounding with gradients: values go on their grid, gradients go straight through."""

from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from subbyte.core import GridSpec
from subbyte.engine.trainable.measures import Measure
from subbyte.io.repeatable import one_thread


def learned_scale(measure: Measure, start: Tensor, growth: Tensor, spec: GridSpec) -> Tensor:
    """The scale that has been learned, or the nearest that the grid may have."""
    scale = measure.scale(start, growth)
    return scale if not spec.powers else scale + (spec.allowed(scale) - scale).detach()


class Slowed(torch.autograd.Function):
    """A scale as it is, with 1 / sqrt(n q) of its gradient, for n numbers that share it and a
    largest code q, so that scales learn no faster than weights (Esser et al. 2020, section 2.2).
    """

    @staticmethod
    def forward(ctx: Any, scale: Tensor, sharing: float, largest: float) -> Tensor:
        """The scale."""
        ctx.share = 1 / sqrt(max(1.0, sharing * largest))
        return scale.view_as(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """A share of the gradient."""
        return gradient * ctx.share, None, None


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

    y = s clamp(round(x / s), l, h),    l = qmin - z, h = qmax - z

    dy/dx = 1 inside, 0 outside;  dy/ds = (y - x) / s inside, y / s outside (Esser et al. 2020,
    eq. 3);   dy/dz = -s outside, 0 inside (Bhalgat et al. 2020, eq. 6)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, low: Any, high: Any) -> Tensor:
        """scale, low, high: spread over x; zero: what low and high were computed from."""
        y = (x / scale).round_().clamp_(low, high).mul_(scale)
        ctx.low, ctx.high, ctx.shape = low, high, zero.shape
        ctx.save_for_backward(x, y, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
        """Sums over all that has a scale in common."""
        x, y, scale = ctx.saved_tensors
        low, high = ctx.low * scale, ctx.high * scale
        if scale.ndim:
            inside = gradient * ((x > low) & (x < high))
        else:  # one pass, and no mask
            inside = torch.ops.aten.hardtanh_backward(gradient, x, float(low), float(high))
        of_scale = (_product(gradient, y, scale) - _product(inside, x, scale)) / scale
        of_zero = None
        if ctx.needs_input_grad[2]:
            of_zero = ((inside - gradient) * scale).sum_to_size(scale.shape).reshape(ctx.shape)
        return inside, of_scale, of_zero, None, None


def _product(a: Tensor, b: Tensor, like: Tensor) -> Tensor:
    """The sum of a b over what has a scale in common."""
    if like.ndim:
        return (a * b).sum_to_size(like.shape)
    order = sorted(
        range(b.ndim), key=lambda axis: b.stride(axis), reverse=True
    )  # as numbers lie in memory
    with one_thread():
        return torch.dot(a.permute(order).reshape(-1), b.permute(order).reshape(-1))
