"""The inputs of a layer as rows: what each output position sees, at the layer's true stride.

    output = patches @ matrix.T + bias        for every kind of layer, with `Geometry.to_matrix`

The window is cut from a channels-last copy, whose inner runs are contiguous; columns therefore come
out as (kernel position, channel) and `column_order` tells how to sort them into the matrix's
(channel, kernel position).
A transposed convolution of stride s is an ordinary convolution of the input with s-1 zeros between
neighbours.
"""

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.core import Geometry


def patches(x: Tensor, geometry: Geometry, positions: Tensor | None = None) -> Tensor:
    """Rows that the layer sees: [groups, rows, columns] with columns in (kernel position, channel)
    order.

    x: the layer's input: [batch, channels, *spatial], or [batch, ..., features] for linear layers.
    positions: output positions to take, int64 [batch, n], each counted in row-major order; None for
        all of them.
    """
    if geometry.kind == "linear":
        rows = x.reshape(x.shape[0], -1, x.shape[-1])
        rows = (
            rows
            if positions is None
            else rows.gather(1, positions[..., None].expand(-1, -1, rows.shape[-1]))
        )
        return rows.reshape(1, -1, x.shape[-1])
    windows = _windows(x, geometry)  # [batch, *out, *kernel, channels]
    axes = len(geometry.kernel)
    if positions is not None:
        where = torch.unravel_index(positions, windows.shape[1 : 1 + axes])
        windows = windows[(torch.arange(x.shape[0], device=x.device)[:, None], *where)]
    grouped = windows.reshape(
        -1, prod(geometry.kernel), geometry.groups, x.shape[1] // geometry.groups
    )
    return grouped.permute(2, 0, 1, 3).reshape(geometry.groups, grouped.shape[0], geometry.columns)


def output_positions(shape: torch.Size, geometry: Geometry) -> int:
    """Rows that one image gives: output positions of a layer with input of this shape (batch
    included).
    """
    if geometry.kind == "linear":
        return prod(shape[1:-1])
    return prod(
        _windows(torch.empty(1, 0, *shape[2:]), geometry).shape[1 : 1 + len(geometry.kernel)]
    )


def _windows(x: Tensor, geometry: Geometry) -> Tensor:
    """View [batch, *out, *kernel, channels] of a padded channels-last copy."""
    stride = geometry.stride
    x = x.movedim(1, -1)  # [batch, *spatial, channels]
    if geometry.kind == "conv_transpose":
        x, stride = _zero_stuff(x, geometry), (1,) * len(geometry.kernel)
    else:
        x = _pad(x, geometry.padding)
    x = x.contiguous()
    axes = zip(x.shape[1:-1], geometry.kernel, stride, geometry.dilation, strict=True)
    out = [(size - step * (k - 1) - 1) // jump + 1 for size, k, jump, step in axes]
    jumps = [s * j for s, j in zip(x.stride()[1:-1], stride, strict=True)]
    steps = [s * d for s, d in zip(x.stride()[1:-1], geometry.dilation, strict=True)]
    return x.as_strided(
        (x.shape[0], *out, *geometry.kernel, x.shape[-1]), (x.stride()[0], *jumps, *steps, 1)
    )


def column_order(geometry: Geometry) -> Tensor:
    """Positions, among the columns of `patches`, of the matrix's columns: int64 [columns]."""
    positions = prod(geometry.kernel)
    return torch.arange(geometry.columns).reshape(positions, -1).T.reshape(-1)


def _pad(x: Tensor, padding: tuple[tuple[int, int], ...]) -> Tensor:
    flat = [n for pair in reversed(padding) for n in pair]
    return F.pad(x, [0, 0, *flat])  # the channels come last


def _zero_stuff(x: Tensor, geometry: Geometry) -> Tensor:
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[1:-1], geometry.stride, strict=True)]
    stuffed = x.new_zeros((x.shape[0], *sizes, x.shape[-1]))
    stuffed[(slice(None), *(slice(None, None, s) for s in geometry.stride))] = x
    margins = [d * (k - 1) for d, k in zip(geometry.dilation, geometry.kernel, strict=True)]
    padding = tuple(
        (m - before, m - after + extra)
        for m, (before, after), extra in zip(
            margins, geometry.padding, geometry.output_padding, strict=True
        )
    )
    return _pad(stuffed, padding)
