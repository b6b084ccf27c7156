"""The inputs of a layer as rows: what each output position sees, at the layer's true stride.

    output = patches @ matrix.T + bias        for every kind of layer, with `Geometry.to_matrix`

The windows are cut from a channels-last copy, whose inner runs are contiguous; columns therefore
come out as (kernel position, channel) and `in_matrix_order` sorts them into the matrix's (channel,
kernel position).
"""

from math import prod

import torch
from torch import Tensor

from subbyte.core import Geometry


def patches(x: Tensor, geometry: Geometry, positions: Tensor | None = None) -> Tensor:
    """Rows that the layer sees: [groups, rows, columns] with columns in (kernel position, channel)
    order.

    x: the layer's input: [batch, channels, *spatial], or [batch, ..., features] for linear layers.
    positions: output positions to take, int64 [batch, n], each counted in row-major order; None for
        all of them.
    """
    places = prod(geometry.kernel)
    if geometry.groups > 1 and geometry.columns == places:
        return _channel_first(x, geometry, positions)
    windows = geometry.windows(x)
    if positions is not None:
        out = windows.shape[1 : windows.ndim - len(geometry.kernel) - 1]
        where = torch.unravel_index(positions, out)
        windows = windows[(torch.arange(x.shape[0], device=x.device)[:, None], *where)]
    grouped = windows.reshape(-1, places, geometry.groups, windows.shape[-1] // geometry.groups)
    return grouped.permute(2, 0, 1, 3).reshape(geometry.groups, grouped.shape[0], geometry.columns)


def _channel_first(x: Tensor, geometry: Geometry, positions: Tensor | None) -> Tensor:
    """`patches` of a depthwise layer: every channel's rows in one piece of memory, which its
    products need. The windows of the inputs' numbers say where each value lies; 0 is a padded zero.
    """
    spatial = x.shape[2:]
    numbers = torch.arange(1, prod(spatial) + 1, device=x.device).reshape(1, 1, *spatial)
    found = geometry.windows(numbers).reshape(1, -1, prod(geometry.kernel))
    found = found.expand(len(x), -1, -1) if positions is None else found[0][positions]
    index = found.flatten(1)
    inside, index = (index > 0).to(x.dtype), (index - 1).clamp_min_(0)
    rows = x.new_empty(geometry.groups, *index.shape)
    for k, image in enumerate(x.flatten(2)):
        torch.mul(image.index_select(1, index[k]), inside[k], out=rows[:, k])
    return rows.reshape(geometry.groups, -1, geometry.columns)


def in_matrix_order(values: Tensor, geometry: Geometry, axis: int = -1) -> Tensor:
    """Values by column of `patches` along an axis, in the order of the matrix's columns: a view
    where the kernel has one position.
    """
    axis %= values.ndim
    by_place: Tensor = values.unflatten(axis, (prod(geometry.kernel), -1))
    ordered: Tensor = by_place.transpose(axis, axis + 1).flatten(axis, axis + 1)
    return ordered
