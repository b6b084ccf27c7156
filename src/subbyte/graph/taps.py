"""Activation quantizers: the activation tensors that a runtime can quantize.

An activation quantizer sits on the network's inputs, on the output of a layer or product (behind a
clamp-like activation, which runtimes fuse), of an add, a multiplication, a pool or a concatenation,
of a sigmoid that is a factor, and on whatever else feeds a layer or a product. Operations that only
move values (reshape, slice, zero padding, max pool) hand the activation quantizer of their input
on. A value may feed layers and other operations alike; who reads it decides its bits, in the
plan.

What leads to a softmax alone has none behind the product it comes from: masks and biases are added
there, and numbers like -1e9 would take up the whole range. Nor has what leads to a divisor, a
negative power or a logarithm alone, where a small number would become 0. Constants have none
either.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from subbyte.core import Geometry
from subbyte.graph.constants import module_path
from subbyte.graph.layers import Edge, Layer, argument, operation_of
from subbyte.graph.nodes import is_call, is_input, varying
from subbyte.graph.products import Product

aten = torch.ops.aten
_CLAMPS = {
    aten.relu.default,
    aten.relu6.default,
    aten.hardtanh.default,
    aten.clamp.default,
    aten.clamp_min.default,
}
_ARITHMETIC = {
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.mul.Tensor,
    aten.cat.default,
    aten.mean.dim,
    aten.avg_pool1d.default,
    aten.avg_pool2d.default,
    aten.avg_pool3d.default,
    aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool2d.default,
    aten.adaptive_avg_pool3d.default,
}
_GATES = {aten.sigmoid.default, aten.hardsigmoid.default}
_SOFTMAX = {aten.softmax.int, aten._softmax.default, aten._safe_softmax.default}
_ON_SCORES = {
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.mul.Tensor,
    aten.div.Tensor,
    aten.masked_fill.Scalar,
    aten.masked_fill.Tensor,
    aten.where.self,
    aten.where.ScalarOther,
    aten.where.ScalarSelf,
    aten.clamp.default,
    aten.clamp_min.default,
    aten.tanh.default,
}
"""Operations on scores before a softmax."""
_DIVIDE: dict[Any, int] = {aten.div.Tensor: 1, aten.reciprocal.default: 0, aten.rsqrt.default: 0}
_LOGARITHMS: dict[Any, int] = {aten.log.default: 0, aten.log2.default: 0, aten.log10.default: 0}
_NOT_AT_ZERO = _DIVIDE | _LOGARITHMS
"""Operations that 0 is no argument of, by the number of that argument."""
MOVES = {
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.permute.default,
    aten.transpose.int,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.expand.default,
    aten.pad.default,
    aten.constant_pad_nd.default,
    aten.max_pool1d.default,
    aten.max_pool2d.default,
    aten.max_pool3d.default,
    aten.t.default,
    aten.split.Tensor,
    aten.unsafe_split.Tensor,
    aten.split_with_sizes.default,
    aten.chunk.default,
    aten.unbind.int,
    aten.unflatten.int,
    aten.squeeze.default,
    aten.roll.default,
    aten.flip.default,
    aten.narrow.default,
    aten.index_select.default,
    aten.movedim.intlist,
    aten.repeat.default,
    aten.repeat_interleave.self_int,
    operator.getitem,
    aten.channel_shuffle.default,
    aten.pixel_shuffle.default,
    aten.upsample_nearest2d.vec,
}


@dataclass(frozen=True, eq=False)
class TapPoint:
    """A value that may be quantized.

    name: `<module>:out`, or `input` (of several inputs `input.NAME`); node: the value; feeds: where
    layers and products read it (through moves); others: whether anything else reads it; is_input:
    whether it is an input of the network; axis: of its channels, None where a channel has one value
    only; softmax: whether a softmax yields it, so that all of it lies between 0 and 1; gate:
    whether a sigmoid does, for a multiplication.
    """

    name: str
    node: fx.Node
    feeds: tuple[Edge, ...]
    others: bool
    is_input: bool = False
    axis: int | None = None
    softmax: bool = False
    gate: bool = False


def find_taps(
    graph_module: fx.GraphModule, layers: list[Layer], products: list[Product]
) -> list[TapPoint]:
    """All points where activations can be quantized, in execution order."""
    makers = _makers(layers, products)
    edges = _edges(layers, products)
    inputs = [node for node in graph_module.graph.nodes if is_input(node) and _is_float(node)]
    names: set[str] = set()
    if len(inputs) == 1:
        makers[inputs[0]] = _Maker("input", None)
    points: list[TapPoint] = []
    moving = varying(graph_module.graph)
    left = _leading(graph_module, _is_softmax, _on_scores)
    left |= _leading(graph_module, _fails_at_zero, lambda reader: reader not in makers)
    for node in graph_module.graph.nodes:
        if not _is_float(node) or not (is_input(node) or is_call(node)) or moves(node):
            continue
        feeds, others = _readers(node, edges)
        wanted = feeds or is_input(node) or (_computes(node, makers) and node not in left)
        if not wanted or node not in moving or _fused_later(node):
            continue
        name = _unique(_name(node, makers), names)
        maker = makers.get(_before_clamps(node, makers), _Maker("", None))
        axis = channel_axis(node, maker.geometry)
        edges_read = tuple(dict.fromkeys(feeds))
        softmax, gate = node.target in _SOFTMAX, _is_gate(node)
        points.append(TapPoint(name, node, edges_read, others, is_input(node), axis, softmax, gate))
    return points


@dataclass(frozen=True)
class _Maker:
    """The layer or product that yields a value: its name, and the geometry of a layer."""

    name: str
    geometry: Geometry | None


def _makers(layers: list[Layer], products: list[Product]) -> dict[fx.Node, _Maker]:
    """Layers and products, which runtimes compute on integers, by node."""
    made = {product.node: _Maker(product.name, None) for product in products}
    return made | {
        layer.node: _Maker(layer.name, layer.geometry)
        for layer in layers
        if layer.geometry.observed
    }


def _edges(
    layers: list[Layer], products: list[Product]
) -> dict[tuple[fx.Node, fx.Node], list[Edge]]:
    """Where layers and products read a value, by reader and value."""
    edges: dict[tuple[fx.Node, fx.Node], list[Edge]] = {}
    for layer in layers:
        if layer.geometry.observed:
            edges[layer.node, layer.input] = [Edge(layer.node.name, 0)]
    for product in products:
        for edge in product.values:
            value = argument(product.node, edge.argument)
            edges.setdefault((product.node, value), []).append(edge)
    return edges


def _leading(
    graph_module: fx.GraphModule,
    ends: Callable[[fx.Node, fx.Node], bool],
    passes: Callable[[fx.Node], bool],
) -> set[fx.Node]:
    """Values that lead to some readers alone. ends: whether a reader of a value is one; passes:
    whether what a reader makes of a value may lead there.
    """
    found: set[fx.Node] = set()
    for node in reversed(graph_module.graph.nodes):
        readers = [user for user in node.users if user.target is not aten.sym_size.int]
        if readers and all(
            ends(reader, node) or (reader in found and passes(reader)) for reader in readers
        ):
            found.add(node)
    return found


def _is_softmax(reader: fx.Node, value: fx.Node) -> bool:
    return reader.target in _SOFTMAX


def _on_scores(reader: fx.Node) -> bool:
    return reader.target in _ON_SCORES or moves(reader)


def _fails_at_zero(reader: fx.Node, value: fx.Node) -> bool:
    """Whether an operation reads a value where it may not be 0, and nowhere else."""
    place = 0 if _is_negative_power(reader) else _NOT_AT_ZERO.get(reader.target)
    return place is not None and [k for k, a in enumerate(reader.args) if a is value] == [place]


def _is_negative_power(node: fx.Node) -> bool:
    exponent = node.args[1] if node.target is aten.pow.Tensor_Scalar else None
    return isinstance(exponent, int | float) and exponent < 0


def channel_axis(node: fx.Node, geometry: Geometry | None) -> int | None:
    """Axis of a value's channels; None where each has one number an image. geometry: of a layer
    that makes or reads it.
    """
    axes = node.meta["val"].ndim
    if axes < 3:
        return None
    if geometry is not None:
        return geometry.channel_axis(axes)
    return 1 if axes > 3 else axes - 1


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def moves(node: fx.Node) -> bool:
    """Whether the operation only moves values about, so that its output lies on its input's
    grid.
    """
    if node.target is operator.getitem:
        return isinstance(node.args[0], fx.Node) and moves(node.args[0])
    return node.target in MOVES and _pads_with_zero(node)


def _pads_with_zero(node: fx.Node) -> bool:
    if node.target is aten.constant_pad_nd.default:
        return len(node.args) < 3 or bool(node.args[2] == 0)
    if node.target is aten.pad.default:
        mode = node.args[2] if len(node.args) > 2 else "constant"
        fill = node.args[3] if len(node.args) > 3 else None
        return mode != "constant" or fill is None or bool(fill == 0)
    return True


def _computes(node: fx.Node, makers: dict[fx.Node, _Maker]) -> bool:
    """Whether a runtime has an integer kernel that yields this value."""
    if node.target in _CLAMPS:
        source = node.all_input_nodes[0]
        return len(source.users) == 1 and (source in makers or source.target in _ARITHMETIC)
    return node in makers or node.target in _ARITHMETIC or _is_gate(node)


def _is_gate(node: fx.Node) -> bool:
    """Whether a value from 0 to 1 is a factor of other values."""
    return node.target in _GATES and any(user.target is aten.mul.Tensor for user in node.users)


def _fused_later(node: fx.Node) -> bool:
    """Whether the only reader is an activation that takes the quantizer over."""
    users = list(node.users)
    return (
        is_call(node)
        and len(users) == 1
        and users[0].target in _CLAMPS
        and node.target not in _CLAMPS
    )


def _readers(
    node: fx.Node, edges: dict[tuple[fx.Node, fx.Node], list[Edge]]
) -> tuple[list[Edge], bool]:
    feeds: list[Edge] = []
    others = False
    for user in node.users:
        if (user, node) in edges:
            feeds += edges[user, node]
        elif moves(user) and _is_float_or_tuple(user):
            further, elsewhere = _readers(user, edges)
            feeds, others = feeds + further, others or elsewhere
        elif user.target is not aten.sym_size.int:
            others = True
    return feeds, others


def _is_float_or_tuple(node: fx.Node) -> bool:
    return _is_float(node) or isinstance(node.meta.get("val"), tuple | list)


def _name(node: fx.Node, makers: dict[fx.Node, _Maker]) -> str:
    if is_input(node):
        return makers[node].name if node in makers else f"input.{node.name}"
    source = _before_clamps(node, makers)
    if source in makers:
        return f"{makers[source].name}:out"
    if source.target is operator.getitem:
        source = source.all_input_nodes[0]
    return ".".join(filter(None, [module_path(source), operation_of(source)])) + ":out"


def _before_clamps(node: fx.Node, makers: dict[fx.Node, _Maker]) -> fx.Node:
    while node.target in _CLAMPS and node not in makers:
        node = node.all_input_nodes[0]
    return node


def _unique(name: str, names: set[str]) -> str:
    candidate, k = name, 2
    while candidate in names:
        candidate, k = f"{name.removesuffix(':out')}#{k}:out", k + 1
    names.add(candidate)
    return candidate
