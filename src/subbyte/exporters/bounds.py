"""Bounds that a quantizer's own ends stand for: a Relu or Clip before one is left out where values
beyond it get the same code as the bound.

Runtimes take a Relu out themselves where its zero is the lowest code, and a Clip where no code lies
beyond its bounds: a scale of 6 / 255 rounded up keeps a ReLU6, and with it its convolution, float.
"""

from math import inf, isnan, nan

import onnx_ir as ir
import torch

from subbyte.core import Grid
from subbyte.exporters.neutral import number_of
from subbyte.graph import FakeQuantize

_ABSENT = None, None  # bounds that a Clip does not have


def without_bounds(source: ir.Value, tap: FakeQuantize) -> ir.Value:
    """The value to quantize in place of `source`, which only this quantizer reads: what a needless
    Relu or Clip bounds; `source` itself where there is none.
    """
    maker, grid = source.producer(), tap.grid
    if maker is None or grid is None or source.is_graph_output() or len(source.uses()) > 1:
        return source
    bounded = maker.inputs[0] if maker.op_type in ("Relu", "Clip") else None
    if bounded is None or _is_dense(bounded) or not _needless(_bounds(maker), grid):
        return source
    return bounded


def _is_dense(value: ir.Value) -> bool:
    """Whether a layer with a float weight makes a value: right between two grids ONNX Runtime would
    round that weight to 8 bits.
    """
    node = value.producer()
    operands = [] if node is None else node.inputs[1:2]
    return any(one is not None and one.const_value is not None for one in operands)


def _bounds(node: ir.Node) -> tuple[float, float]:
    """The ends of what a Relu or Clip lets through; NaN for one that is computed."""
    if node.op_type == "Relu":
        return 0.0, inf
    low, high = (*node.inputs[1:], *_ABSENT)[:2]
    return _end(low, -inf), _end(high, inf)


def _end(value: ir.Value | None, absent: float) -> float:
    number = number_of(value)
    if value is None:
        return absent
    return nan if number is None else number


def _needless(bounds: tuple[float, float], grid: Grid) -> bool:
    """Whether bounds have the first and the last code of a grid, in every channel."""
    return not any(map(isnan, bounds)) and all(
        torch.equal(grid.encode(torch.full(end.shape, bound)).to(end.dtype), end)
        for bound, end in zip(bounds, grid.ends, strict=True)
    )
