"""Layers by torch's own operations, in float64, and their patches by one-hot weights."""

from dataclasses import replace
from itertools import product
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.core import Geometry, Linear

_CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def operate(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Output of the layer with this weight (torch's shape), without bias."""
    g = geometry
    if isinstance(g, Linear):
        return F.linear(x, weight)
    axes = len(g.kernel)
    if not g.transposed:
        padded = F.pad(x, [n for pair in reversed(g.padding) for n in pair])
        return _CONVS[axes](padded, weight, None, g.stride, 0, g.dilation, g.groups)
    full = _TRANSPOSED[axes](x, weight, None, g.stride, 0, g.output_padding, g.groups, g.dilation)
    for axis, (before, after) in enumerate(g.padding):
        full = full.narrow(2 + axis, before, full.shape[2 + axis] - before - after)
    return full


def rows_of(output: Tensor, geometry: Geometry) -> Tensor:
    """A layer's output as [positions, output channels]."""
    return output.movedim(geometry.channel_axis(output.ndim), -1).reshape(-1, geometry.rows)


def patch_matrix(x: Tensor, geometry: Geometry) -> Tensor:
    """What every output position sees, float64 [groups, positions, columns], by unit weights one by
    one.

    Columns: (channel of the group, kernel position), transposed kernels flipped.
    """
    x, g = x.double(), geometry
    if isinstance(g, Linear):
        return x.reshape(1, -1, x.shape[-1])
    channels = x.shape[1] // g.groups
    transposed = (x.shape[1], 1, *g.kernel)
    one = replace(g, weight_shape=transposed if g.transposed else (g.groups, channels, *g.kernel))
    columns = []
    for channel, *position in product(range(channels), *map(range, g.kernel)):
        unit = torch.zeros(one.weight_shape, dtype=torch.float64)
        for group in range(g.groups):
            if g.transposed:
                flipped = [k - 1 - p for k, p in zip(g.kernel, position, strict=True)]
                unit[(group * channels + channel, 0, *flipped)] = 1
            else:
                unit[(group, channel, *position)] = 1
        columns.append(rows_of(operate(x, unit, one), one).T)
    return torch.stack(columns, -1)


def count_positions(x: Tensor, geometry: Geometry) -> int:
    """Output positions of one image."""
    weight = torch.zeros(geometry.weight_shape, dtype=x.dtype)
    output = operate(x[:1], weight, geometry)
    return prod(output.shape) // geometry.rows
