"""Grids by brute force, in float64: every code of every element is tried."""

import torch
from torch import Tensor

from subbyte.core import Grid


def spread(parameter: Tensor, grid: Grid, shape: tuple[int, ...]) -> Tensor:
    """A scale or zero point for each element of a tensor of this shape, float64, element by
    element.
    """
    out = torch.empty(shape, dtype=torch.float64)
    if grid.spec.granularity == "tensor":
        return out.fill_(float(parameter))
    for row in range(shape[0]):
        for column in range(shape[1]):
            block = column // grid.spec.group_size if grid.spec.granularity == "group" else 0
            out[row, column] = float(parameter[row, block])
    return out


def representable(grid: Grid, shape: tuple[int, ...]) -> Tensor:
    """All values that each element of a tensor of this shape may take: float64 [*shape, count]."""
    codes = torch.arange(grid.spec.qmin, grid.spec.qmax + 1, dtype=torch.float64)
    scale = spread(grid.scale, grid, shape)[..., None]
    if grid.spec.levels is not None:
        return torch.tensor(grid.spec.levels, dtype=torch.float64) * scale
    return (codes - spread(grid.zero_point, grid, shape)[..., None]) * scale


def assert_nearest(codes: Tensor, x: Tensor, grid: Grid) -> None:
    """No code is nearer than the given ones, but for what float32 can't tell apart."""
    values = representable(grid, tuple(x.shape))
    x = x.double().clamp(-1e30, 1e30)
    distance = (values - x[..., None]).abs()
    index = codes.long() - grid.spec.qmin
    assert bool(((index >= 0) & (index < grid.spec.count)).all())
    chosen = distance.gather(-1, index[..., None])[..., 0]
    slack = 4e-7 * (x.abs() + spread(grid.scale, grid, tuple(x.shape)))
    worst = (chosen - distance.amin(-1) - slack).amax()
    assert worst <= 0, f"a code is farther than the nearest one by {worst:g}"
