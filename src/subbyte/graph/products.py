"""Products of two values: attention's, and layers whose weight is computed from inputs.

A matrix product with a parameter is a linear layer: `as_layers` makes it one.
"""

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
)
from subbyte.graph.nodes import is_tensor, varying
from subbyte.graph.tensors import set_tensor, tensor_at

aten = torch.ops.aten
_MATMULS = {aten.matmul.default, aten.mm.default, aten.bmm.default}
_TURNS = {aten.t.default, aten.transpose.int, aten.permute.default}


@dataclass(frozen=True, eq=False)
class Product:
    """An operation that multiplies two values.

    name: the user's module name and the operation; node: the call; values: the places of the
    operands that depend on the input.
    """

    name: str
    node: fx.Node
    values: tuple[Edge, ...]
    kind = "product"


def as_layers(graph_module: fx.GraphModule) -> None:
    """Write matrix products with parameters as linear layers, in place."""
    graph = graph_module.graph
    for node in list(graph.nodes):
        if node.target not in _MATMULS:
            continue
        x, weight = node.args[:2]
        found = _weight(graph_module, weight) if isinstance(weight, fx.Node) else None
        if found is None or not isinstance(x, fx.Node) or is_tensor(x):
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
    [in, out] or [in]; None when it is no parameter.
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
    turned = f"{name}_turned" if len(reads) > 1 else name
    weight = tensor_at(graph_module, name)
    set_tensor(graph_module, turned, weight.t() if weight.ndim > 1 else weight[None])
    return turned


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
        products.append(Product(own, node, values))
    return products
