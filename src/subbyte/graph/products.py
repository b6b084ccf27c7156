"""Products of two values: attention's, and layers whose weight is computed from inputs.

A matrix product with a parameter is a linear layer: `as_layers` makes it one.
"""

import copy
from dataclasses import dataclass

import torch
from torch import fx

from subbyte.graph.constants import module_path
from subbyte.graph.layers import (
    LAYER_OPERATIONS,
    Edge,
    argument,
    is_layer_call,
    operation_of,
    weights_of,
)
from subbyte.graph.nodes import is_tensor, varying
from subbyte.graph.tensors import set_tensor, tensor_at

aten = torch.ops.aten
_MATMULS = {aten.matmul.default, aten.mm.default, aten.bmm.default}
_TURNS = {aten.t.default, aten.transpose.int, aten.permute.default}
_FACTORS = {aten.mul.Tensor, aten.div.Tensor, aten.mul.Scalar, aten.div.Scalar}
_MOVES = _TURNS | {
    aten.reshape.default,
    aten.expand.default,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.flatten.using_ints,
}


@dataclass(frozen=True, eq=False)
class Product:
    """An operation that multiplies two values.

    name: the user's module name and the operation; node: the call; values: the places of the
    operands that depend on the input; constants: dotted names of the tensors from which the other
    operand is computed, if there is one.
    """

    name: str
    node: fx.Node
    values: tuple[Edge, ...]
    constants: tuple[str, ...] = ()
    kind = "product"


def as_layers(graph_module: fx.GraphModule) -> None:
    """Write matrix products with parameters as linear layers, in place."""
    graph = graph_module.graph
    for node in list(graph.nodes):
        if node.target not in _MATMULS:
            continue
        x, weight = node.args[:2]
        assert isinstance(x, fx.Node) and isinstance(weight, fx.Node)
        found = None if is_tensor(x) else _weight(graph_module, weight)
        if found is None:
            continue
        with graph.inserting_before(node):
            read = graph.get_attr(found)
            read.meta["val"] = tensor_at(graph_module, found)
        node.target, node.args = aten.linear.default, (x, read)
        if weight.meta["val"].ndim == 1:
            _drop_last_axis(graph, node)
    graph.eliminate_dead_code()
    graph_module.recompile()


def _drop_last_axis(graph: fx.Graph, node: fx.Node) -> None:
    """A vector is the weight of one output, whose axis a product with it has not."""
    value = node.meta["val"]
    with graph.inserting_after(node):
        squeezed = graph.call_function(aten.squeeze.dim, (node, -1))
    squeezed.meta["val"], node.meta["val"] = value, value.unsqueeze(-1)
    node.replace_all_uses_with(squeezed, lambda user: user is not squeezed)


def _weight(graph_module: fx.GraphModule, operand: fx.Node) -> str | None:
    """Dotted name of the weight [out, in] that a linear layer would have in place of the operand
    [in, out] or [in]; None when it is no parameter, or the weight of a layer as it is: then it is
    computed from that layer's codes.
    """
    if operand.target in _TURNS and operand.meta["val"].ndim == 2:
        source = operand.all_input_nodes[0]
        return str(source.target) if is_tensor(source) else None
    if not is_tensor(operand) or operand.meta["val"].ndim > 2:
        return None
    name = str(operand.target)
    reads = [
        user
        for node in graph_module.graph.find_nodes(op="get_attr")
        if node.target == name
        for user in node.users
    ]
    if any(name in weights_of(user) for user in reads):
        return None
    turned = f"{name}_turned" if len(reads) > 1 else name
    weight = tensor_at(graph_module, name)
    set_tensor(graph_module, turned, weight.t() if weight.ndim > 1 else weight[None])
    return turned


def factors_last(graph_module: fx.GraphModule) -> None:
    """Multiply what products give, in place of one of their operands, by a number: (c q) k' is
    c (q k'). So the operand is the value that its layer gave, and is rounded once.
    """
    graph = graph_module.graph
    for node in [node for node in graph.nodes if node.target in _MATMULS]:
        left, right = (_factor(argument(node, k)) for k in (0, 1))
        for factor in (left, right):
            if factor is None or left is right:  # a value times itself has the factor twice
                continue
            operation, (source, number) = factor.target, factor.args[:2]
            assert callable(operation) and isinstance(source, fx.Node)
            factor.replace_all_uses_with(source)
            graph.erase_node(factor)
            with graph.inserting_after(node):
                scaled = graph.call_function(operation, (node, number))
            scaled.meta = copy.copy(node.meta)
            node.replace_all_uses_with(scaled, lambda user, own=scaled: user is not own)
    graph_module.recompile()


def _factor(operand: fx.Node) -> fx.Node | None:
    """The multiplication of an operand by a number, behind moves that nobody else reads."""
    while len(operand.users) == 1 and operand.all_input_nodes:
        if operand.target in _FACTORS:
            return operand if isinstance(operand.args[1], int | float) else None
        if operand.target not in _MOVES:
            return None
        operand = operand.all_input_nodes[0]
    return None


def find_products(graph_module: fx.GraphModule) -> list[Product]:
    """All products of values, in execution order."""
    products: list[Product] = []
    names: dict[str, int] = {}
    moving = varying(graph_module.graph)
    for node in graph_module.graph.nodes:
        dynamic = node.target in LAYER_OPERATIONS and not is_layer_call(node)
        if node not in moving or (node.target not in _MATMULS and not dynamic):
            continue
        name = ".".join(filter(None, [module_path(node), operation_of(node)]))
        names[name] = names.get(name, 0) + 1
        own = name if names[name] == 1 else f"{name}#{names[name]}"
        operands = [(k, argument(node, k)) for k in (0, 1)]
        values = tuple(Edge(node.name, k) for k, operand in operands if operand in moving)
        fixed = [
            source for _, operand in operands if operand not in moving for source in _of(operand)
        ]
        products.append(Product(own, node, values, tuple(fixed)))
    return products


def _of(node: fx.Node) -> list[str]:
    """Names of the tensors from which a constant is computed."""
    if is_tensor(node):
        return [str(node.target)]
    return [name for source in node.all_input_nodes for name in _of(source)]
