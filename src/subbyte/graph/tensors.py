"""Parameters and buffers of a captured graph, by their dotted names."""

from operator import attrgetter

import torch
from torch import Tensor, fx, nn


def tensors_read(graph_module: fx.GraphModule) -> set[str]:
    """Dotted names of the parameters and buffers that the graph reads."""
    return {str(node.target) for node in graph_module.graph.find_nodes(op="get_attr")}


def tensor_at(graph_module: fx.GraphModule, name: str) -> Tensor:
    """The parameter or buffer of this dotted name."""
    value = attrgetter(name)(graph_module)
    assert isinstance(value, Tensor)
    return value


def set_tensor(graph_module: fx.GraphModule, name: str, value: Tensor) -> None:
    """Put a tensor in place of the parameter or buffer of this dotted name, as a buffer; modules on
    the way to it are made where there are none.
    """
    owner, leaf = parent_of(graph_module, name)
    if leaf in owner._parameters or leaf in owner._buffers or leaf in vars(owner):
        delattr(owner, leaf)
    owner.register_buffer(leaf, value.detach().clone(memory_format=torch.contiguous_format))


def parent_of(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds the tensor of a dotted name, made where there is none, and the name's
    last part.
    """
    *parents, leaf = name.split(".")
    for part in parents:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    return module, leaf


def own_tensors(graph_module: fx.GraphModule) -> None:
    """Give the graph copies of its tensors, so that whoever else has them may change them; tensors
    that were shared stay shared.
    """
    made: dict[int, Tensor] = {}
    for name in sorted(tensors_read(graph_module)):
        found = tensor_at(graph_module, name)
        if id(found) not in made:
            copy = found.detach().clone(memory_format=torch.contiguous_format)
            learned = isinstance(found, nn.Parameter)
            made[id(found)] = nn.Parameter(copy, found.requires_grad) if learned else copy
        owner, leaf = parent_of(graph_module, name)
        delattr(owner, leaf)
        kept = made[id(found)]
        if isinstance(kept, nn.Parameter):
            owner.register_parameter(leaf, kept)
        else:
            owner.register_buffer(leaf, kept)
