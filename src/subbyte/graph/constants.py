"""Whatever depends on parameters and buffers alone is computed once.

The result becomes a buffer that the graph reads: as the weight or bias of the layer that uses it
(weight standardisation, parametrizations, biases put together from parts), else as a constant.
Layers that read constants alone (a network that makes a table of positions) are computed, too.
Exempt is what is computed from the weight of another layer: the weight will be quantized, and what
is computed from it must follow, so such nodes stay in the graph.
"""

from typing import Any

import torch
from torch import Tensor, fx

from subbyte.graph.layers import LAYER_OPERATIONS, weights_of
from subbyte.graph.nodes import is_call, is_tensor, varying
from subbyte.graph.tensors import set_tensor, tensor_at

_ROLES = {1: "weight", 2: "bias"}
"""Arguments of a layer's call that become tensors of its module."""


def fold_constants(graph_module: fx.GraphModule) -> None:
    """Compute all constants of the graph, in place."""
    values = _values(graph_module)
    graph = graph_module.graph
    found = {
        node: [user for user in node.users if user not in values]
        for node, value in values.items()
        if isinstance(value, Tensor)
    }
    lasting = {str(node.target) for node, readers in found.items() if readers and is_tensor(node)}
    made: dict[str, Tensor] = {}
    for node, readers in found.items():
        if is_tensor(node) or not readers:
            continue
        name = _name(node, readers, values[node], lasting, made)
        if name not in made:
            made[name] = values[node]
            set_tensor(graph_module, name, values[node])
        with graph.inserting_before(node):
            constant = graph.get_attr(name)
        constant.meta["val"] = node.meta.get("val")
        for reader in readers:
            reader.replace_input_with(node, constant)
    graph.eliminate_dead_code()
    graph_module.recompile()


@torch.no_grad()
def _values(graph_module: fx.GraphModule) -> dict[fx.Node, Any]:
    """The value of each node that depends on no input and on no layer's weight."""
    weights = {name for node in varying(graph_module.graph) for name in weights_of(node)}
    values: dict[fx.Node, Any] = {}
    for node in graph_module.graph.nodes:
        if is_tensor(node) and str(node.target) not in weights:
            values[node] = tensor_at(graph_module, str(node.target))
        elif is_call(node) and all(a in values for a in node.all_input_nodes) and _sure(node):
            args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*args, **kwargs)
    return values


def _sure(node: fx.Node) -> bool:
    """Whether the operation gives the same every time."""
    tags = node.target.tags if isinstance(node.target, torch._ops.OpOverload) else ()
    return torch.Tag.nondeterministic_seeded not in tags


def _name(
    node: fx.Node,
    readers: list[fx.Node],
    value: Tensor,
    lasting: set[str],
    made: dict[str, Tensor],
) -> str:
    """The dotted name of a constant: that of a layer's weight or bias where it is one.

    lasting: names of tensors that the graph goes on reading; made: constants so far.
    """
    for reader in readers:
        role = next((r for k, r in _ROLES.items() if node in reader.args[k : k + 1]), None)
        if reader.target not in LAYER_OPERATIONS or role is None:
            continue
        own = ".".join(filter(None, [module_path(reader), role]))
        if own in made and torch.equal(made[own], value):
            return own  # another call of the same layer
        return own if own not in lasting and own not in made else f"{own}_{node.name}"
    return f"constants.{node.name}"


def module_path(node: fx.Node) -> str:
    """Dotted name of the module whose `forward` made a node; empty for the network itself."""
    stack = [
        entry[0]
        for entry in (node.meta.get("nn_module_stack") or {}).values()
        if isinstance(entry, tuple)
    ]
    return str(stack[-1]).partition("@")[0] if stack else ""
