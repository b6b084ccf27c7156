"""Where the channels of a value come from, through operations that only move values or pool them.

Nothing is known of single operations: each is run on labels, every number of its input being a
random one of its channel. Where the labels of the output depend on their place along one axis
alone, that axis has the channels, and the labels say which. A 0 among them is padding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx

from subbyte.graph.nodes import is_call, is_tensor
from subbyte.graph.taps import moves

aten = torch.ops.aten
_MAXIMA = {
    aten.max_pool1d.default,
    aten.max_pool2d.default,
    aten.max_pool3d.default,
    aten.adaptive_max_pool1d.default,
    aten.adaptive_max_pool2d.default,
    aten.adaptive_max_pool3d.default,
}
_AVERAGES = {
    aten.avg_pool1d.default,
    aten.avg_pool2d.default,
    aten.avg_pool3d.default,
    aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool2d.default,
    aten.adaptive_avg_pool3d.default,
    aten.mean.dim,
    aten.upsample_bilinear2d.vec,
}
"""Weighted means: their weights add up to 1, unless they count zeros of padding."""
_ROUNDING = 1e-9
"""Error of means of equal labels, which lie between 1 and 2."""


@dataclass(frozen=True, eq=False)
class Route:
    """The way of channels through one operation.

    index: the input's channel that each of the output's is made of, -1 where it is all zeros;
    source, target: axes of the channels in the input and the output; padded: whether there are
    zeros among the numbers of a channel; ordered: whether larger numbers are chosen, so that
    factors must be positive.
    """

    index: Tensor
    source: int
    target: int
    padded: bool
    ordered: bool


def keeps_channels(node: fx.Node) -> bool:
    """Whether `route` can follow channels through an operation of one value."""
    return moves(node) or node.target in _MAXIMA | _AVERAGES


def moved(node: fx.Node) -> fx.Node:
    """The value that an operation moves or pools."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return moved(source) if node.target is getitem else source


def routes(node: fx.Node, source: int | None = None, target: int | None = None) -> Iterator[Route]:
    """Ways of channels through an operation that `keeps_channels`, between all axes or those given;
    none where it mixes channels.
    """
    sizes = shape(moved(node))
    for axis in range(len(sizes)) if source is None else [source]:
        labels = 1 + torch.rand(sizes[axis], generator=_generator(), dtype=torch.float64)
        around = [1] * len(sizes)
        around[axis] = -1
        # a maximum or mean over channels is no label of the same channel both times
        found = [
            (each, _run(node, each.reshape(around).expand(sizes))) for each in (labels, 3 - labels)
        ]
        for end in range(found[0][1].ndim) if target is None else [target]:
            one, other = (_labels_along(end, given, value) for given, value in found)
            if one is not None and other is not None and torch.equal(one[0], other[0]):
                yield Route(one[0], axis, end, one[1], node.target in _MAXIMA)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _labels_along(axis: int, labels: Tensor, value: Tensor) -> tuple[Tensor, bool] | None:
    """Numbers of the labels along an axis, -1 for zeros, and whether zeros are among others; None
    where numbers differ for other reasons, or are no labels.
    """
    rows = value.movedim(axis, -1).reshape(-1, value.shape[axis])
    largest = rows.amax(0)
    same, zeros = (rows - largest).abs() < _ROUNDING, rows == 0
    gaps, index = (largest[:, None] - labels).abs().min(1)
    empty = largest == 0
    if not bool((same | zeros).all()) or not bool((empty | (gaps < _ROUNDING)).all()):
        return None
    return index.masked_fill(empty, -1), bool((zeros & ~same).any())


def readers(node: fx.Node) -> list[fx.Node]:
    """The nodes that read the numbers of a value."""
    return [user for user in node.users if user.target is not aten.sym_size.int]


def shape(node: fx.Node) -> tuple[int, ...]:
    """Sizes of a value for one number of samples."""
    return tuple(map(_number, node.meta["val"].shape))


def _number(size: Any) -> int:
    """A size; where it follows the batch, that for the example of the capture."""
    return size if isinstance(size, int) else int(size.node.hint)


def _run(node: fx.Node, labels: Tensor) -> Any:
    source = node.args[0]
    assert isinstance(source, fx.Node) and callable(node.target)
    first = _run(source, labels) if node.target is getitem else labels
    args, kwargs = fx.map_arg((node.args[1:], node.kwargs), _argument)
    return node.target(first, *args, **kwargs)


def _argument(node: fx.Node) -> Any:
    """An argument that says how to move: a size, or numbers computed from sizes."""
    if node.target is aten.sym_size.int:
        value, axis = node.args
        assert isinstance(value, fx.Node) and isinstance(axis, int)
        return shape(value)[axis]
    if is_tensor(node) or not is_call(node):
        raise AssertionError(f"{node} says how to move values")
    assert callable(node.target)
    args, kwargs = fx.map_arg((node.args, node.kwargs), _argument)
    return node.target(*args, **kwargs)
