"""Layers in whose weights a network is linear, piece by piece.

Between its corners such a network's output has no second derivatives by these weights, so that the
loss's are those of the loss by the output alone.
"""

import torch
from torch import fx

from subbyte.graph.channels import readers
from subbyte.graph.layers import LAYER_OPERATIONS, Layer, Layered
from subbyte.graph.nodes import is_output
from subbyte.graph.taps import moves

aten = torch.ops.aten
_LINEAR = {
    aten.relu.default,
    aten.relu6.default,
    aten.leaky_relu.default,
    aten.hardtanh.default,
    aten.clamp.default,
    aten.clamp_min.default,
    aten.abs.default,
    aten.neg.default,
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.cat.default,
    aten.mean.dim,
    aten.sum.dim_IntList,
    aten.avg_pool2d.default,
    aten.adaptive_avg_pool2d.default,
    aten.adaptive_max_pool2d.default,
    aten.upsample_bilinear2d.vec,
}
"""Operations that are linear in pieces in all of their arguments at once."""
_PRODUCTS = {aten.mul.Tensor, *LAYER_OPERATIONS}
"""Operations that are linear in each of their arguments."""


def is_piecewise_linear(network: Layered, layer: Layer) -> bool:
    """Whether the output is linear, piece by piece, in the weights of a layer."""
    if sum(call.owner == layer.name for call in network.layers) > 1:
        return False
    behind, waiting = {layer.node}, [layer.node]
    while waiting:
        for node in readers(waiting.pop()):
            if node not in behind and not is_output(node):
                behind.add(node)
                waiting.append(node)
    return all(_is_linear(node, behind) for node in behind - {layer.node})


def _is_linear(node: fx.Node, behind: set[fx.Node]) -> bool:
    """Whether an operation is linear, piece by piece, in those of its arguments that change."""
    if node.target in _PRODUCTS:
        return sum(argument in behind for argument in node.args) == 1
    if node.target is aten.div.Tensor:
        return node.args[1] not in behind
    return node.target in _LINEAR or moves(node)
