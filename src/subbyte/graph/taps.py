"""Activation quantizers: the activation tensors that a runtime can quantize.

An activation quantizer sits on the network's input, on the output of a layer (behind a clamp-like
activation, which runtimes fuse), of an add, a multiplication, a pool or a concatenation, and on
whatever else feeds a layer. Operations that only move values (reshape, slice, zero padding, max
pool) hand the activation quantizer of their input on. A value may feed layers and other operations
alike; who reads it decides its bits, in the plan.
"""

import operator
from dataclasses import dataclass

import torch
from torch import fx

from subbyte.core import Geometry
from subbyte.graph.layers import Edge, Layer
from subbyte.graph.nodes import is_call, is_input

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
    aten.split_with_sizes.default,
    aten.chunk.default,
    operator.getitem,
    aten.channel_shuffle.default,
    aten.pixel_shuffle.default,
    aten.upsample_nearest2d.vec,
}


@dataclass(frozen=True, eq=False)
class TapPoint:
    """A value that may be quantized.

    name: `<module>:out`, or `input`; node: the value; feeds: where layers read it (through moves);
    others: whether anything but layers reads it; is_input: whether it is the network's input; axis:
    of its channels, None where a channel has one value only.
    """

    name: str
    node: fx.Node
    feeds: tuple[Edge, ...]
    others: bool
    is_input: bool = False
    axis: int | None = None


def find_taps(graph_module: fx.GraphModule, layers: list[Layer]) -> list[TapPoint]:
    """All points where activations can be quantized, in execution order."""
    layer_at = {layer.node: layer for layer in layers}
    layer_inputs = {(layer.node, layer.input): Edge(layer.node.name, 0) for layer in layers}
    points: list[TapPoint] = []
    names: set[str] = set()
    for node in graph_module.graph.nodes:
        if not _is_float(node) or not (is_input(node) or is_call(node)) or moves(node):
            continue
        feeds, others = _readers(node, layer_inputs)
        if not (feeds or is_input(node) or _computes(node, layer_at)) or _fused_later(node):
            continue
        name = _unique(_name(node, layer_at), names)
        maker = layer_at.get(_before_clamps(node, layer_at))
        axis = channel_axis(node, None if maker is None else maker.geometry)
        points.append(
            TapPoint(name, node, tuple(dict.fromkeys(feeds)), others, is_input(node), axis)
        )
    return points


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


def _computes(node: fx.Node, layer_at: dict[fx.Node, Layer]) -> bool:
    """Whether a runtime has an integer kernel that yields this value."""
    if node.target in _CLAMPS:
        source = node.all_input_nodes[0]
        return len(source.users) == 1 and (source in layer_at or source.target in _ARITHMETIC)
    return node in layer_at or node.target in _ARITHMETIC


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
    node: fx.Node, layer_inputs: dict[tuple[fx.Node, fx.Node], Edge]
) -> tuple[list[Edge], bool]:
    feeds: list[Edge] = []
    others = False
    for user in node.users:
        if (user, node) in layer_inputs:
            feeds.append(layer_inputs[user, node])
        elif moves(user) and _is_float_or_tuple(user):
            further, elsewhere = _readers(user, layer_inputs)
            feeds, others = feeds + further, others or elsewhere
        elif user.target is not aten.sym_size.int:
            others = True
    return feeds, others


def _is_float_or_tuple(node: fx.Node) -> bool:
    return _is_float(node) or isinstance(node.meta.get("val"), tuple | list)


def _name(node: fx.Node, layer_at: dict[fx.Node, Layer]) -> str:
    if is_input(node):
        return "input"
    source = _before_clamps(node, layer_at)
    if source in layer_at:
        return f"{layer_at[source].name}:out"
    if source.target is operator.getitem:
        source = source.all_input_nodes[0]
    stack = [
        entry[0]
        for entry in (source.meta.get("nn_module_stack") or {}).values()
        if isinstance(entry, tuple)
    ]
    operation = str(source.target).removeprefix("aten.").split(".")[0]
    return ".".join(filter(None, [stack[-1] if stack else "", operation])) + ":out"


def _before_clamps(node: fx.Node, layer_at: dict[fx.Node, Layer]) -> fx.Node:
    while node.target in _CLAMPS and node not in layer_at:
        node = node.all_input_nodes[0]
    return node


def _unique(name: str, names: set[str]) -> str:
    candidate, k = name, 2
    while candidate in names:
        candidate, k = f"{name.removesuffix(':out')}#{k}:out", k + 1
    names.add(candidate)
    return candidate
