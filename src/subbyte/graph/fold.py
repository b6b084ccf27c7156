"""Batch-norm folding: a layer followed by a batch-norm is a layer.

    y = gamma (W x + b - mean) / sqrt(var + eps) + beta  =  (a W) x + a (b - mean) + beta,   a =
                                                            gamma / sqrt(var + eps)

A batch-norm stays where it is when no layer stands before it, when something else reads the layer's
output, or when the layer's weight serves several calls. Cost: one product a weight.
"""

import operator

import torch
from torch import Tensor, fx

from subbyte.graph.layers import Layer, Skipped, find_layers
from subbyte.graph.tensors import set_tensor, tensor_at

_BATCH_NORMS = {
    torch.ops.aten._native_batch_norm_legit_no_training.default,
    torch.ops.aten.batch_norm.default,
}


def fold_batch_norms(graph_module: fx.GraphModule) -> tuple[list[str], list[Skipped]]:
    """Fold every batch-norm that can be, in place. The graph's layers have biases (`give_biases`).

    Returns the names of the layers that took one up, and the batch-norms left alone with the
    reason.
    """
    layers, _ = find_layers(graph_module)
    by_node = {layer.node: layer for layer in layers}
    calls: dict[str, int] = {}
    for node in graph_module.graph.find_nodes(op="get_attr"):
        calls[str(node.target)] = calls.get(str(node.target), 0) + len(node.users)
    folded, left = [], []
    for node in list(graph_module.graph.nodes):
        if node.target not in _BATCH_NORMS:
            continue
        source = by_node.get(node.args[0])
        reason = _obstacle(source, node, calls)
        if source is None or reason:
            tensors = [a for a in node.args[1:5] if isinstance(a, fx.Node)]
            name = str(tensors[0].target).rpartition(".")[0] if tensors else node.name
            left.append(Skipped(name, f"batch-norm: {reason}; it stays float"))
            continue
        _fold(graph_module, source, node)
        folded.append(source.name)
    graph_module.graph.eliminate_dead_code()
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    return folded, left


def _obstacle(layer: Layer | None, norm: fx.Node, calls: dict[str, int]) -> str:
    if layer is None:
        return "no layer stands directly before it"
    if len(layer.node.users) > 1:
        return f"the output of {layer.name} is also read elsewhere"
    if max(calls[layer.weight], calls[layer.bias]) > 1:
        return f"the weight or bias of {layer.name} serves more than one call"
    if layer.geometry.channel_axis(layer.node.meta["val"].ndim) != 1:
        return f"it normalizes another axis than the outputs of {layer.name}"
    return "" if norm.args[3] is not None else "it has no running statistics"


def _fold(graph_module: fx.GraphModule, layer: Layer, norm: fx.Node) -> None:
    def value(index: int, default: float, like: Tensor) -> Tensor:
        node = norm.args[index]
        found = (
            tensor_at(graph_module, str(node.target))
            if isinstance(node, fx.Node)
            else torch.full_like(like, default)
        )
        return found.detach().to(torch.float64)

    mean = tensor_at(graph_module, str(norm.args[3].target)).detach()  # type: ignore[union-attr]
    variance = value(4, 1.0, mean)
    eps = norm.args[-1] if norm.target is not torch.ops.aten.batch_norm.default else norm.args[7]
    factor = value(1, 1.0, mean) / torch.sqrt(variance + float(eps))  # type: ignore[arg-type]
    weight, bias = tensor_at(graph_module, layer.weight), tensor_at(graph_module, layer.bias)
    matrix = layer.geometry.to_matrix(weight.detach().to(torch.float64)) * factor[:, None]
    shift = factor * (bias.detach().to(torch.float64) - mean.to(torch.float64)) + value(
        2, 0.0, mean
    )
    set_tensor(graph_module, layer.weight, layer.geometry.to_weight(matrix).to(weight.dtype))
    set_tensor(graph_module, layer.bias, shift.to(weight.dtype))
    for user in (
        list(norm.users) if norm.target is not torch.ops.aten.batch_norm.default else [norm]
    ):
        if user.target is operator.getitem or user is norm:
            user.replace_all_uses_with(layer.node)
            graph_module.graph.erase_node(user)
